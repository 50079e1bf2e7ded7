//! The verdict on packets from and to pods, in the mangle table: no ACCEPT of anybody in filter can undo a drop made here.

use std::net::IpAddr;

use ipnet::IpNet;
use minipod_model::{IpFamily, Protocol};

use super::deny::deny;
use super::gate::{FROM_POD, gate_set};
use super::{Compiler, state};
use crate::facts::PodToNode;
use crate::name::{ChainName, SetName};
use crate::spec::{Chain, ConnState, Directions, Hook, Interface, MarkValue, Match, Reason, Rule, Table, Target};

/// What the policies of the pod that a packet comes from say.
const EGRESS: &str = "EGRESS";
/// What those of the pod that it goes to say.
const INGRESS: &str = "INGRESS";

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
        self.side(EGRESS, "EGRESS-NEXT", &egress_tree(), Directions::Src);
        self.side(INGRESS, "INGRESS-NEXT", &ingress_tree(), Directions::Dst);
    }

    /// The chains of one end: a pod that is being moved has to pass the rules that it is moved to as well.
    fn side(&mut self, word: &'static str, next_word: &'static str, tree: &ChainName, side: Directions) {
        let rules_by = |map| {
            [self.clear_scratch(), Rule::always(Target::MapMark(map, side)), Rule::always(Target::Goto(tree.clone()))]
        };
        let (map, next) = (signature_set(self.family), next_set(self.family));
        let (now, then) = (rules_by(map), rules_by(next.clone()));
        let next_chain = ChainName::fixed(next_word);
        let moving = Rule::new(vec![Match::Set(next, side)], Target::Jump(next_chain.clone()));
        let is_rare = |rule: &Rule| matches!(rule.target, Target::Jump(_));
        let chain = Chain::new([moving].into_iter().chain(now).collect()).told_by(is_rare);
        self.chain(Table::Mangle, ChainName::fixed(word), chain);
        self.chain(Table::Mangle, next_chain, Chain::new(then.to_vec()));
    }

    fn forward(&mut self) {
        let verdict = ChainName::fixed("VERDICT");
        let forward = ChainName::fixed("FORWARD");
        let from = Match::In(Interface::AnyPod);
        let to = Match::Out(Interface::AnyPod);
        let enter = |m: &Match| Rule::new(vec![m.clone()], Target::Goto(verdict.clone()));
        let mut entry = Vec::from_iter(self.vxlan_from_pods());
        entry.extend([self.live(), enter(&from), enter(&to)]);
        self.chain(Table::Mangle, forward.clone(), Chain::new(entry));

        let mut rules = self.before_policy();
        // The interface of the source's registration is the one that the packet leaves by: a pod to itself (ruling 11). What it sends to its own
        // address never leaves it, so such a packet comes here by way of a service.
        let own = Match::Set(gate_set(self.family), Directions::SrcDst);
        rules.push(Rule::new(vec![Match::Translated, own], Target::Return));
        rules.push(Rule::new(vec![from], Target::Jump(ChainName::fixed(EGRESS))));
        rules.push(Rule::new(vec![to], Target::Jump(ChainName::fixed(INGRESS))));
        rules.push(self.clear_scratch());
        let is_rare = |rule: &Rule| rule.matches.contains(&Match::Translated);
        self.chain(Table::Mangle, verdict, Chain::new(rules).told_by(is_rare));
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

        let mut rules = vec![self.live()];
        rules.extend(self.before_policy());
        if self.family == IpFamily::V6 {
            let discovery = |kind| Rule::new(vec![Match::Icmpv6Type(kind), Match::HopLimit(255)], Target::Return);
            rules.extend(FROM_POD.map(discovery));
        }
        match self.facts.pod_to_node {
            PodToNode::Allow => rules.push(Rule::always(Target::Return)),
            PodToNode::Enforce => {
                rules.push(Rule::new(vec![from], Target::Jump(ChainName::fixed(EGRESS))));
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

    /// An established connection that is still allowed: nearly every packet, so nothing is asked before it.
    fn live(&self) -> Rule {
        let is_allowed = Match::ConnMark(MarkValue { value: 0, ..self.revoked_bit() });
        Rule::new(vec![state(ConnState::Established), is_allowed], Target::Return)
    }

    /// What holds for all other packets whatever the policies say.
    fn before_policy(&self) -> Vec<Rule> {
        vec![
            // A connection that was allowed once and is no more (ruling 4).
            Rule::new(vec![self.revoked()], deny(Reason::Cut)),
            // Errors about a connection; what a helper expects as RELATED is judged like anything else.
            Rule::new(vec![Match::Icmp, state(ConnState::Related)], Target::Return),
            Rule::new(vec![state(ConnState::Invalid)], Target::Drop),
            // `nf_conntrack_tcp_loose` takes a segment in the middle for a new connection, perhaps the wrong way round (ruling 4).
            Rule::new(vec![Match::Protocol(Protocol::Tcp), Match::NotSyn], Target::Drop),
        ]
    }
}

/// A destination of one address.
pub(super) fn to_host(address: IpAddr) -> Match {
    Match::Destination(IpNet::from(address))
}
