//! What this node must enforce: the seam between what objects mean (this crate) and how the kernel is told
//! (`netd-dataplane`). Plain data: equal intents give equal kernel state, whatever the history. What two versions of it have in common they
//! share, so that a copy costs next to nothing and comparing them costs by where they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use minipod_model::{LinkName, PodKey, Protocol};

use crate::shared::{Addresses, SharedSet};

/// Everything that policies and services ask of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intent {
    /// the attached pods of this node, by interface
    pub endpoints: Arc<BTreeMap<LinkName, Arc<Endpoint>>>,
    /// one per distinct set of rules; also those of pods of this node that are not attached yet, so that their chains exist
    /// before their first packet. A pod that nothing isolates has a signature too, with both directions open.
    pub signatures: Arc<BTreeMap<SignatureId, Arc<Signature>>>,
    /// the peers that signatures name
    pub groups: Arc<BTreeMap<GroupId, PeerGroup>>,
    /// the address and port pairs that signatures name: named ports of an egress rule
    pub pairs: Arc<BTreeMap<PairsId, SharedSet<Pair>>>,
    /// service addresses and where their connections go
    pub services: Arc<BTreeMap<Frontend, Backends>>,
    /// where the cluster DNS answers a pod, and nothing else does
    pub cluster_dns: BTreeSet<IpAddr>,
}

/// A pod with its interface on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// the pod
    pub pod: PodKey,
    /// its addresses, at most one per family
    pub addresses: Vec<IpAddr>,
    /// the rules that hold for it
    pub signature: SignatureId,
}

/// Name of a [`Signature`]: a hash of its content, so that it is the same after a restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignatureId(pub Arc<str>);

/// Name of a [`PeerGroup`]: a hash of what it selects (not of its members), so that it stays when pods come and go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub Arc<str>);

/// Name of a set of [`Pair`]s: a hash of peers, port name and protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairsId(pub Arc<str>);

/// The merged rules of all policies that select the same pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// `None`: not isolated, everything may come in
    pub ingress: Option<Allowed>,
    /// `None`: not isolated, everything may go out
    pub egress: Option<Allowed>,
}

/// What an isolated direction lets pass; everything else is denied. A packet passes if any entry of any list matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// peers that may use every port and every protocol, ICMP included
    pub any_port: Option<Peers>,
    /// disjoint classes of destination ports, each with its peers; sorted, so that equal rules are equal values. Peers that are
    /// in `any_port` already are not repeated where that can be seen from the rules alone.
    pub ports: Vec<PortClass>,
    /// named ports (egress only; on ingress a name is resolved on the pod itself and becomes a number)
    pub named: BTreeSet<PairsId>,
}

/// Destination ports of one protocol that share their peers. The port sets of the classes of one protocol are disjoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortClass {
    /// the protocol
    pub protocol: Protocol,
    /// inclusive ranges, sorted, neither overlapping nor adjacent
    pub ranges: Vec<(u16, u16)>,
    /// who may use them
    pub peers: Peers,
}

/// Who is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// every address, those outside the cluster included
    Everyone,
    /// the members of a group
    Group(GroupId),
}

/// The addresses behind the `from`/`to` items of a class, already united.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerGroup {
    /// addresses of selected pods, both families
    pub pods: Addresses,
    /// `ipBlock`s with every `except` taken out: disjoint, aggregated; a /0 appears as itself (the driver splits it)
    pub nets: Arc<BTreeSet<IpNet>>,
}

/// An address with a port that its pod gave a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// the pod's address
    pub address: IpAddr,
    /// the protocol
    pub protocol: Protocol,
    /// the number behind the name
    pub port: u16,
}

/// An address and port that a service answers on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// a cluster IP
    pub address: IpAddr,
    /// the protocol
    pub protocol: Protocol,
    /// the service port
    pub port: u16,
}

/// Where connections to a [`Frontend`] go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// `namespace/name:port-name`, for people
    pub name: String,
    /// ready endpoints, sorted; none: connections are refused
    pub endpoints: Vec<(IpAddr, u16)>,
    /// `sessionAffinity: ClientIP` with its timeout in seconds
    pub affinity_seconds: Option<u32>,
}
