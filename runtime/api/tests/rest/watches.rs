//! Watches, by hand and through `kube`.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api as KubeApi, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::harness::{Api, PODS, open, pod};

const DEADLINE: Duration = Duration::from_secs(20);

struct Lines {
    body: BodyDataStream,
    buffer: Vec<u8>,
}

impl Lines {
    async fn open(api: &Api, path: &str) -> Self {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = api.server.router().oneshot(request).await.expect("infallible");
        assert_eq!(response.status(), 200);
        Self { body: response.into_body().into_data_stream(), buffer: Vec::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<_> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("JSON"));
            }
            let data = tokio::time::timeout(DEADLINE, self.body.next()).await.expect("an event before the deadline")?;
            self.buffer.extend_from_slice(&data.expect("data"));
        }
    }

    async fn summary(&mut self) -> String {
        let event = self.next().await.expect("an event");
        format!(
            "{} {}",
            event["type"].as_str().unwrap_or_default(),
            event["object"]["metadata"]["name"].as_str().unwrap_or_default()
        )
    }

    /// The resource version of a bookmark, which has to be next.
    async fn bookmark(&mut self) -> Value {
        let event = self.next().await.expect("a bookmark");
        assert_eq!(event["type"], "BOOKMARK", "{event}");
        event["object"]["metadata"]["resourceVersion"].clone()
    }
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_then_every_change() {
    let api = Api::new().await;
    api.must_create(PODS, &pod("a")).await;
    let mut lines = Lines::open(&api, &format!("{PODS}?watch=true")).await;
    assert_eq!(lines.summary().await, "ADDED a");
    api.must_create(PODS, &pod("b")).await;
    api.patch(&format!("{PODS}/a"), &json!({"metadata": {"labels": {"x": "y"}}})).await;
    let (_, deleted) = api.delete(&format!("{PODS}/a")).await;
    assert_eq!(lines.summary().await, "ADDED b");
    assert_eq!(lines.summary().await, "MODIFIED a");
    let event = lines.next().await.expect("an event");
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["resourceVersion"], deleted["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_watch_resumes_after_a_resource_version() {
    let api = Api::new().await;
    let first = api.must_create(PODS, &pod("a")).await;
    api.must_create(PODS, &pod("b")).await;
    let version = first["metadata"]["resourceVersion"].as_str().expect("a version");
    let mut lines = Lines::open(&api, &format!("{PODS}?watch=1&resourceVersion={version}")).await;
    assert_eq!(lines.summary().await, "ADDED b");
}

#[tokio::test]
async fn objects_come_and_go_as_they_match_the_selector() {
    let api = Api::new().await;
    api.must_create(PODS, &pod("a")).await;
    let mut lines = Lines::open(&api, &format!("{PODS}?watch=1&labelSelector=x")).await;
    api.must_create(PODS, &pod("b")).await;
    let label = |value: Value| json!({"metadata": {"labels": {"x": value}}});
    api.patch(&format!("{PODS}/a"), &label("1".into())).await;
    api.patch(&format!("{PODS}/a"), &label("2".into())).await;
    api.patch(&format!("{PODS}/a"), &label(Value::Null)).await;
    assert_eq!(lines.summary().await, "ADDED a");
    assert_eq!(lines.summary().await, "MODIFIED a");
    assert_eq!(lines.summary().await, "DELETED a");
}

#[tokio::test]
async fn a_watch_ends_at_its_timeout_with_a_bookmark() {
    let api = Api::new().await;
    let created = api.must_create("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await;
    let mut lines = Lines::open(&api, &format!("{PODS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true")).await;
    assert_eq!(lines.bookmark().await, created["metadata"]["resourceVersion"]);
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn a_bookmark_tells_at_once_of_writes_that_a_watch_leaves_out() {
    let api = Api::new().await;
    let query = "watch=1&labelSelector=x&allowWatchBookmarks=true";
    let mut lines = Lines::open(&api, &format!("{PODS}?{query}")).await;
    let of_another_kind = api.must_create("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await;
    assert_eq!(lines.bookmark().await, of_another_kind["metadata"]["resourceVersion"]);
    let not_selected = api.must_create(PODS, &pod("a")).await;
    assert_eq!(lines.bookmark().await, not_selected["metadata"]["resourceVersion"]);
    api.patch(&format!("{PODS}/a"), &json!({"metadata": {"labels": {"x": "1"}}})).await;
    assert_eq!(lines.summary().await, "ADDED a", "an event says it by itself");
    let after = api.must_create(PODS, &pod("b")).await;
    assert_eq!(lines.bookmark().await, after["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_client_that_wants_no_bookmarks_gets_none() {
    let api = Api::new().await;
    let mut lines = Lines::open(&api, &format!("{PODS}?watch=1")).await;
    api.must_create("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await;
    api.must_create(PODS, &pod("a")).await;
    assert_eq!(lines.summary().await, "ADDED a");
}

#[tokio::test]
async fn a_streaming_list_ends_with_an_annotated_bookmark() {
    let api = Api::new().await;
    api.must_create(PODS, &pod("a")).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&api, &format!("{PODS}?{query}")).await;
    assert_eq!(lines.summary().await, "ADDED a");
    let bookmark = lines.next().await.expect("a bookmark");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_compacted_or_unknown_version_is_gone() {
    let api = Api::new().await;
    api.must_create(PODS, &pod("a")).await;
    let Api { server, directory } = api;
    drop(server);
    // A server keeps no changes from before its start.
    let api = Api { server: open(&directory).await, directory };
    for version in ["1", "999999"] {
        let mut lines = Lines::open(&api, &format!("{PODS}?watch=1&resourceVersion={version}")).await;
        let event = lines.next().await.expect("an error");
        assert_eq!(
            (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
            (&json!("ERROR"), &json!(410), &json!("Expired"))
        );
        assert_eq!(lines.next().await, None);
    }
    assert_eq!(api.get(&format!("{PODS}?resourceVersion=1&resourceVersionMatch=Exact")).await.0, 410);
    assert_eq!(api.get(&format!("{PODS}?resourceVersion=999999")).await.0, 504);
}

#[tokio::test]
async fn watches_end_when_the_server_stops() {
    let api = Api::new().await;
    let mut lines = Lines::open(&api, &format!("{PODS}?watch=1")).await;
    api.server.stop();
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn kube_lists_watches_and_patches_in_the_process() {
    let api = Api::new().await;
    let client = kube::Client::new(api.server.router(), "default");
    let pods: KubeApi<Pod> = KubeApi::default_namespaced(client);
    let object: Pod = serde_json::from_value(pod("a")).expect("a pod");
    pods.create(&PostParams::default(), &object).await.expect("created");

    let stream = watcher(pods.clone(), watcher::Config::default()).applied_objects();
    let mut stream = std::pin::pin!(stream);
    let first = tokio::time::timeout(DEADLINE, stream.try_next()).await.expect("in time").expect("an event");
    assert_eq!(first.and_then(|p| p.metadata.name).as_deref(), Some("a"));

    let patch = json!({"metadata": {"annotations": {"x": "y"}}});
    pods.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    let second = tokio::time::timeout(DEADLINE, stream.try_next()).await.expect("in time").expect("an event");
    assert_eq!(second.and_then(|p| p.metadata.annotations).map(|a| a.len()), Some(1));

    let list = pods.list(&ListParams::default().labels("app=a")).await.expect("a list");
    assert_eq!(list.items.len(), 1);
    pods.delete("a", &DeleteParams::default()).await.expect("deleted");
    assert!(pods.get_opt("a").await.expect("an answer").is_none());
}
