//! How packets reach the pods of other nodes: by a route to the node where it is on a link of ours, else by VXLAN. Pure: from the Node
//! objects and from what the kernel says of the nodes' addresses to what must be there.
//!
//! Nothing of it is published: a node's hardware address in the VXLAN is made from its first pod range, and its address there is
//! the one that no pod of the range gets, so every node knows those of the others from their Node objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use minipod_kernel::netlink::{Forwarding, Mac, Route};
use minipod_model::IpFamily;
use minipod_model::defaults::ROUTE_PROTOCOL;
use minipod_model::range::node_address;
use netd_dataplane::VxlanFacts;
use netd_policy::object::Node;

use crate::links::{DEFAULT_MTU, LEAST_MTU, mac_of};
use crate::offload::Tunnel;
use crate::options::Routing;
use crate::routes::{Ranges, normal};

/// Outer Ethernet, IPv4, UDP and VXLAN headers (RFC 7348, section 5) without the outer Ethernet's own, which no MTU counts, and
/// with the inner one.
const OVERHEAD_V4: u32 = 50;
/// The same over IPv6.
const OVERHEAD_V6: u32 = 70;

/// What the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// this node's name
    pub node: &'a str,
    /// all nodes, this one too
    pub nodes: &'a BTreeMap<String, Node>,
    /// this node's and the cluster's ranges, of families that this host has
    pub ranges: &'a Ranges,
    /// `--routing`
    pub routing: Routing,
    /// how packets to the other nodes' addresses leave; none for an address to which nothing leads
    pub hops: &'a Hops,
}

/// By address.
pub type Hops = BTreeMap<IpAddr, Hop>;

/// How packets to an address leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// by this link
    pub link: u32,
    /// the address is on that link: no router is between
    pub on_link: bool,
    /// largest packet in bytes
    pub mtu: u32,
}

/// What must be there for other nodes' pods to be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// ranges with a route to their node
    pub direct: Vec<Direct>,
    /// ranges that are reached through VXLAN, if there are any
    pub vxlan: Option<Vxlan>,
    /// what is not reached, and why
    pub problems: Vec<Problem>,
}

/// A range whose node is on a link of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direct {
    /// the range
    pub range: IpNet,
    /// its node
    pub via: IpAddr,
    /// the link
    pub link: u32,
}

/// The VXLAN device of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// this node's address in the underlay
    pub local: IpAddr,
    /// the device's hardware address
    pub mac: Mac,
    /// its addresses: this node's own in its ranges
    pub addresses: Vec<IpAddr>,
    /// its MTU in bytes
    pub mtu: u32,
    /// the nodes that are reached by it
    pub peers: Vec<Peer>,
}

/// A node that is reached through VXLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// its address in the underlay
    pub underlay: IpAddr,
    /// the hardware address of its device
    pub mac: Mac,
    /// its ranges that are reached so
    pub ranges: Vec<IpNet>,
}

/// Why pods of another node are not reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("node `{node}`: {trouble}; its pods there are not reached")]
pub struct Problem {
    /// the node
    pub node: String,
    /// what is wrong
    pub trouble: Trouble,
}

impl Problem {
    fn is_clash_with_us(&self) -> bool {
        matches!(self.trouble, Trouble::OverlapsThisNode(_))
    }
}

/// See [`Problem`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Trouble {
    /// not a range
    #[error("`{0}` in `spec.podCIDRs` is no range, e.g. `10.244.1.0/24`")]
    Malformed(String),
    /// a range that has nothing to do with this cluster
    #[error("pod range `{0}` is not in `--cluster-cidr`; give all nodes the same")]
    OutsideCluster(IpNet),
    /// a range with addresses of ours
    #[error("pod range `{0}` overlaps this node's; give each node its own with `--pod-cidr`")]
    OverlapsThisNode(IpNet),
    /// a range with addresses of a third one's
    #[error("pod range `{range}` overlaps that of node `{other}`; give each node its own with `--pod-cidr`")]
    OverlapsAnother {
        /// the range
        range: IpNet,
        /// the other
        other: String,
    },
    /// nowhere to send to
    #[error("it has no {family} address of type `InternalIP` outside the cluster's ranges for pod range `{range}`")]
    NoAddress {
        /// the family
        family: IpFamily,
        /// the range
        range: IpNet,
    },
    /// behind a router
    #[error(
        "it is not on a link of this node, which `--routing direct` needs for pod range `{0}`; use `--routing auto`"
    )]
    NotOnLink(IpNet),
    /// behind nothing
    #[error("no route leads to its address `{0}`")]
    NoRoute(IpAddr),
    /// this node cannot send
    #[error("this node has no address of type `InternalIP` to send VXLAN packets from")]
    NoLocalAddress,
}

