//! The verdict on packets from and to pods, in the mangle table: no ACCEPT of anybody in filter can undo a drop made here.

use std::net::IpAddr;

use ipnet::IpNet;
use minipod_model::{IpFamily, Protocol};

use super::deny::deny;
use super::gate::{FROM_POD, gate_set};
use super::{Compiler, state};
use crate::facts::PodToNode;
use crate::name::{ChainName, SetName};
use crate::spec::{Chain, ConnState, Directions, Hook, Interface, Match, Reason, Rule, Table, Target};

/// Where the cluster DNS answers, over UDP and TCP.
const DNS_PORT: u16 = 53;

/// The index of each local pod's signature.
pub(crate) fn signature_set(family: IpFamily) -> SetName {
    SetName::fixed("sig", family)
}

/// The index of the signature to which a pod is being moved: until the move is done both must allow.
pub(crate) fn next_set(family: IpFamily) -> SetName {
    SetName::fixed("next", family)
}

/// The tree from an index to a signature's egress chain.
pub(super) fn egress_tree() -> ChainName {
    ChainName::fixed("EGRESS-BY")
}

/// The tree from an index to a signature's ingress chain.
pub(super) fn ingress_tree() -> ChainName {
    ChainName::fixed("INGRESS-BY")
}

impl Compiler<'_> {
    pub(super) fn mangle(&mut self) {
        self.input();
        self.forward();
        for (word, next_word, tree, direction) in [
            ("EGRESS", "EGRESS-NEXT", egress_tree(), Directions::Src),
            ("INGRESS", "INGRESS-NEXT", ingress_tree(), Directions::Dst),
        ] {
            for (word, map) in [(word, signature_set(self.family)), (next_word, next_set(self.family))] {
                let rules = vec![
                    self.clear_scratch(),
                    Rule::always(Target::MapMark(map, direction)),
                    Rule::always(Target::Goto(tree.clone())),
                ];
                self.chain(Table::Mangle, ChainName::fixed(word), Chain::new(rules));
            }
        }
    }

    fn forward(&mut self) {
        let verdict = ChainName::fixed("VERDICT");
        let forward = ChainName::fixed("FORWARD");
        let from = Match::In(Interface::AnyPod);
        let to = Match::Out(Interface::AnyPod);
        let enter = |m: &Match| Rule::new(vec![m.clone()], Target::Goto(verdict.clone()));
        let mut entry = Vec::from_iter(self.vxlan_from_pods());
        entry.extend([enter(&from), enter(&to)]);
        self.chain(Table::Mangle, forward.clone(), Chain::new(entry));

        let mut rules = self.before_policy();
        // The interface of the source's registration is the one that the packet leaves by: a pod to itself (ruling 11).
        let own = Match::Set(gate_set(self.family), Directions::SrcDst);
        rules.push(Rule::new(vec![own], Target::Return));
        rules.extend(self.judged(&from, Directions::Src, "EGRESS", "EGRESS-NEXT"));
        rules.extend(self.judged(&to, Directions::Dst, "INGRESS", "INGRESS-NEXT"));
        rules.push(self.clear_scratch());
        self.chain(Table::Mangle, verdict, Chain::new(rules));
        self.jump(Table::Mangle, Hook::Forward, Vec::new(), forward);
    }

    fn input(&mut self) {
        let verdict = ChainName::fixed("VERDICT-NODE");
        let input = ChainName::fixed("INPUT");
        let from = Match::In(Interface::AnyPod);
        let mut entry = self.vxlan_to_node();
        let dns = self.family_facts.cluster_dns;
        if let Some(dns) = dns {
            let only = self.dns_only();
            entry.push(Rule::new(vec![to_host(dns)], Target::Jump(only)));
        }
        entry.extend(dns.map(|dns| Rule::new(vec![Match::In(Interface::Loopback), to_host(dns)], Target::Return)));
        entry.push(Rule::new(vec![from.clone()], Target::Goto(verdict.clone())));
        // The cluster DNS answers the node and its pods; it is no open resolver.
        entry.extend(dns.map(|dns| Rule::new(vec![to_host(dns)], Target::Drop)));
        self.chain(Table::Mangle, input.clone(), Chain::new(entry));

        let mut rules = self.before_policy();
        if self.family == IpFamily::V6 {
            let discovery = |kind| Rule::new(vec![Match::Icmpv6Type(kind), Match::HopLimit(255)], Target::Return);
            rules.extend(FROM_POD.map(discovery));
        }
        match self.facts.pod_to_node {
            PodToNode::Allow => rules.push(Rule::always(Target::Return)),
            PodToNode::Enforce => {
                rules.extend(self.judged(&from, Directions::Src, "EGRESS", "EGRESS-NEXT"));
                rules.push(self.clear_scratch());
            }
        }
        self.chain(Table::Mangle, verdict, Chain::new(rules));
        self.jump(Table::Mangle, Hook::Input, Vec::new(), input);
    }

    /// At the cluster DNS's address nothing but the cluster DNS answers: it is an address of `lo`, so every program of the node that
    /// listens on all addresses would answer there, by way of a rule that is meant for the cluster DNS.
    fn dns_only(&mut self) -> ChainName {
        let port = |protocol| vec![Match::Protocol(protocol), Match::DestinationPorts(vec![(DNS_PORT, DNS_PORT)])];
        let rules = vec![
            Rule::new(port(Protocol::Udp), Target::Return),
            Rule::new(port(Protocol::Tcp), Target::Return),
            // The node's own questions come from this address, so their answers go to it.
            Rule::new(vec![state(ConnState::Established)], Target::Return),
            Rule::new(vec![Match::Icmp], Target::Return),
            Rule::always(Target::Drop),
        ];
        let chain = ChainName::fixed("DNS-ONLY");
        self.chain(Table::Mangle, chain.clone(), Chain::new(rules));
        chain
    }

    /// What holds whatever the policies say.
    fn before_policy(&self) -> Vec<Rule> {
        vec![
            // A connection that was allowed once and is no more (ruling 4).
            Rule::new(vec![self.revoked()], deny(Reason::Cut)),
            Rule::new(vec![state(ConnState::Established)], Target::Return),
            // Errors about a connection; what a helper expects as RELATED is judged like anything else.
            Rule::new(vec![Match::Icmp, state(ConnState::Related)], Target::Return),
            Rule::new(vec![state(ConnState::Invalid)], Target::Drop),
            // `nf_conntrack_tcp_loose` takes a segment in the middle for a new connection, perhaps the wrong way round (ruling 4).
            Rule::new(vec![Match::Protocol(Protocol::Tcp), Match::NotSyn], Target::Drop),
        ]
    }

    fn judged(&self, pod: &Match, side: Directions, word: &'static str, next_word: &'static str) -> [Rule; 2] {
        let moving = Match::Set(next_set(self.family), side);
        [
            Rule::new(vec![pod.clone()], Target::Jump(ChainName::fixed(word))),
            Rule::new(vec![pod.clone(), moving], Target::Jump(ChainName::fixed(next_word))),
        ]
    }
}

/// A destination of one address.
pub(super) fn to_host(address: IpAddr) -> Match {
    Match::Destination(IpNet::from(address))
}
