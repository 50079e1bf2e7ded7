//! What holds for all kinds: discovery, metadata, strictness, namespaces.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Api, PODS, POLICIES, SERVICES, complaint, fields, open, pod};

#[tokio::test]
async fn every_cluster_begins_with_its_namespaces_and_the_dns_service() {
    let api = Api::new().await;
    let (_, list) = api.get("/api/v1/namespaces").await;
    let names: Vec<_> =
        list["items"].as_array().expect("items").iter().map(|n| n["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["default", "kube-public", "kube-system"]);
    assert_eq!(list["items"][0]["metadata"]["labels"]["kubernetes.io/metadata.name"], "default");
    assert_eq!(list["items"][0]["status"]["phase"], "Active");
    let (_, dns) = api.get("/api/v1/namespaces/kube-system/services/kube-dns").await;
    assert_eq!(dns["spec"]["clusterIPs"], json!(["10.96.0.10", "fd00:10:96::a"]));
}

#[tokio::test]
async fn an_object_is_completed_by_the_server() {
    let api = Api::new().await;
    let created = api.must_create(PODS, &pod("a")).await;
    let metadata = &created["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["generation"], 1);
    assert!(metadata["uid"].as_str().is_some_and(|uid| uid.len() == 36));
    assert!(metadata["creationTimestamp"].as_str().is_some_and(|at| at.ends_with('Z') && at.len() == 20));
    assert_eq!(created["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(api.get(&format!("{PODS}/a")).await, (200, created));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let api = Api::new().await;
    let not_found = complaint(&api.get(&format!("{PODS}/a")).await);
    assert_eq!(not_found, (404, "pods \"a\" not found".to_owned()));
    let not_found = complaint(&api.get(&format!("{POLICIES}/a")).await);
    assert_eq!(not_found, (404, "networkpolicies.networking.k8s.io \"a\" not found".to_owned()));
    let not_found = complaint(&api.post("/api/v1/namespaces/nowhere/pods", &pod("a")).await);
    assert_eq!(not_found, (404, "namespaces \"nowhere\" not found".to_owned()));
    assert_eq!(api.get("/apis/apps/v1/deployments").await.0, 404);
    assert_eq!(api.put(&format!("{PODS}/a"), &pod("a")).await.0, 404);
    assert_eq!(api.delete(&format!("{PODS}/a")).await.0, 404);
}

#[tokio::test]
async fn a_name_is_given_once() {
    let api = Api::new().await;
    api.must_create(PODS, &pod("a")).await;
    let refused = api.post(PODS, &pod("a")).await;
    assert_eq!(complaint(&refused), (409, "pods \"a\" already exists".to_owned()));
    assert_eq!(refused.1["reason"], "AlreadyExists");
    assert_eq!(refused.1["details"], json!({"name": "a", "kind": "pods"}));
}

#[tokio::test]
async fn names_are_generated_below_a_prefix() {
    let api = Api::new().await;
    let mut object = pod("");
    object["metadata"] = json!({"generateName": "web-"});
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let first = api.must_create(PODS, &object).await;
    let second = api.must_create(PODS, &object).await;
    assert!(name(&first).starts_with("web-") && name(&first).len() == 9, "{}", name(&first));
    assert_ne!(name(&first), name(&second));
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_refused_with_their_path() {
    let api = Api::new().await;
    let mut object = pod("a");
    object["spec"]["containers"][0]["imagee"] = "x".into();
    object["metadata"]["lables"] = json!({});
    let refused = complaint(&api.post(PODS, &object).await);
    let expected = "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.containers[0].imagee\", unknown field \"metadata.lables\"";
    assert_eq!(refused.0, 400);
    let sorted = |text: &str| {
        let mut parts: Vec<_> = text.rsplit(": ").next().unwrap_or_default().split(", ").map(str::to_owned).collect();
        parts.sort();
        parts
    };
    assert_eq!(sorted(&refused.1), sorted(expected), "{}", refused.1);

    let twice = r#"{"metadata": {"name": "a"}, "spec": {"restartPolicy": "Never", "restartPolicy": "Always", "containers": [{"name": "c", "image": "x"}]}}"#;
    let refused = complaint(&api.send(Method::POST, PODS, "application/json", twice).await);
    assert_eq!(
        refused,
        (400, "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: duplicate field \"spec.restartPolicy\"".to_owned())
    );

    let ignored = api.post(&format!("{PODS}?fieldValidation=Ignore"), &object).await;
    assert_eq!(ignored.0, 201, "{:#}", ignored.1);
    assert!(ignored.1["metadata"]["lables"].is_null());
    let refused = complaint(&api.patch(&format!("{PODS}/a"), &json!({"metadata": {"lables": {}}})).await);
    assert!(refused.1.ends_with("unknown field \"metadata.lables\""), "{refused:?}");
}

#[tokio::test]
async fn a_wrong_type_is_refused_with_its_path() {
    let api = Api::new().await;
    let mut object = pod("a");
    object["spec"]["containers"][0]["ports"] = json!([{"containerPort": "http"}]);
    let (code, message) = complaint(&api.post(PODS, &object).await);
    assert_eq!(code, 400);
    assert!(message.contains("spec.containers[0].ports[0].containerPort: invalid type: string \"http\""), "{message}");
    let other = complaint(&api.post(PODS, &json!({"kind": "Service", "metadata": {"name": "a"}})).await);
    assert_eq!(other, (400, "the kind in the data (Service) does not match the expected kind (Pod)".to_owned()));
}

#[tokio::test]
async fn yaml_is_taken_and_other_formats_are_refused_by_name() {
    let api = Api::new().await;
    let yaml = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    image: hello\n    resources:\n      limits:\n        cpu: 1\n";
    let (code, object) = api.send(Method::POST, PODS, "application/yaml", yaml).await;
    assert_eq!(code, 201, "{object:#}");
    assert_eq!(object["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1");
    for (method, path, content_type, name) in [
        (Method::POST, PODS.to_owned(), "application/vnd.kubernetes.protobuf", "protobuf"),
        (Method::PATCH, format!("{PODS}/web"), "application/json-patch+json", "JSON patch"),
        (Method::PATCH, format!("{PODS}/web"), "application/apply-patch+yaml", "server-side apply"),
    ] {
        let (code, message) = complaint(&api.send(method, &path, content_type, "{}").await);
        assert_eq!(code, 415, "{message}");
        assert!(message.contains(name), "{message}");
    }
}

#[tokio::test]
async fn labels_and_fields_select() {
    let api = Api::new().await;
    api.must_create("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await;
    for name in ["a", "b", "c"] {
        api.must_create(PODS, &pod(name)).await;
    }
    api.must_create("/api/v1/namespaces/other/pods", &pod("d")).await;
    for (path, expected) in [
        (PODS.to_owned(), "a b c"),
        ("/api/v1/pods".to_owned(), "a b c d"),
        (format!("{PODS}?labelSelector=app%20in%20(a,b)"), "a b"),
        (format!("{PODS}?labelSelector=app!%3Da"), "b c"),
        (format!("{PODS}?fieldSelector=metadata.name%3Db"), "b"),
        ("/api/v1/pods?fieldSelector=metadata.namespace%3Dother".to_owned(), "d"),
        ("/api/v1/pods?fieldSelector=status.phase%3DRunning".to_owned(), ""),
    ] {
        let (code, list) = api.get(&path).await;
        let names: Vec<_> =
            list["items"].as_array().into_iter().flatten().filter_map(|o| o["metadata"]["name"].as_str()).collect();
        assert_eq!((code, names.join(" ").as_str()), (200, expected), "{path}");
    }
    assert_eq!(api.get(&format!("{PODS}?labelSelector=a%20b")).await.0, 400);
    let refused = complaint(&api.get(&format!("{PODS}?fieldSelector=spec.foo%3Dx")).await);
    assert_eq!(refused, (400, "field label not supported: spec.foo".to_owned()));
}

#[tokio::test]
async fn a_list_can_be_read_in_pages_of_one_revision() {
    let api = Api::new().await;
    for name in ["a", "b", "c"] {
        api.must_create(PODS, &pod(name)).await;
    }
    let (_, first) = api.get(&format!("{PODS}?limit=2")).await;
    let token = first["metadata"]["continue"].as_str().expect("a token").to_owned();
    api.must_create(PODS, &pod("d")).await;
    let (_, second) = api.get(&format!("{PODS}?limit=2&continue={token}")).await;
    let names = |list: &Value| {
        list["items"].as_array().map(|i| i.iter().map(|o| o["metadata"]["name"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(names(&first), Some(vec!["a".into(), "b".into()]));
    assert_eq!(names(&second), Some(vec!["c".into()]));
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert!(second["metadata"]["continue"].is_null());
}

#[tokio::test]
async fn invalid_metadata_is_refused() {
    let api = Api::new().await;
    for (metadata, field) in [
        (json!({"name": "A"}), "metadata.name"),
        (json!({}), "metadata.name"),
        (json!({"name": "a", "labels": {"-x": "y"}}), "metadata.labels"),
        (json!({"name": "a", "labels": {"x": "y z"}}), "metadata.labels"),
        (json!({"name": "a", "annotations": {"a/b/c": ""}}), "metadata.annotations"),
        (json!({"name": "a", "finalizers": ["a b"]}), "metadata.finalizers[0]"),
    ] {
        let mut object = pod("a");
        object["metadata"] = metadata.clone();
        let refused = api.post(PODS, &object).await;
        assert_eq!((refused.0, fields(&refused)), (422, vec![field.to_owned()]), "{metadata}");
    }
    let mut object = pod("a");
    object["metadata"]["namespace"] = "other".into();
    assert_eq!(api.post(PODS, &object).await.0, 400);
}

#[tokio::test]
async fn a_namespace_takes_nothing_new_while_it_goes() {
    let api = Api::new().await;
    api.must_create("/api/v1/namespaces", &json!({"metadata": {"name": "gone"}})).await;
    let (code, namespace) = api.delete("/api/v1/namespaces/gone").await;
    assert_eq!((code, &namespace["status"]["phase"]), (200, &json!("Terminating")));
    let refused = api.post("/api/v1/namespaces/gone/pods", &pod("a")).await;
    assert_eq!(
        complaint(&refused),
        (
            403,
            "pods \"a\" is forbidden: unable to create new content in namespace gone because it is being terminated"
                .to_owned()
        )
    );
    let mut finalized = namespace.clone();
    finalized["spec"]["finalizers"] = json!([]);
    let (code, _) = api.put("/api/v1/namespaces/gone/finalize", &finalized).await;
    assert_eq!(code, 200);
    assert_eq!(api.get("/api/v1/namespaces/gone").await.0, 404);
    let kept = complaint(&api.delete("/api/v1/namespaces/default").await);
    assert_eq!(kept, (403, "namespaces \"default\" is forbidden: this namespace may not be deleted".to_owned()));
}

#[tokio::test]
async fn an_object_outlives_the_server() {
    let api = Api::new().await;
    let created =
        api.must_create(SERVICES, &json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})).await;
    let Api { server, directory } = api;
    drop(server);
    let api = Api { server: open(&directory).await, directory };
    assert_eq!(api.get(&format!("{SERVICES}/a")).await, (200, created));
}

#[tokio::test]
async fn nothing_is_written_in_a_dry_run() {
    let api = Api::new().await;
    let path = format!("{PODS}?dryRun=All");
    assert_eq!(api.post(&path, &pod("a")).await.0, 201);
    assert_eq!(api.get(&format!("{PODS}/a")).await.0, 404);
    api.must_create(PODS, &pod("a")).await;
    assert_eq!(api.post(&path, &pod("a")).await.0, 409);
    assert_eq!(api.delete(&format!("{PODS}/a?dryRun=All")).await.0, 200);
    assert_eq!(api.get(&format!("{PODS}/a")).await.0, 200);
}