impl Network {
    /// The routes; those by VXLAN only where the device is there.
    #[must_use]
    pub fn routes(&self, device: Option<u32>) -> Vec<Route> {
        let direct = self.direct.iter().map(|d| Route::to_link(d.range, d.link, ROUTE_PROTOCOL).via(d.via));
        let ranges = self.vxlan.iter().flat_map(|vxlan| vxlan.peers.iter().flat_map(|peer| &peer.ranges));
        let through = device.into_iter().flat_map(|device| {
            ranges
                .clone()
                .map(move |range| Route::to_link(*range, device, ROUTE_PROTOCOL).via(node_address(*range)).onlink())
        });
        direct.chain(through).map(normal).collect()
    }
}

impl Vxlan {
    /// Who is behind which hardware address.
    #[must_use]
    pub fn neighbours(&self) -> BTreeMap<IpAddr, Mac> {
        let of = |peer: &Peer| peer.ranges.iter().map(|range| (node_address(*range), peer.mac)).collect::<Vec<_>>();
        self.peers.iter().flat_map(of).collect()
    }

    /// Which hardware address is behind which node.
    #[must_use]
    pub fn forwardings(&self) -> BTreeSet<Forwarding> {
        self.peers.iter().map(|peer| Forwarding { mac: peer.mac, to: peer.underlay }).collect()
    }

    /// From this node's address on the device to a peer's, for each peer once; over IPv4 where there is a choice.
    #[must_use]
    pub fn tunnel(&self) -> Tunnel {
        let own = |range: &IpNet| {
            let family = IpFamily::of(range.addr());
            self.addresses.iter().copied().find(|address| IpFamily::of(*address) == family)
        };
        let pair = |range: &IpNet| own(range).map(|own| (own, node_address(*range)));
        Tunnel {
            local: self.local,
            pairs: self.peers.iter().filter_map(|peer| peer.ranges.iter().find_map(pair)).collect(),
        }
    }

    /// What the rules have to know.
    #[must_use]
    pub fn facts(&self) -> VxlanFacts {
        VxlanFacts {
            local: self.local,
            peers: self.peers.iter().map(|peer| peer.underlay).collect(),
            ranges: self.peers.iter().flat_map(|peer| peer.ranges.iter().copied()).collect(),
        }
    }
}

/// All addresses of all nodes, if there are others than this one.
#[must_use]
pub fn addresses_of_all(this: &str, nodes: &BTreeMap<String, Node>) -> BTreeSet<IpAddr> {
    if nodes.keys().all(|name| name == this) {
        return BTreeSet::new();
    }
    nodes.values().flat_map(|node| node.addresses.iter().copied()).collect()
}

/// The addresses of other nodes of which [`Situation::hops`] has to tell.
pub fn addresses_of_others<'a>(node: &str, nodes: &'a BTreeMap<String, Node>) -> impl Iterator<Item = IpAddr> + 'a {
    let own = node.to_owned();
    nodes.values().filter(move |other| other.name != own).flat_map(|other| other.internal.iter().copied())
}

/// What must be there.
#[must_use]
pub fn compile(situation: &Situation<'_>) -> Network {
    let mut network = Network::default();
    if situation.routing == Routing::None {
        return network;
    }
    let mut peers = Vec::new();
    for (node, ranges) in usable_ranges(situation, &mut network.problems) {
        let mut through: BTreeMap<IpAddr, Vec<IpNet>> = BTreeMap::new();
        for range in ranges {
            match way(situation, node, range) {
                Ok(Way::Direct { via, link }) => network.direct.push(Direct { range, via, link }),
                Ok(Way::Vxlan { underlay }) => through.entry(underlay).or_default().push(range),
                Err(trouble) => network.problems.push(Problem { node: node.name.clone(), trouble }),
            }
        }
        // Only nodes whose first range can be read have any that are usable.
        if let Some(mac) = mac(node) {
            peers.extend(through.into_iter().map(|(underlay, ranges)| Peer { underlay, mac, ranges }));
        }
    }
    let own = situation.nodes.get(situation.node);
    if !peers.is_empty()
        && let Some((local, mac)) = local_address(situation).zip(own.and_then(mac))
    {
        let addresses = situation.ranges.node.iter().map(|range| node_address(*range)).collect();
        network.vxlan = Some(Vxlan { local, mac, addresses, mtu: mtu(situation, local, &peers), peers });
    }
    network.problems.sort();
    network.problems.dedup();
    network
}

enum Way {
    Direct { via: IpAddr, link: u32 },
    Vxlan { underlay: IpAddr },
}

