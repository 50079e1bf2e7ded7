//! The controllers against the real API server in the process.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use minipod_api::{Config, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

struct Cluster {
    client: Client,
    _stop: DropGuard,
    _directory: TempDir,
}

impl Cluster {
    /// A server with its controllers and one ready node.
    async fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let config = Config {
            store: directory.path().join("store.redb"),
            service_cidrs: vec!["10.96.0.0/16".parse().expect("a range"), "fd00:10:96::/112".parse().expect("a range")],
        };
        let server = Server::open(config).await.expect("a server");
        let client = Client::new(server.router(), "default");
        let stop = CancellationToken::new();
        tokio::spawn(minipod_controllers::run(client.clone(), "n1".to_owned(), stop.clone()));
        Self { client, _stop: stop.drop_guard(), _directory: directory }
    }

    async fn ready_node(&self) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = json!({"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        nodes.create(&PostParams::default(), &read(node)).await.expect("a node");
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    async fn pod(&self, name: &str, address: &str) {
        let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "x",
            "ports": [{"name": "http", "containerPort": 8080}]}]}});
        self.pods().create(&PostParams::default(), &read(pod)).await.expect("a pod");
        let status = json!({"status": {"phase": "Running", "podIPs": [{"ip": address}], "conditions": [{"type": "Ready", "status": "True"}]}});
        self.pods().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.expect("a status");
    }

    /// Addresses of the ready endpoints of all slices of `web`.
    async fn endpoints(&self) -> Vec<String> {
        let slices: Api<EndpointSlice> = Api::default_namespaced(self.client.clone());
        let list = slices.list(&ListParams::default().labels("kubernetes.io/service-name=web")).await.expect("slices");
        let all = list.items.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
        let ready = all.filter(|e| e.conditions.as_ref().is_some_and(|c| c.ready == Some(true)));
        let mut addresses: Vec<_> = ready.flat_map(|e| e.addresses).collect();
        addresses.sort();
        addresses
    }

    async fn wait_for_endpoints(&self, expected: &[&str]) {
        let mut last = Vec::new();
        let wait = async {
            loop {
                last = self.endpoints().await;
                if last == expected {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, wait).await;
        assert!(in_time.is_ok(), "endpoints are {last:?}, not {expected:?}");
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(POLL).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "not in time: {what}");
}

#[tokio::test]
async fn endpoints_follow_pods_and_services() {
    let cluster = Cluster::new().await;
    cluster.ready_node().await;
    let services: Api<Service> = Api::default_namespaced(cluster.client.clone());
    let web = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    services.create(&PostParams::default(), &read(web)).await.expect("a service");
    cluster.pod("a", "10.244.0.5").await;
    cluster.wait_for_endpoints(&["10.244.0.5"]).await;
    cluster.pod("b", "10.244.0.6").await;
    cluster.wait_for_endpoints(&["10.244.0.5", "10.244.0.6"]).await;

    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    cluster.pods().patch_status("a", &PatchParams::default(), &Patch::Merge(not_ready)).await.expect("a status");
    cluster.wait_for_endpoints(&["10.244.0.6"]).await;
    let relabelled = json!({"metadata": {"labels": {"app": "other"}}});
    cluster.pods().patch("b", &PatchParams::default(), &Patch::Merge(relabelled)).await.expect("a patch");
    cluster.wait_for_endpoints(&[]).await;

    services.delete("web", &DeleteParams::default()).await.expect("deleted");
    let slices: Api<EndpointSlice> = Api::default_namespaced(cluster.client.clone());
    until("the slices go with their service", async || {
        slices.list(&ListParams::default()).await.is_ok_and(|list| list.items.is_empty())
    })
    .await;
}

#[tokio::test]
async fn a_slice_that_someone_removes_or_changes_is_mended() {
    let cluster = Cluster::new().await;
    cluster.ready_node().await;
    let services: Api<Service> = Api::default_namespaced(cluster.client.clone());
    let web = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    services.create(&PostParams::default(), &read(web)).await.expect("a service");
    cluster.pod("a", "10.244.0.5").await;
    cluster.wait_for_endpoints(&["10.244.0.5"]).await;
    let slices: Api<EndpointSlice> = Api::default_namespaced(cluster.client.clone());
    let slice = slices.list(&ListParams::default()).await.expect("slices").items.remove(0);
    let name = slice.metadata.name.as_deref().expect("a name");
    let emptied = json!({"endpoints": []});
    slices.patch(name, &PatchParams::default(), &Patch::Merge(emptied)).await.expect("a patch");
    cluster.wait_for_endpoints(&["10.244.0.5"]).await;
    slices.delete(name, &DeleteParams::default()).await.expect("deleted");
    cluster.wait_for_endpoints(&["10.244.0.5"]).await;
}

#[tokio::test]
async fn a_pod_is_placed_when_a_node_is_ready() {
    let cluster = Cluster::new().await;
    cluster.pod("a", "10.244.0.5").await;
    cluster.ready_node().await;
    let pods = cluster.pods();
    until("the pod has a node", async || {
        let pod = pods.get("a").await.expect("a pod");
        pod.spec.and_then(|spec| spec.node_name).as_deref() == Some("n1")
    })
    .await;
}

#[tokio::test]
async fn a_pod_without_a_node_is_told_why_in_its_condition_and_by_an_event() {
    let cluster = Cluster::new().await;
    let events: Api<Event> = Api::default_namespaced(cluster.client.clone());
    let pods = cluster.pods();
    let is_told = async |name: &str, message: &str| {
        let pod = pods.get(name).await.expect("a pod");
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let in_condition = conditions
            .iter()
            .any(|c| c.type_ == "PodScheduled" && c.status == "False" && c.message.as_deref() == Some(message));
        let fields = format!("involvedObject.name={name},reason=FailedScheduling");
        let events = events.list(&ListParams::default().fields(&fields)).await.expect("events").items;
        in_condition
            && events.iter().any(|e| e.message.as_deref() == Some(message) && e.type_.as_deref() == Some("Warning"))
    };
    let containers = json!([{"name": "c", "image": "x"}]);
    let pod = |name: &str, node: Option<&str>| {
        read::<Pod>(json!({"metadata": {"name": name}, "spec": {"containers": containers, "nodeName": node}}))
    };
    pods.create(&PostParams::default(), &pod("a", None)).await.expect("a pod");
    until("there is no node", async || is_told("a", "no nodes available to schedule pods").await).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let cordoned = json!({"metadata": {"name": "n1"}, "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes.create(&PostParams::default(), &read(cordoned)).await.expect("a node");
    let message = "0/1 nodes are available: 1 node(s) were unschedulable.";
    until("the node is cordoned", async || is_told("a", message).await).await;
    pods.create(&PostParams::default(), &pod("b", Some("ghost"))).await.expect("a pod");
    let message = "node \"ghost\" of `spec.nodeName` does not exist; delete the pod and create it with another or none";
    until("the node is unknown", async || is_told("b", message).await).await;
    nodes
        .patch("n1", &PatchParams::default(), &Patch::Merge(json!({"spec": {"unschedulable": false}})))
        .await
        .expect("a patch");
    until("the pod has a node", async || pods.get("a").await.expect("a pod").spec.and_then(|s| s.node_name).is_some())
        .await;
}

#[tokio::test]
async fn a_namespace_goes_after_its_pods_and_then_its_policies() {
    let cluster = Cluster::new().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces.create(&PostParams::default(), &read(json!({"metadata": {"name": "team"}}))).await.expect("a namespace");
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "team");
    let pod =
        json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}});
    pods.create(&PostParams::default(), &read(pod)).await.expect("a pod");
    let policies: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), "team");
    let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}}});
    policies.create(&PostParams::default(), &read(policy)).await.expect("a policy");

    namespaces.delete("team", &DeleteParams::default()).await.expect("deleted");
    until("the pod is asked to go", async || pods.get("a").await.expect("a pod").metadata.deletion_timestamp.is_some())
        .await;
    assert!(policies.get_opt("p").await.expect("an answer").is_some(), "a policy stays as long as a pod runs");

    // The pod agent does this when the pod has ended.
    pods.delete("a", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    until("the namespace is gone", async || namespaces.get_opt("team").await.expect("an answer").is_none()).await;
    assert!(policies.get_opt("p").await.expect("an answer").is_none());
    namespaces.create(&PostParams::default(), &read(json!({"metadata": {"name": "team"}}))).await.expect("again");
}

#[tokio::test]
async fn the_deletion_of_a_pod_whose_node_does_not_exist_ends() {
    let cluster = Cluster::new().await;
    cluster.ready_node().await;
    let pods = cluster.pods();
    for node in ["ghost", "n1"] {
        let pod = json!({"metadata": {"name": node}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x"}]}});
        pods.create(&PostParams::default(), &read(pod)).await.expect("a pod");
        pods.delete(node, &DeleteParams::default()).await.expect("deleted");
    }
    until("the pod is gone", async || pods.get_opt("ghost").await.expect("an answer").is_none()).await;
    assert!(pods.get_opt("n1").await.expect("an answer").is_some(), "the node that is there ends its pod itself");
}
