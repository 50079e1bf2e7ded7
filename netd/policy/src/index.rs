//! How what is known of the cluster changes. One owner, synchronous; the state after a set of changes does not depend on their order as
//! long as those of one object are in theirs, so neither does the intent.

use std::collections::{BTreeMap, BTreeSet};

use minipod_model::{LinkName, PodKey};

use crate::cluster::{Cluster, Options};
use crate::derive::Derived;
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

impl Listed {
    /// Takes in the next part of the same list; `false`: it is of another kind.
    #[must_use]
    pub fn append(&mut self, next: Self) -> bool {
        match (self, next) {
            (Self::Pods(all), Self::Pods(next)) => all.extend(next),
            (Self::Namespaces(all), Self::Namespaces(next)) => all.extend(next),
            (Self::Policies(all), Self::Policies(next)) => all.extend(next),
            (Self::Services(all), Self::Services(next)) => all.extend(next),
            (Self::Slices(all), Self::Slices(next)) => all.extend(next),
            (Self::Nodes(all), Self::Nodes(next)) => all.extend(next),
            (Self::Attachments(all), Self::Attachments(next)) => all.extend(next),
            _ => return false,
        }
        true
    }
}

/// The cluster as one node sees it, and what that asks of the node.
#[derive(Debug, Clone)]
pub struct Index {
    cluster: Cluster,
    derived: Derived,
    dirty: Dirty,
}

/// Objects that were added, changed or removed since it was last looked at what follows from them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dirty {
    pub(crate) pods: BTreeSet<PodKey>,
    pub(crate) namespaces: BTreeSet<String>,
    pub(crate) policies: BTreeSet<ObjectKey>,
    pub(crate) services: BTreeSet<ObjectKey>,
    pub(crate) slices: BTreeSet<ObjectKey>,
    pub(crate) nodes: BTreeSet<String>,
    pub(crate) attachments: BTreeSet<LinkName>,
}

impl Index {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { cluster: Cluster::new(options), derived: Derived::default(), dirty: Dirty::default() }
    }

    /// The objects.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What this node must enforce. What it costs depends on what has changed since the last call; where nothing has, the same value comes
    /// back.
    pub fn intent(&mut self) -> Intent {
        let dirty = std::mem::take(&mut self.dirty);
        self.derived.refresh(&self.cluster, &dirty)
    }

    /// What this node must enforce, made from nothing.
    #[must_use]
    pub fn intent_from_nothing(&self) -> Intent {
        let cluster = &self.cluster;
        let everything = Dirty {
            pods: cluster.pods.keys().cloned().collect(),
            namespaces: cluster.namespaces.keys().cloned().collect(),
            policies: cluster.policies.keys().cloned().collect(),
            services: cluster.services.keys().cloned().collect(),
            slices: cluster.slices.keys().cloned().collect(),
            nodes: cluster.nodes.keys().cloned().collect(),
            attachments: cluster.attachments.keys().cloned().collect(),
        };
        Derived::default().refresh(cluster, &everything)
    }

    /// What could not be read, by policy.
    pub fn problems(&self) -> impl Iterator<Item = (&ObjectKey, &Problem)> {
        self.cluster.policies.values().flat_map(|policy| policy.problems.iter().map(|problem| (&policy.key, problem)))
    }

    /// Takes note of a change. Says whether anything is different now: an event that repeats what is known is none.
    pub fn apply(&mut self, change: Change) -> bool {
        let Self { cluster, dirty, .. } = self;
        match change {
            Change::Pod(pod) => put(&mut cluster.pods, &mut dirty.pods, pod.key.clone(), pod),
            Change::PodRemoved(key, uid) => {
                let same = cluster.pods.get(&key).is_some_and(|pod| uid.is_none_or(|uid| uid == pod.uid));
                same && remove(&mut cluster.pods, &mut dirty.pods, key)
            }
            Change::Namespace(namespace) => {
                put(&mut cluster.namespaces, &mut dirty.namespaces, namespace.name.clone(), namespace)
            }
            Change::NamespaceRemoved(name) => remove(&mut cluster.namespaces, &mut dirty.namespaces, name),
            Change::Policy(policy) => put(&mut cluster.policies, &mut dirty.policies, policy.key.clone(), policy),
            Change::PolicyRemoved(key) => remove(&mut cluster.policies, &mut dirty.policies, key),
            Change::Service(service) => put(&mut cluster.services, &mut dirty.services, service.key.clone(), service),
            Change::ServiceRemoved(key) => remove(&mut cluster.services, &mut dirty.services, key),
            Change::Slice(slice) => put(&mut cluster.slices, &mut dirty.slices, slice.key.clone(), slice),
            Change::SliceRemoved(key) => remove(&mut cluster.slices, &mut dirty.slices, key),
            Change::Node(node) => put(&mut cluster.nodes, &mut dirty.nodes, node.name.clone(), node),
            Change::NodeRemoved(name) => remove(&mut cluster.nodes, &mut dirty.nodes, name),
            Change::Attached(attachment) => {
                put(&mut cluster.attachments, &mut dirty.attachments, attachment.link.clone(), attachment)
            }
            Change::Detached(link) => remove(&mut cluster.attachments, &mut dirty.attachments, link),
            Change::OtherNodes(there) => std::mem::replace(&mut cluster.options.other_nodes, there) != there,
            Change::Listed(listed) => self.replace(listed),
        }
    }

    fn replace(&mut self, listed: Listed) -> bool {
        let Self { cluster, dirty, .. } = self;
        match listed {
            Listed::Pods(all) => put_all(&mut cluster.pods, &mut dirty.pods, all, |pod| pod.key.clone()),
            Listed::Namespaces(all) => {
                put_all(&mut cluster.namespaces, &mut dirty.namespaces, all, |namespace| namespace.name.clone())
            }
            Listed::Policies(all) => {
                put_all(&mut cluster.policies, &mut dirty.policies, all, |policy| policy.key.clone())
            }
            Listed::Services(all) => {
                put_all(&mut cluster.services, &mut dirty.services, all, |service| service.key.clone())
            }
            Listed::Slices(all) => put_all(&mut cluster.slices, &mut dirty.slices, all, |slice| slice.key.clone()),
            Listed::Nodes(all) => put_all(&mut cluster.nodes, &mut dirty.nodes, all, |node| node.name.clone()),
            Listed::Attachments(all) => {
                put_all(&mut cluster.attachments, &mut dirty.attachments, all, |attachment| attachment.link.clone())
            }
        }
    }
}

fn put<K: Ord + Clone, V: PartialEq>(map: &mut BTreeMap<K, V>, dirty: &mut BTreeSet<K>, key: K, value: V) -> bool {
    if map.get(&key) == Some(&value) {
        return false;
    }
    dirty.insert(key.clone());
    map.insert(key, value);
    true
}

fn remove<K: Ord, V>(map: &mut BTreeMap<K, V>, dirty: &mut BTreeSet<K>, key: K) -> bool {
    map.remove(&key).is_some() && {
        dirty.insert(key);
        true
    }
}

fn put_all<K: Ord + Clone, V: PartialEq>(
    map: &mut BTreeMap<K, V>,
    dirty: &mut BTreeSet<K>,
    all: Vec<V>,
    key: impl Fn(&V) -> K,
) -> bool {
    let mut old = std::mem::take(map);
    let mut different = false;
    for value in all {
        let key = key(&value);
        if old.remove(&key).as_ref() != Some(&value) {
            different = true;
            dirty.insert(key.clone());
        }
        map.insert(key, value);
    }
    different |= !old.is_empty();
    dirty.extend(old.into_keys());
    different
}