fn way(situation: &Situation<'_>, node: &Node, range: IpNet) -> Result<Way, Trouble> {
    let usable =
        |family| move |address: &&IpAddr| IpFamily::of(**address) == family && is_outside(situation, **address);
    let family = IpFamily::of(range.addr());
    let hop = |address: &IpAddr| situation.hops.get(address).copied();
    if situation.routing != Routing::Vxlan {
        let direct = node.internal.iter().filter(usable(family)).find_map(|via| {
            let hop = hop(via).filter(|hop| hop.on_link)?;
            Some(Way::Direct { via: *via, link: hop.link })
        });
        match (direct, situation.routing) {
            (Some(direct), _) => return Ok(direct),
            (None, Routing::Direct) => return Err(Trouble::NotOnLink(range)),
            (None, _) => {}
        }
    }
    let local = local_address(situation).ok_or(Trouble::NoLocalAddress)?;
    let underlay = IpFamily::of(local);
    let to = node.internal.iter().find(usable(underlay));
    let to = *to.ok_or(Trouble::NoAddress { family: underlay, range })?;
    hop(&to).map(|_| Way::Vxlan { underlay: to }).ok_or(Trouble::NoRoute(to))
}

/// IPv4 where this node has it: one device speaks one family.
fn local_address(situation: &Situation<'_>) -> Option<IpAddr> {
    let own = &situation.nodes.get(situation.node)?.internal;
    own.iter().find(|address| address.is_ipv4()).or(own.first()).copied()
}

/// Whether packets to the address do not go where those to pods go, or nowhere at all.
fn is_outside(situation: &Situation<'_>, address: IpAddr) -> bool {
    let Ranges { node, cluster, services } = situation.ranges;
    !node.iter().chain(cluster).chain(services).any(|range| range.contains(&address))
}

fn mtu(situation: &Situation<'_>, local: IpAddr, peers: &[Peer]) -> u32 {
    let overhead = if local.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    let hops = peers.iter().filter_map(|peer| situation.hops.get(&peer.underlay));
    let underlay = hops.map(|hop| hop.mtu).min().unwrap_or(DEFAULT_MTU);
    underlay.saturating_sub(overhead).max(LEAST_MTU)
}

/// The same on every node that reads the object.
fn mac(node: &Node) -> Option<Mac> {
    let first: IpNet = node.pod_cidrs.first()?.parse().ok()?;
    Some(mac_of(&["vxlan", &first.trunc().to_string()]))
}

/// Ranges of other nodes that nobody else has. Of two nodes with ranges that overlap neither is routed: which of them is right nobody knows.
fn usable_ranges<'a>(situation: &Situation<'a>, problems: &mut Vec<Problem>) -> Vec<(&'a Node, Vec<IpNet>)> {
    let mut all: Vec<(IpNet, &'a Node)> = Vec::new();
    for node in situation.nodes.values().filter(|node| node.name != situation.node) {
        for text in &node.pod_cidrs {
            match text.parse::<IpNet>() {
                Ok(range) if is_of_a_family_here(situation, range) => match place(situation, range.trunc()) {
                    None => all.push((range.trunc(), node)),
                    Some(trouble) => problems.push(Problem { node: node.name.clone(), trouble }),
                },
                Ok(_) => {}
                Err(_) => {
                    problems.push(Problem { node: node.name.clone(), trouble: Trouble::Malformed(text.clone()) });
                }
            }
        }
    }
    // A range that contains others comes right before them.
    all.sort_by_key(|(range, node)| (range.network(), range.prefix_len(), &node.name));
    // With all that they have: a node's hardware address comes from its first range, and two may not have the same.
    let mut clashes: BTreeSet<&str> = BTreeSet::new();
    let mut around = 0;
    for index in 1..all.len() {
        if all[around].0.contains(&all[index].0) {
            for (one, other) in [(around, index), (index, around)] {
                let (range, other) = (all[one].0, all[other].1.name.clone());
                clashes.insert(&all[one].1.name);
                let trouble = Trouble::OverlapsAnother { range, other };
                problems.push(Problem { node: all[one].1.name.clone(), trouble });
            }
        } else {
            around = index;
        }
    }
    let ours = |node: &Node| problems.iter().any(|problem| problem.node == node.name && problem.is_clash_with_us());
    let mut usable: BTreeMap<&str, (&Node, Vec<IpNet>)> = BTreeMap::new();
    let left = all.into_iter().filter(|(_, node)| !clashes.contains(node.name.as_str()) && !ours(node));
    for (range, node) in left {
        usable.entry(&node.name).or_insert((node, Vec::new())).1.push(range);
    }
    usable.into_values().filter(|(node, _)| mac(node).is_some()).collect()
}

fn is_of_a_family_here(situation: &Situation<'_>, range: IpNet) -> bool {
    situation.ranges.node.iter().any(|own| IpFamily::of(own.addr()) == IpFamily::of(range.addr()))
}

/// What is wrong with where a range lies.
fn place(situation: &Situation<'_>, range: IpNet) -> Option<Trouble> {
    let Ranges { node, cluster, .. } = situation.ranges;
    if !cluster.iter().any(|cluster| cluster.contains(&range)) {
        return Some(Trouble::OutsideCluster(range));
    }
    let overlaps = |own: &IpNet| own.contains(&range) || range.contains(own);
    node.iter().any(overlaps).then_some(Trouble::OverlapsThisNode(range))
}

#[cfg(test)]
mod tests;
