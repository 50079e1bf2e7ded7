//! Optimistic concurrency and what an update may change.

use http::Method;
use serde_json::json;

use crate::harness::{Api, MERGE, PODS, POLICIES, SERVICES, complaint, fields, pod};

#[tokio::test]
async fn an_update_on_top_of_an_outdated_object_is_a_conflict() {
    let api = Api::new().await;
    let first = api.must_create(PODS, &pod("a")).await;
    let path = format!("{PODS}/a");
    let mut changed = first.clone();
    changed["metadata"]["labels"]["x"] = "1".into();
    let (code, second) = api.put(&path, &changed).await;
    assert_eq!(code, 200);
    assert_ne!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let refused = api.put(&path, &changed).await;
    assert_eq!(
        complaint(&refused),
        (409, "Operation cannot be fulfilled on pods \"a\": the object has been modified; please apply your changes to the latest version and try again".to_owned())
    );
    assert_eq!(refused.1["reason"], "Conflict");
    let outdated = json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"], "labels": {"x": "2"}}});
    assert_eq!(api.patch(&path, &outdated).await.0, 409);
    changed["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    assert_eq!(api.put(&path, &changed).await.0, 200);
}

#[tokio::test]
async fn an_update_that_changes_nothing_has_no_new_version() {
    let api = Api::new().await;
    let created = api.must_create(PODS, &pod("a")).await;
    let path = format!("{PODS}/a");
    assert_eq!(api.put(&path, &created).await, (200, created.clone()));
    assert_eq!(api.patch(&path, &json!({"metadata": {"labels": {"app": "a"}}})).await, (200, created));
}

#[tokio::test]
async fn the_generation_counts_changes_of_the_spec() {
    let api = Api::new().await;
    api.must_create(POLICIES, &json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}}})).await;
    let path = format!("{POLICIES}/p");
    let (_, labelled) = api.patch(&path, &json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(labelled["metadata"]["generation"], 1);
    let (_, changed) = api.patch(&path, &json!({"spec": {"ingress": [{}]}})).await;
    assert_eq!(changed["metadata"]["generation"], 2);
}

#[tokio::test]
async fn what_the_server_set_stays() {
    let api = Api::new().await;
    let created = api.must_create(PODS, &pod("a")).await;
    let patch = json!({"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9, "managedFields": [{"manager": "x"}], "labels": {"y": "z"}}});
    let (code, changed) = api.patch(&format!("{PODS}/a"), &patch).await;
    assert_eq!(code, 200, "{changed:#}");
    assert_eq!(changed["metadata"]["creationTimestamp"], created["metadata"]["creationTimestamp"]);
    assert_eq!(changed["metadata"]["generation"], 1);
    assert!(changed["metadata"]["managedFields"].is_null());
    assert_eq!(api.patch(&format!("{PODS}/a"), &json!({"metadata": {"uid": "other"}})).await.0, 409);
    assert_eq!(api.patch(&format!("{PODS}/a"), &json!({"metadata": {"name": "b"}})).await.0, 400);
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let api = Api::new().await;
    api.must_create(PODS, &pod("a")).await;
    let (_, main) = api.patch(&format!("{PODS}/a"), &json!({"status": {"phase": "Running"}})).await;
    assert_eq!(main["status"]["phase"], "Pending");
    let patch = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"hostname": "x"}, "status": {"phase": "Running", "podIP": "10.0.0.1"}});
    let (code, status) = api.patch(&format!("{PODS}/a/status"), &patch).await;
    assert_eq!(code, 200, "{status:#}");
    assert_eq!(status["status"]["phase"], "Running");
    assert_eq!(status["metadata"]["labels"]["app"], "a");
    assert!(status["spec"]["hostname"].is_null());
    let refused = api.patch(&format!("{PODS}/a/status"), &json!({"status": {"podIPs": [{"ip": "x"}]}})).await;
    assert_eq!(fields(&refused), ["status.podIPs[0]"]);
}

#[tokio::test]
async fn strategic_patches_merge_lists_by_key() {
    let api = Api::new().await;
    let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
    api.must_create(SERVICES, &json!({"metadata": {"name": "s"}, "spec": {"ports": ports}})).await;
    let path = format!("{SERVICES}/s");
    let merge = json!({"spec": {"ports": [{"port": 81, "targetPort": 8081}]}});
    let (code, merged) =
        api.send(Method::PATCH, &path, "application/strategic-merge-patch+json", merge.to_string()).await;
    assert_eq!(code, 200, "{merged:#}");
    let ports: Vec<_> =
        merged["spec"]["ports"].as_array().into_iter().flatten().map(|p| p["targetPort"].clone()).collect();
    assert_eq!(ports, [80, 8081]);
    let directive = json!({"spec": {"$retainKeys": ["ports"]}});
    let refused = api.send(Method::PATCH, &path, "application/strategic-merge-patch+json", directive.to_string()).await;
    assert_eq!(refused.0, 415);
    assert_eq!(api.send(Method::PATCH, &path, MERGE, "[]").await.0, 400);
}

#[tokio::test]
async fn writers_that_race_lose_nothing() {
    let api = std::sync::Arc::new(Api::new().await);
    api.must_create(PODS, &pod("a")).await;
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let api = std::sync::Arc::clone(&api);
            tokio::spawn(async move {
                let patch = json!({"metadata": {"labels": {format!("l{number}"): "x"}}});
                api.patch(&format!("{PODS}/a"), &patch).await.0
            })
        })
        .collect();
    for writer in writers {
        assert_eq!(writer.await.expect("a writer"), 200);
    }
    let (_, object) = api.get(&format!("{PODS}/a")).await;
    assert_eq!(object["metadata"]["labels"].as_object().map(serde_json::Map::len), Some(9));
}

#[tokio::test]
async fn preconditions_of_a_deletion_hold() {
    let api = Api::new().await;
    let created = api.must_create(PODS, &pod("a")).await;
    let options = |uid: &str| json!({"preconditions": {"uid": uid}}).to_string();
    let path = format!("{PODS}/a");
    let (code, message) = complaint(&api.send(Method::DELETE, &path, "application/json", options("other")).await);
    assert_eq!(code, 409);
    assert!(message.contains("Precondition failed: UID in precondition: other"), "{message}");
    let uid = created["metadata"]["uid"].as_str().expect("a uid");
    assert_eq!(api.send(Method::DELETE, &path, "application/json", options(uid)).await.0, 200);
    assert_eq!(api.get(&path).await.0, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_they_are_gone() {
    let api = Api::new().await;
    let mut object = pod("a");
    object["metadata"]["finalizers"] = json!(["example.com/x"]);
    api.must_create(PODS, &object).await;
    let path = format!("{PODS}/a");
    let (code, deleting) = api.delete(&path).await;
    assert_eq!(code, 200);
    assert!(deleting["metadata"]["deletionTimestamp"].is_string());
    let refused = api.patch(&path, &json!({"metadata": {"finalizers": ["example.com/x", "example.com/y"]}})).await;
    assert_eq!(fields(&refused), ["metadata.finalizers"]);
    assert_eq!(api.patch(&path, &json!({"metadata": {"finalizers": null}})).await.0, 200);
    assert_eq!(api.get(&path).await.0, 404);
}
