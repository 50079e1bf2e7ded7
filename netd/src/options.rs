//! What netd is told at its start. Checked by whoever reads them from a command line; netd takes them as they are.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use netd_dataplane::{DenyAction, MarkBits};

/// netd's settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// `metadata.name` of this node's Node object
    pub node_name: String,
    /// addresses of this node by which others know it; found on the links of the default routes where none are given
    pub node_addresses: Vec<IpAddr>,
    /// directory of the socket and of what lives for one boot
    pub run_dir: PathBuf,
    /// directory of what outlives a boot: the address cursor, the journal of changed sysctls
    pub state_dir: PathBuf,
    /// this node's pod ranges, one per family at most
    pub node_cidrs: Vec<IpNet>,
    /// the cluster's pod ranges, one per family at most
    pub cluster_cidrs: Vec<IpNet>,
    /// the ranges of cluster IPs; empty where something else does services
    pub service_cidrs: Vec<IpNet>,
    /// the addresses on which netd answers DNS; empty where something else does
    pub cluster_dns: Vec<IpAddr>,
    /// which iptables to use
    pub iptables: Iptables,
    /// whether allowed pod traffic is accepted past the host's own firewall (semantics, ruling 21)
    pub accept_past_host_firewall: bool,
    /// `--pod-to-node allow` (semantics, ruling 8)
    pub pod_to_node: bool,
    /// `--routing`
    pub routing: Routing,
    /// what becomes of what policy denies (semantics, ruling 14)
    pub deny_action: DenyAction,
    /// the mark bits that the rules use
    pub marks: MarkBits,
    /// where metrics are told over HTTP; nowhere unless given
    pub metrics_address: Option<SocketAddr>,
    /// whether the API server sends a watch a bookmark as soon as something else is written, as Minipod's does: then an attach
    /// waits until everything acknowledged before it is known. Kubernetes' sends one a minute.
    pub prompt_bookmarks: bool,
}

/// Which iptables programs to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iptables {
    /// the one in use on this machine
    Auto,
    /// iptables-nft
    Nft,
    /// iptables-legacy
    Legacy,
}

/// How packets reach the pods of other nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Routing {
    /// by a route where the node is on a link of this one, else by VXLAN
    #[default]
    Auto,
    /// by a route; not at all where the node is not on a link
    Direct,
    /// by VXLAN
    Vxlan,
    /// something else routes them
    None,
}

impl Options {
    /// netd's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(minipod_model::defaults::NETD_SOCKET)
    }
}
