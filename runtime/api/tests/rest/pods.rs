//! Pods: defaults, validation, what is refused by name, binding, deletion.

use serde_json::{Value, json};

use crate::harness::{Api, PODS, complaint, fields, pod};

fn with(pointer: &str, value: Value) -> Value {
    let mut object = pod("a");
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    object.pointer_mut(parent).expect("a parent")[key] = value;
    object
}

#[tokio::test]
async fn pods_get_kubernetes_defaults() {
    let api = Api::new().await;
    let created = api.must_create(PODS, &with("/spec/containers/0/ports", json!([{"containerPort": 80}]))).await;
    let spec = &created["spec"];
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["dnsPolicy"], "ClusterFirst");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["containers"][0]["ports"][0]["protocol"], "TCP");
    for (image, policy) in [
        ("hello", "Always"),
        ("a.io/b/c:latest", "Always"),
        ("a.io:5000/b", "Always"),
        ("hello:1.0", "IfNotPresent"),
        ("hello@sha256:0123456789012345678901234567890123456789012345678901234567890123", "IfNotPresent"),
    ] {
        let mut object = with("/spec/containers/0/image", image.into());
        object["metadata"] = json!({"generateName": "x-"});
        let created = api.must_create(PODS, &object).await;
        assert_eq!(created["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[tokio::test]
async fn invalid_pods_are_refused_with_the_field() {
    let api = Api::new().await;
    for (pointer, value, field) in [
        ("/spec/containers", json!([]), "spec.containers"),
        ("/spec/containers/0/name", json!("A"), "spec.containers[0].name"),
        ("/spec/containers/0/image", json!(""), "spec.containers[0].image"),
        ("/spec/restartPolicy", json!("Sometimes"), "spec.restartPolicy"),
        ("/spec/dnsPolicy", json!("Mine"), "spec.dnsPolicy"),
        ("/spec/dnsPolicy", json!("None"), "spec.dnsConfig.nameservers"),
        ("/spec/dnsConfig", json!({"nameservers": ["x"]}), "spec.dnsConfig.nameservers[0]"),
        ("/spec/dnsConfig", json!({"searches": ["a b"]}), "spec.dnsConfig.searches[0]"),
        ("/spec/terminationGracePeriodSeconds", json!(-1), "spec.terminationGracePeriodSeconds"),
        ("/spec/hostname", json!("a.b"), "spec.hostname"),
        ("/spec/hostAliases", json!([{"ip": "x", "hostnames": ["a"]}]), "spec.hostAliases[0].ip"),
        ("/spec/initContainers", json!([{"name": "c", "image": "x"}]), "spec.containers[0].name"),
        ("/spec/containers/0/ports", json!([{"containerPort": 70000}]), "spec.containers[0].ports[0].containerPort"),
        ("/spec/containers/0/ports", json!([{"name": "Web", "containerPort": 1}]), "spec.containers[0].ports[0].name"),
        (
            "/spec/containers/0/ports",
            json!([{"protocol": "ICMP", "containerPort": 1}]),
            "spec.containers[0].ports[0].protocol",
        ),
        ("/spec/containers/0/env", json!([{"name": "a=b", "value": "x"}]), "spec.containers[0].env[0].name"),
        ("/spec/containers/0/imagePullPolicy", json!("Maybe"), "spec.containers[0].imagePullPolicy"),
        (
            "/spec/containers/0/resources",
            json!({"requests": {"cpu": "x"}}),
            "spec.containers[0].resources.requests[cpu]",
        ),
        (
            "/spec/containers/0/resources",
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            "spec.containers[0].resources.requests",
        ),
        (
            "/spec/containers/0/resources",
            json!({"limits": {"memory": "6291455"}}),
            "spec.containers[0].resources.limits[memory]",
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"runAsUser": -1}),
            "spec.containers[0].securityContext.runAsUser",
        ),
    ] {
        let refused = api.post(PODS, &with(pointer, value.clone())).await;
        assert_eq!((refused.0, fields(&refused)), (422, vec![field.to_owned()]), "{pointer} {value}: {:#}", refused.1);
    }
    assert_eq!(
        complaint(&api.post(PODS, &with("/spec/restartPolicy", "Sometimes".into())).await).1,
        "Pod \"a\" is invalid: spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\""
    );
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let api = Api::new().await;
    for (pointer, value, field) in [
        ("/spec/hostPID", json!(true), "spec.hostPID"),
        ("/spec/hostIPC", json!(true), "spec.hostIPC"),
        ("/spec/nodeSelector", json!({"a": "b"}), "spec.nodeSelector"),
        ("/spec/volumes", json!([{"name": "v", "emptyDir": {}}]), "spec.volumes"),
        ("/spec/serviceAccountName", json!("robot"), "spec.serviceAccountName"),
        ("/spec/securityContext", json!({"fsGroup": 1}), "spec.securityContext.fsGroup"),
        ("/spec/ephemeralContainers", json!([{"name": "e", "image": "x"}]), "spec.ephemeralContainers"),
        (
            "/spec/containers/0/securityContext",
            json!({"privileged": true}),
            "spec.containers[0].securityContext.privileged",
        ),
        ("/spec/containers/0/livenessProbe", json!({"httpGet": {"port": 80}}), "spec.containers[0].livenessProbe"),
        ("/spec/containers/0/readinessProbe", json!({"tcpSocket": {"port": 80}}), "spec.containers[0].readinessProbe"),
        (
            "/spec/containers/0/env",
            json!([{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
            "spec.containers[0].env[0].valueFrom",
        ),
        ("/spec/containers/0/envFrom", json!([{"configMapRef": {"name": "x"}}]), "spec.containers[0].envFrom"),
        ("/spec/containers/0/lifecycle", json!({"preStop": {"sleep": {"seconds": 1}}}), "spec.containers[0].lifecycle"),
        (
            "/spec/containers/0/resources",
            json!({"limits": {"nvidia.com/gpu": "1"}}),
            "spec.containers[0].resources.limits.nvidia.com/gpu",
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 80, "hostPort": 80}]),
            "spec.containers[0].ports[0].hostPort",
        ),
    ] {
        let refused = api.post(PODS, &with(pointer, value.clone())).await;
        assert_eq!((refused.0, fields(&refused)), (422, vec![field.to_owned()]), "{pointer} {value}: {:#}", refused.1);
    }
    // What asks for nothing that is not done anyway is taken.
    for (pointer, value) in [
        ("/spec/hostPID", json!(false)),
        ("/spec/volumes", json!([])),
        ("/spec/serviceAccountName", json!("default")),
        ("/spec/schedulerName", json!("default-scheduler")),
        ("/spec/containers/0/securityContext", json!({"privileged": false})),
        ("/spec/containers/0/resources", json!({})),
    ] {
        let mut object = with(pointer, value.clone());
        object["metadata"] = json!({"generateName": "x-"});
        let (code, answer) = api.post(PODS, &object).await;
        assert_eq!(code, 201, "{pointer} {value}: {answer:#}");
    }
}

#[tokio::test]
async fn an_annotation_asks_for_no_profile_that_is_not_put_in_force() {
    let api = Api::new().await;
    let key = "container.apparmor.security.beta.kubernetes.io/c";
    for (profile, expected) in [("localhost/strict", 422), ("runtime/default", 201), ("unconfined", 201)] {
        let metadata = json!({"generateName": "x-", "annotations": {key: profile}});
        let answer = api.post(PODS, &with("/metadata", metadata)).await;
        assert_eq!(answer.0, expected, "{profile}: {:#}", answer.1);
        if expected == 422 {
            assert_eq!(fields(&answer), [format!("metadata.annotations[{key}]")]);
        }
    }
}

#[tokio::test]
async fn the_spec_of_a_pod_does_not_change() {
    let api = Api::new().await;
    api.must_create(PODS, &pod("a")).await;
    let path = format!("{PODS}/a");
    for patch in [
        json!({"spec": {"containers": [{"name": "c", "image": "other"}]}}),
        json!({"spec": {"hostNetwork": true}}),
        json!({"spec": {"nodeName": "n"}}),
    ] {
        let refused = api.patch(&path, &patch).await;
        assert_eq!((refused.0, fields(&refused)), (422, vec!["spec".to_owned()]), "{patch}: {:#}", refused.1);
    }
    assert_eq!(api.patch(&path, &json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}})).await.0, 200);
}

