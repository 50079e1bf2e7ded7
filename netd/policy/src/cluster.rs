//! What is known of the cluster: the objects, and what is decided outside them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use minipod_model::{IpFamily, LinkName, PodKey};

use crate::object::{Attachment, EndpointSlice, Namespace, Node, ObjectKey, Pod, Policy, Service};

/// What is decided outside the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// this node's name, as in `spec.nodeName`
    pub node: String,
    /// `--pod-to-node allow`: a pod's traffic to its own node passes whatever its policy says (semantics, ruling 8)
    pub pod_to_node: bool,
    /// addresses on which this node answers for the cluster DNS; empty where pods do that (ruling 19)
    pub cluster_dns: Vec<IpAddr>,
    /// there are other nodes, which may take in VXLAN: no pod may speak it to a node (ruling 18)
    pub other_nodes: bool,
    /// families that this node runs; addresses of others appear nowhere in the intent
    pub families: BTreeSet<IpFamily>,
}

impl Options {
    /// A node of both families without a cluster DNS of its own, policing what pods send to it.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            pod_to_node: false,
            cluster_dns: Vec::new(),
            other_nodes: false,
            families: IpFamily::ALL.into_iter().collect(),
        }
    }
}

/// The objects, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// what is decided outside the objects
    pub options: Options,
    /// pods of all nodes
    pub pods: BTreeMap<PodKey, Pod>,
    /// namespaces
    pub namespaces: BTreeMap<String, Namespace>,
    /// policies of all namespaces
    pub policies: BTreeMap<ObjectKey, Policy>,
    /// services
    pub services: BTreeMap<ObjectKey, Service>,
    /// endpoint slices
    pub slices: BTreeMap<ObjectKey, EndpointSlice>,
    /// nodes
    pub nodes: BTreeMap<String, Node>,
    /// interfaces of this node
    pub attachments: BTreeMap<LinkName, Attachment>,
}

impl Cluster {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            policies: BTreeMap::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            nodes: BTreeMap::new(),
            attachments: BTreeMap::new(),
        }
    }

    /// The pod object behind an attachment. Another UID under the same name is another pod.
    #[must_use]
    pub fn pod_of(&self, attachment: &Attachment) -> Option<&Pod> {
        let pod = self.pods.get(&attachment.pod)?;
        let same = |uid: &String| *uid == pod.uid || pod.static_uid.as_ref() == Some(uid);
        attachment.uid.as_ref().is_none_or(same).then_some(pod)
    }
}
