//! How what is known of the cluster changes. One owner, synchronous; the state after a set of changes does not depend on their order as
//! long as those of one object are in theirs, so neither does the intent.

use std::collections::BTreeMap;

use minipod_model::{LinkName, PodKey};

use crate::cluster::{Cluster, Options};
use crate::compile;
use crate::intent::Intent;
use crate::object::{Attachment, EndpointSlice, Namespace, Node, ObjectKey, Pod, Policy, Problem, Service};

/// One event. What is said of an object is all of it: a change replaces what was known.
#[derive(Debug, Clone)]
pub enum Change {
    /// a pod was added or changed
    Pod(Pod),
    /// a pod object is gone; of another UID than the one known: nothing happens
    PodRemoved(PodKey, Option<String>),
    /// a namespace was added or changed
    Namespace(Namespace),
    /// a namespace object is gone
    NamespaceRemoved(String),
    /// a policy was added or changed
    Policy(Policy),
    /// a policy object is gone
    PolicyRemoved(ObjectKey),
    /// a service was added or changed
    Service(Service),
    /// a service object is gone
    ServiceRemoved(ObjectKey),
    /// an endpoint slice was added or changed
    Slice(EndpointSlice),
    /// an endpoint slice object is gone
    SliceRemoved(ObjectKey),
    /// a node was added or changed
    Node(Node),
    /// a node object is gone
    NodeRemoved(String),
    /// a sandbox of this node has its interface
    Attached(Attachment),
    /// an interface is gone
    Detached(LinkName),
    /// whether there are other nodes
    OtherNodes(bool),
    /// a complete list: what is not on it is gone
    Listed(Listed),
}

/// Everything of one kind.
#[derive(Debug, Clone)]
pub enum Listed {
    /// all pods
    Pods(Vec<Pod>),
    /// all namespaces
    Namespaces(Vec<Namespace>),
    /// all policies
    Policies(Vec<Policy>),
    /// all services
    Services(Vec<Service>),
    /// all endpoint slices
    Slices(Vec<EndpointSlice>),
    /// all nodes
    Nodes(Vec<Node>),
    /// all attachments
    Attachments(Vec<Attachment>),
}

/// The cluster as one node sees it, and what that asks of the node.
#[derive(Debug, Clone)]
pub struct Index {
    cluster: Cluster,
}

impl Index {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { cluster: Cluster::new(options) }
    }

    /// The objects.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What this node must enforce.
    #[must_use]
    pub fn intent(&self) -> Intent {
        compile::compile(&self.cluster)
    }

    /// What could not be read, by policy.
    pub fn problems(&self) -> impl Iterator<Item = (&ObjectKey, &Problem)> {
        self.cluster.policies.values().flat_map(|policy| policy.problems.iter().map(|problem| (&policy.key, problem)))
    }

    /// Takes note of a change. Says whether anything is different now: an event that repeats what is known is none.
    pub fn apply(&mut self, change: Change) -> bool {
        let cluster = &mut self.cluster;
        match change {
            Change::Pod(pod) => put(&mut cluster.pods, pod.key.clone(), pod),
            Change::PodRemoved(key, uid) => {
                let same = cluster.pods.get(&key).is_some_and(|pod| uid.is_none_or(|uid| uid == pod.uid));
                same && cluster.pods.remove(&key).is_some()
            }
            Change::Namespace(namespace) => put(&mut cluster.namespaces, namespace.name.clone(), namespace),
            Change::NamespaceRemoved(name) => cluster.namespaces.remove(&name).is_some(),
            Change::Policy(policy) => put(&mut cluster.policies, policy.key.clone(), policy),
            Change::PolicyRemoved(key) => cluster.policies.remove(&key).is_some(),
            Change::Service(service) => put(&mut cluster.services, service.key.clone(), service),
            Change::ServiceRemoved(key) => cluster.services.remove(&key).is_some(),
            Change::Slice(slice) => put(&mut cluster.slices, slice.key.clone(), slice),
            Change::SliceRemoved(key) => cluster.slices.remove(&key).is_some(),
            Change::Node(node) => put(&mut cluster.nodes, node.name.clone(), node),
            Change::NodeRemoved(name) => cluster.nodes.remove(&name).is_some(),
            Change::Attached(attachment) => put(&mut cluster.attachments, attachment.link.clone(), attachment),
            Change::Detached(link) => cluster.attachments.remove(&link).is_some(),
            Change::OtherNodes(there) => std::mem::replace(&mut cluster.options.other_nodes, there) != there,
            Change::Listed(listed) => self.replace(listed),
        }
    }

    fn replace(&mut self, listed: Listed) -> bool {
        let cluster = &mut self.cluster;
        match listed {
            Listed::Pods(all) => put_all(&mut cluster.pods, all, |pod| pod.key.clone()),
            Listed::Namespaces(all) => put_all(&mut cluster.namespaces, all, |namespace| namespace.name.clone()),
            Listed::Policies(all) => put_all(&mut cluster.policies, all, |policy| policy.key.clone()),
            Listed::Services(all) => put_all(&mut cluster.services, all, |service| service.key.clone()),
            Listed::Slices(all) => put_all(&mut cluster.slices, all, |slice| slice.key.clone()),
            Listed::Nodes(all) => put_all(&mut cluster.nodes, all, |node| node.name.clone()),
            Listed::Attachments(all) => put_all(&mut cluster.attachments, all, |attachment| attachment.link.clone()),
        }
    }
}

fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: V) -> bool {
    if map.get(&key) == Some(&value) {
        return false;
    }
    map.insert(key, value);
    true
}

fn put_all<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, all: Vec<V>, key: impl Fn(&V) -> K) -> bool {
    let new: BTreeMap<K, V> = all.into_iter().map(|value| (key(&value), value)).collect();
    let different = *map != new;
    *map = new;
    different
}