#[tokio::test]
async fn a_pod_is_bound_to_a_node_once() {
    let api = Api::new().await;
    api.must_create(PODS, &pod("a")).await;
    let binding = |node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Node", "name": node}});
    let path = format!("{PODS}/a/binding");
    assert_eq!(api.post(&path, &binding("n1")).await.0, 201);
    let (_, object) = api.get(&format!("{PODS}/a")).await;
    assert_eq!(object["spec"]["nodeName"], "n1");
    assert_eq!(object["status"]["conditions"][0]["type"], "PodScheduled");
    let refused = complaint(&api.post(&path, &binding("n2")).await);
    assert_eq!(refused.0, 409);
    assert!(refused.1.ends_with("pod a is already assigned to node \"n1\""), "{}", refused.1);
}

#[tokio::test]
async fn a_running_pod_is_deleted_in_two_steps() {
    let api = Api::new().await;
    let mut object = pod("a");
    object["spec"]["nodeName"] = "n1".into();
    api.must_create(PODS, &object).await;
    let path = format!("{PODS}/a");
    let (code, deleting) = api.delete(&format!("{path}?gracePeriodSeconds=7")).await;
    assert_eq!((code, &deleting["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(7)));
    assert!(deleting["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(api.patch(&format!("{path}/status"), &json!({"status": {"phase": "Running"}})).await.0, 200);
    assert_eq!(api.delete(&format!("{path}?gracePeriodSeconds=0")).await.0, 200);
    assert_eq!(api.get(&path).await.0, 404);
    assert_eq!(api.post(PODS, &object).await.0, 201);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let api = Api::new().await;
    for name in ["a", "b", "c"] {
        api.must_create(PODS, &pod(name)).await;
    }
    let (code, list) = api.delete(&format!("{PODS}?labelSelector=app%20in%20(a,b)")).await;
    assert_eq!((code, list["items"].as_array().map(Vec::len)), (200, Some(2)));
    let (_, left) = api.get(PODS).await;
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
}
