//! What guards VXLAN: who holds a node's address and speaks to another node's port says of any packet that it comes from any pod. So
//! pods speak it to no node, it is taken in from nodes only, and what is inside comes from their pods. Without other nodes there is nothing
//! of this, and without a device only the first.
//!
//! Pods' packets are looked at after translation, in mangle: a service may lead to a node's port as well.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use minipod_model::defaults::VXLAN_PORT;
use minipod_model::{IpFamily, Protocol};

use super::Compiler;
use super::mangle::to_host;
use crate::name::{ChainName, SetName};
use crate::spec::{Chain, Directions, Entry, Hook, Interface, Match, Rule, SetKind, Table, Target};

impl Compiler<'_> {
    pub(super) fn vxlan_sets(&mut self) {
        let family = self.family;
        let addresses = |all: &BTreeSet<IpAddr>| {
            all.iter().filter(|a| IpFamily::of(**a) == family).map(|a| Entry::Ip(*a)).collect::<Vec<_>>()
        };
        if !self.facts.every_node.is_empty() {
            self.set(every_node(family), SetKind::HashIp(family), addresses(&self.facts.every_node));
        }
        let Some(vxlan) = &self.facts.vxlan else { return };
        let ranges = vxlan.ranges.iter().filter(|range| IpFamily::of(range.addr()) == family && range.prefix_len() > 0);
        let ranges: Vec<Entry> = ranges.map(|range| Entry::Net(range.trunc())).collect();
        self.set(inside(family), SetKind::HashNet(family), ranges);
        if IpFamily::of(vxlan.local) == family {
            self.set(peers(family), SetKind::HashIp(family), addresses(&vxlan.peers));
        }
    }

    /// Before connection tracking: what comes out of the tunnel is from a pod or a device of a node that is reached by it.
    pub(super) fn vxlan_gate(&mut self, from_pods: &ChainName) {
        let first = ChainName::fixed("RAW");
        let rules = vec![
            Rule::new(vec![Match::In(Interface::AnyPod)], Target::Goto(from_pods.clone())),
            Rule::new(
                vec![Match::In(Interface::Vxlan), Match::NotSet(inside(self.family), Directions::Src)],
                Target::Drop,
            ),
        ];
        self.chain(Table::Raw, first.clone(), Chain::new(rules));
        self.jump(Table::Raw, Hook::Prerouting, Vec::new(), first);
    }

    /// For the node itself: from nodes, to the address by which they know it. A pod behind another node has that node's address if it
    /// sends to any other one of ours. In the family in which nobody listens pods are kept from it all the same.
    pub(super) fn vxlan_to_node(&self) -> Vec<Rule> {
        let Some(to) = self.taken_in_at() else { return self.vxlan_from_pods().into_iter().collect() };
        let stranger = Match::NotSet(peers(self.family), Directions::Src);
        let elsewhere = Match::NotDestination(IpNet::from(to));
        [stranger, elsewhere].map(|other| Rule::new([speaks_vxlan(), vec![other]].concat(), Target::Drop)).into()
    }

    /// From pods to any node, whatever the policies say, and whether this node is reached so or not: others may take it in.
    pub(super) fn vxlan_from_pods(&self) -> Option<Rule> {
        if self.facts.every_node.is_empty() {
            return None;
        }
        let to_nodes = vec![Match::In(Interface::AnyPod), Match::Set(every_node(self.family), Directions::Dst)];
        Some(Rule::new([speaks_vxlan(), to_nodes].concat(), Target::Drop))
    }

    /// What the verdict let in past the host's firewall.
    pub(super) fn vxlan_accepted(&self) -> Option<Rule> {
        let to = self.taken_in_at()?;
        let from = vec![Match::Set(peers(self.family), Directions::Src), to_host(to)];
        Some(Rule::new([speaks_vxlan(), from].concat(), Target::Accept))
    }

    /// The other end takes only sources of this node's range. What the node itself sends to a service has another: its source is chosen
    /// before the translation, when nobody knows by which way it leaves.
    pub(super) fn vxlan_source(&self, pods: IpNet) -> Option<Rule> {
        self.facts.vxlan.as_ref()?;
        Some(Rule::new(vec![Match::Out(Interface::Vxlan), Match::NotSource(pods)], Target::Masquerade))
    }

    /// The address at which VXLAN is taken in, if it is of this family: the device listens in no other.
    fn taken_in_at(&self) -> Option<IpAddr> {
        self.facts.vxlan.as_ref().map(|vxlan| vxlan.local).filter(|local| IpFamily::of(*local) == self.family)
    }
}

fn speaks_vxlan() -> Vec<Match> {
    vec![Match::Protocol(Protocol::Udp), Match::DestinationPorts(vec![(VXLAN_PORT, VXLAN_PORT)])]
}

/// The addresses of all nodes.
fn every_node(family: IpFamily) -> SetName {
    SetName::fixed("nodes", family)
}

/// The nodes from which VXLAN is taken in.
fn peers(family: IpFamily) -> SetName {
    SetName::fixed("vxlan", family)
}

/// The ranges that inner sources lie in.
fn inside(family: IpFamily) -> SetName {
    SetName::fixed("inside", family)
}
