//! Would a packet pass, who decides that, and do the installed rules do it: what `policy explain` asks netd. And which connections there
//! are, by their first packets: what `apply --dry-run=policy` asks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The first packet of a connection, after service translation: to a pod, never to a cluster IP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstPacket {
    /// who opens the connection
    pub source: IpAddr,
    /// to whom
    pub destination: IpAddr,
    /// `TCP`, `UDP`, `SCTP`; none for ICMP and every other protocol
    pub protocol: Option<String>,
    /// destination port; given with a protocol
    pub port: Option<u16>,
}

/// A connection that the kernel tracks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// its first packet
    #[serde(flatten)]
    pub packet: FirstPacket,
    /// the client's port; given with a protocol
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
}

/// What is at this node beside its pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnNode {
    /// every address of the node's own
    pub addresses: BTreeSet<IpAddr>,
    /// addresses on which it answers for the cluster DNS
    pub cluster_dns: Vec<IpAddr>,
    /// `--pod-to-node allow`
    pub pod_to_node: bool,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// whether both ends allow it
    pub allowed: bool,
    /// the source's egress
    pub egress: Decision,
    /// the destination's ingress
    pub ingress: Decision,
    /// what the rules and sets that are installed on this node do with it
    pub kernel: Kernel,
}

/// What the installed rules do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// neither end is a pod of this node: its rules say nothing
    Elsewhere,
    /// what the policies say of the ends that are on this node
    Agrees,
    /// it lets pass what the policies deny
    LetsPass,
    /// it drops what the policies allow
    Drops,
}

/// What decides at one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// no pod with a network of its own is at this end
    NoPod,
    /// the pod reaches itself
    Itself,
    /// the pod's own node, which reaches its pods, or which they may reach by option
    OwnNode,
    /// at the address of the cluster DNS nothing else answers
    NotDns {
        /// `NAMESPACE/NAME`
        pod: String,
    },
    /// VXLAN to a node, which only nodes may speak
    NotANode {
        /// `NAMESPACE/NAME`
        pod: String,
    },
    /// no policy isolates the pod in this direction
    NotIsolated {
        /// `NAMESPACE/NAME`
        pod: String,
    },
    /// isolated, and allowed by these rules
    Allowed {
        /// `NAMESPACE/NAME`
        pod: String,
        /// every rule that allows it
        by: Vec<RuleRef>,
    },
    /// isolated, and no rule allows it
    Denied {
        /// `NAMESPACE/NAME`
        pod: String,
        /// the policies that isolate it, as `NAMESPACE/NAME`
        by: Vec<String>,
    },
    /// an interface whose pod object is gone: nothing passes
    Unknown {
        /// the name under which it was attached
        pod: String,
    },
}

/// A rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRef {
    /// `NAMESPACE/NAME`
    pub policy: String,
    /// its place in the policy's list of this direction, from 0
    pub rule: usize,
}
