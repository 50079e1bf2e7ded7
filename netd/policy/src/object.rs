//! The objects as far as they matter to the network of one node: already read, already checked. [`crate::read`] makes them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use minipod_model::{Labels, LinkName, PodKey, Protocol, Selector};

/// The namespace and name of a policy, service or endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
}

impl ObjectKey {
    /// The key of object `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Pod object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// its name
    pub key: PodKey,
    /// `metadata.uid`
    pub uid: String,
    /// the annotation `kubernetes.io/config.hash`: the UID under which the kubelet runs a static pod
    pub static_uid: Option<String>,
    /// `metadata.labels`
    pub labels: Labels,
    /// `spec.nodeName`
    pub node: Option<String>,
    /// `spec.hostNetwork`: neither subject nor peer (semantics, ruling 9)
    pub host_network: bool,
    /// `status.phase` is `Succeeded` or `Failed` (ruling 17)
    pub finished: bool,
    /// `status.podIPs`; believed for pods of other nodes only
    pub addresses: Vec<IpAddr>,
    /// ports that have a name, the first of each name and protocol
    pub ports: Vec<NamedPort>,
}

/// A port that a pod gave a name (`spec.containers[].ports[]`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPort {
    /// `name`
    pub name: String,
    /// `protocol`
    pub protocol: Protocol,
    /// `containerPort`
    pub number: u16,
}

/// The number that a pod gave to a port name, if it did (semantics, ruling 12).
#[must_use]
pub fn port_number(ports: &[NamedPort], name: &str, protocol: Protocol) -> Option<u16> {
    ports.iter().find(|port| port.name == name && port.protocol == protocol).map(|port| port.number)
}

/// A Namespace object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// `metadata.name`
    pub name: String,
    /// `metadata.labels`; `kubernetes.io/metadata.name` is always among them
    pub labels: Labels,
}

/// A Node object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`
    pub name: String,
    /// addresses in `status.addresses`, and the node's own in its pod ranges; they never enter a peer set (semantics, rulings 7 and 9)
    pub addresses: BTreeSet<IpAddr>,
    /// those of type `InternalIP`, in the order of the object: where other nodes reach it
    pub internal: Vec<IpAddr>,
    /// `spec.podCIDRs`, as they are written
    pub pod_cidrs: Vec<String>,
}

/// An interface of a sandbox on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// the node's end
    pub link: LinkName,
    /// the pod; for a container without an API object the name that people know it by
    pub pod: PodKey,
    /// the pod's UID where the caller of the attach knew it; another UID under the same name is another pod
    pub uid: Option<String>,
    /// labels given with the attach: what counts for a container that no API object describes
    pub labels: Option<Labels>,
    /// the addresses that the interface has
    pub addresses: Vec<IpAddr>,
}

/// A `NetworkPolicy` object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// its name
    pub key: ObjectKey,
    /// `spec.podSelector`
    pub subjects: Selector,
    /// `None`: ingress is not isolated by this policy
    pub ingress: Option<Vec<Rule>>,
    /// `None`: egress is not isolated by this policy
    pub egress: Option<Vec<Rule>>,
    /// what could not be read; a rule that holds such a thing is not among the rules and so allows nothing
    pub problems: Vec<Problem>,
}

/// A field that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem} (value `{value}`)")]
pub struct Problem {
    /// the field, e.g. `spec.ingress[0].ports[1].endPort`
    pub path: String,
    /// its value
    pub value: String,
    /// what is wrong with it
    pub problem: String,
}

/// One rule of a policy's direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// its place in the object's list
    pub index: usize,
    /// `from` or `to`
    pub peers: RulePeers,
    /// `ports`
    pub ports: RulePorts,
}

/// `from` or `to` of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RulePeers {
    /// missing or empty: every peer, cluster-external addresses included
    Everyone,
    /// any of these
    Listed(Vec<Peer>),
}

/// One item of `from` or `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// pods by label
    Pods {
        /// of which namespaces
        namespaces: PeerNamespaces,
        /// which of their pods
        pods: Selector,
    },
    /// `ipBlock`
    Block(Block),
}

/// The namespaces of a peer's pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerNamespaces {
    /// `namespaceSelector` is missing: the policy's own
    Own,
    /// those that `namespaceSelector` selects
    Selected(Selector),
}

/// An `ipBlock`. Host bits are cleared; every `except` lies strictly inside `cidr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// `cidr`
    pub cidr: IpNet,
    /// `except`
    pub except: Vec<IpNet>,
}

/// `ports` of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RulePorts {
    /// missing or empty: every port and every protocol, ICMP included
    Every,
    /// any of these
    Listed(Vec<RulePort>),
}

/// One item of `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulePort {
    /// `protocol`
    pub protocol: Protocol,
    /// `port` and `endPort`
    pub numbers: PortNumbers,
}

/// Which ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortNumbers {
    /// `port` is missing
    Every,
    /// from the first to the last, both included
    Range(u16, u16),
    /// what the destination pod gave this name
    Named(String),
}

/// A Service object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// its name
    pub key: ObjectKey,
    /// how it is reached
    pub kind: ServiceKind,
    /// `spec.ports`
    pub ports: Vec<ServicePort>,
    /// `sessionAffinity: ClientIP` with its timeout in seconds
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`: only endpoints on the client's node
    pub node_local: bool,
    /// `publishNotReadyAddresses`: DNS names endpoints that are not ready, too
    pub publish_not_ready: bool,
}

/// How a service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceKind {
    /// by its cluster IPs, one per family
    ClusterIp(Vec<IpAddr>),
    /// `clusterIP: None`: by the addresses of its endpoints, through DNS
    Headless,
    /// by another DNS name
    ExternalName(String),
}

/// One item of a service's `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`; empty for the only port
    pub name: String,
    /// `protocol`
    pub protocol: Protocol,
    /// `port`
    pub port: u16,
}

/// An `EndpointSlice` object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// its name
    pub key: ObjectKey,
    /// the service in the same namespace, by label `kubernetes.io/service-name`
    pub service: Option<String>,
    /// `endpoints`
    pub endpoints: Vec<Endpoint>,
    /// `ports`
    pub ports: Vec<ServicePort>,
}

/// One item of a slice's `endpoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses`; interchangeable, consumers use the first
    pub address: IpAddr,
    /// `conditions.ready`; missing means ready
    pub ready: bool,
    /// `hostname`, for DNS
    pub hostname: Option<String>,
    /// `nodeName`
    pub node: Option<String>,
    /// the pod behind it
    pub pod: Option<String>,
}
