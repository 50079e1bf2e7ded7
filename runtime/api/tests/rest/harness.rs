//! A server on a store of its own, and requests to it.

use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use minipod_api::{Config, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

pub(crate) const MERGE: &str = "application/merge-patch+json";

pub(crate) struct Api {
    pub(crate) server: Server,
    pub(crate) directory: TempDir,
}

/// Code and body of an answer.
pub(crate) type Answer = (u16, Value);

impl Api {
    pub(crate) async fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let server = open(&directory).await;
        Self { server, directory }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(body.into()).expect("a request");
        let response = self.server.router().oneshot(request).await.expect("infallible");
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (code, value)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "", Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, "application/json", body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, "application/json", body.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, MERGE, body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, "application/json", Body::empty()).await
    }

    /// Creates what must be possible to create.
    #[track_caller]
    pub(crate) fn must_create<'a>(&'a self, path: &'a str, body: &'a Value) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let (code, object) = self.post(path, body).await;
            assert_eq!(code, 201, "{caller}: {object:#}");
            object
        }
    }
}

pub(crate) async fn open(directory: &TempDir) -> Server {
    let service_cidrs = vec!["10.96.0.0/24".parse().expect("a range"), "fd00:10:96::/112".parse().expect("a range")];
    Server::open(Config { store: directory.path().join("store.redb"), service_cidrs }).await.expect("a server")
}

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(crate) const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";

pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "hello"}]},
    })
}

/// What an answer complains about: code and message.
pub(crate) fn complaint((code, body): &Answer) -> (u16, String) {
    (*code, body["message"].as_str().unwrap_or_default().to_owned())
}

/// The fields that a refusal names.
pub(crate) fn fields((_, body): &Answer) -> Vec<String> {
    let causes = body["details"]["causes"].as_array();
    causes.into_iter().flatten().filter_map(|cause| cause["field"].as_str().map(str::to_owned)).collect()
}
