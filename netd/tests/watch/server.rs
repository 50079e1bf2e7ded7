//! An API server whose lists hold only what an attach asks for and whose watches say what the test tells them to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kube::Client;
use netd::versions::Kind;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

type Lines = mpsc::Sender<Bytes>;

#[derive(Clone)]
pub(crate) struct ApiServer(Arc<Inner>);

struct Inner {
    revision: Mutex<u64>,
    /// the resource version at which each new watch begins, and where its lines go
    begun: BTreeMap<Kind, mpsc::Sender<(String, Lines)>>,
    watches: BTreeMap<Kind, tokio::sync::Mutex<Watches>>,
}

struct Watches {
    begun: mpsc::Receiver<(String, Lines)>,
    current: Option<Lines>,
}

impl ApiServer {
    pub(crate) fn at(revision: u64) -> Self {
        let (mut begun, mut watches) = (BTreeMap::new(), BTreeMap::new());
        for kind in Kind::ALL {
            let (sender, receiver) = mpsc::channel(8);
            begun.insert(kind, sender);
            watches.insert(kind, tokio::sync::Mutex::new(Watches { begun: receiver, current: None }));
        }
        Self(Arc::new(Inner { revision: Mutex::new(revision), begun, watches }))
    }

    pub(crate) fn client(&self) -> Client {
        let router = Router::new()
            .route("/api/v1/namespaces/{namespace}", axum::routing::get(namespace))
            .route("/api/v1/namespaces/{namespace}/pods/{pod}", axum::routing::get(pod))
            .route("/{*path}", axum::routing::get(list_or_watch));
        Client::new(router.with_state(self.clone()), "default")
    }

    /// Lists are as of this revision from now on.
    pub(crate) fn is_at(&self, revision: u64) {
        *self.0.revision.lock().expect("no panic") = revision;
    }

    fn revision(&self) -> String {
        self.0.revision.lock().expect("no panic").to_string()
    }

    pub(crate) async fn bookmark(&self, kind: Kind, revision: u64) {
        let version = revision.to_string();
        self.event(
            kind,
            "BOOKMARK",
            json!({"kind": "x", "apiVersion": "v1", "metadata": {"resourceVersion": version}}),
        )
        .await;
    }

    /// Says it on the kind's newest watch.
    pub(crate) async fn event(&self, kind: Kind, event: &str, object: Value) {
        let line = format!("{}\n", json!({"type": event, "object": object}));
        let mut watches = self.0.watches[&kind].lock().await;
        if watches.current.is_none() {
            watches.current = watches.begun.recv().await.map(|(_, lines)| lines);
        }
        let lines = watches.current.as_ref().expect("a watch");
        lines.send(line.into()).await.expect("somebody watches");
    }

    /// Ends the kind's newest watch.
    pub(crate) async fn close(&self, kind: Kind) {
        self.0.watches[&kind].lock().await.current = None;
    }

    /// The resource version with which the kind's next watch begins.
    pub(crate) async fn next_watch(&self, kind: Kind) -> String {
        let mut watches = self.0.watches[&kind].lock().await;
        let (version, lines) = watches.begun.recv().await.expect("a watch");
        watches.current = Some(lines);
        version
    }
}

pub(crate) fn policy(namespace: &str, name: &str, revision: u64) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "resourceVersion": revision.to_string()}, "spec": {"podSelector": {}}})
}

async fn namespace(Path(name): Path<String>, State(api): State<ApiServer>) -> Response {
    axum::Json(json!({"metadata": {"name": name, "resourceVersion": api.revision()}})).into_response()
}

async fn pod(Path((namespace, name)): Path<(String, String)>, State(api): State<ApiServer>) -> Response {
    let metadata = json!({"namespace": namespace, "name": name, "uid": "u", "resourceVersion": api.revision()});
    axum::Json(json!({"metadata": metadata, "spec": {"containers": []}})).into_response()
}

async fn list_or_watch(
    Path(path): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    State(api): State<ApiServer>,
) -> Response {
    let kind = match path.rsplit('/').next() {
        Some("pods") => Kind::Pod,
        Some("namespaces") => Kind::Namespace,
        Some("networkpolicies") => Kind::NetworkPolicy,
        Some("services") => Kind::Service,
        Some("endpointslices") => Kind::EndpointSlice,
        Some("nodes") => Kind::Node,
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    if !query.contains_key("watch") {
        let items = items(kind, &path, &query, &api.revision());
        return axum::Json(json!({"metadata": {"resourceVersion": api.revision()}, "items": items})).into_response();
    }
    let (lines, said) = mpsc::channel(8);
    let version = query.get("resourceVersion").cloned().unwrap_or_default();
    api.0.begun[&kind].send((version, lines)).await.expect("the test goes on");
    Body::from_stream(ReceiverStream::new(said).map(Ok::<_, std::convert::Infallible>)).into_response()
}

/// The one namespace that is asked for by name, and a policy in each namespace.
fn items(kind: Kind, path: &str, query: &BTreeMap<String, String>, revision: &str) -> Vec<Value> {
    let named = query.get("fieldSelector").and_then(|fields| fields.strip_prefix("metadata.name="));
    let of_namespace = path.split('/').skip_while(|part| *part != "namespaces").nth(1);
    match (kind, named, of_namespace) {
        (Kind::Namespace, Some(name), _) => vec![json!({"metadata": {"name": name, "resourceVersion": revision}})],
        (Kind::NetworkPolicy, _, Some(namespace)) => vec![policy(namespace, "there", 1)],
        _ => Vec::new(),
    }
}
