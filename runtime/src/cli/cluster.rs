//! The objects that policies are about, read from the API server.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, Client};
use netd_policy::{Change, Index, Listed, Options, object};

/// What there is.
pub(crate) struct Seen {
    /// the pods as they stand in the API
    pub(crate) pods: Vec<Pod>,
    /// pods, namespaces, policies and nodes. No node's interfaces are known here: every pod is where its status says, as for a node that
    /// looks from outside
    pub(crate) index: Index,
}

/// The objects of all namespaces: peers are selected by the labels of their namespaces, and who else claims an address counts, wherever
/// it is.
pub(crate) async fn read(client: &Client) -> kube::Result<Seen> {
    let pods = pods(client, None).await?;
    let policies = policies(client, None).await?;
    let namespaces: Vec<Namespace> = Api::all(client.clone()).list(&ListParams::default()).await?.items;
    let nodes: Vec<Node> = Api::all(client.clone()).list(&ListParams::default()).await?.items;
    let mut index = Index::new(Options::new(String::new()));
    for listed in [
        Listed::Pods(pods.iter().map(object::Pod::read).collect()),
        Listed::Policies(policies.iter().map(object::Policy::read).collect()),
        Listed::Namespaces(namespaces.iter().map(object::Namespace::read).collect()),
        Listed::Nodes(nodes.iter().map(object::Node::read).collect()),
    ] {
        index.apply(Change::Listed(listed));
    }
    Ok(Seen { pods, index })
}

/// The policies of a namespace, or of all.
pub(crate) async fn policies(client: &Client, namespace: Option<&str>) -> kube::Result<Vec<NetworkPolicy>> {
    let api = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    Ok(api.list(&ListParams::default()).await?.items)
}

/// The pods of a namespace, or of all.
pub(crate) async fn pods(client: &Client, namespace: Option<&str>) -> kube::Result<Vec<Pod>> {
    let api = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    Ok(api.list(&ListParams::default()).await?.items)
}
