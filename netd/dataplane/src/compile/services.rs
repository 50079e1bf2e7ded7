//! Service addresses and masquerade, in the nat table, which only the first packet of a connection meets: a tree of destinations leads to the
//! chain of the service port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use minipod_model::hash::short_hash;
use minipod_model::{IpFamily, Protocol};
use netd_policy::intent::{Backends, Frontend};

use super::Compiler;
use super::addresses::{self, Leaves};
use super::gate::gate_set;
use crate::facts::NodeFacts;
use crate::name::{ChainName, SetName};
use crate::spec::{Chain, Content, Directions, Entry, Hook, Interface, Match, Rule, SetKind, SetSpec, Table, Target};

/// Choices that one chain makes; more of them make a tree of chains, so that a service with many endpoints costs little more.
const CHOICES_MAX: usize = 8;

/// Chain kind of the ports of a service's address.
const ADDRESS: &str = "SD";
/// Chain kind of a service's port.
const SERVICE: &str = "SV";

/// What belongs to the cluster and is not masqueraded.
fn cluster_set(family: IpFamily) -> SetName {
    SetName::fixed("cluster", family)
}

/// Whether connections to the address go anywhere: there are endpoints of its family, and it is not the cluster DNS, which answers
/// on the node itself.
fn is_served(frontend: &Frontend, backends: &Backends, facts: &NodeFacts) -> bool {
    let family = IpFamily::of(frontend.address);
    let dns = facts.family(family).and_then(|facts| facts.cluster_dns);
    dns != Some(frontend.address) && backends.endpoints.iter().any(|(address, _)| IpFamily::of(*address) == family)
}

fn tag_of(frontend: &Frontend) -> String {
    let Frontend { address, protocol, port } = frontend;
    short_hash([address.to_string().as_str(), protocol.as_str(), port.to_string().as_str()], 16)
}

impl Compiler<'_> {
    pub(super) fn services(&mut self) {
        let intent = self.intent;
        let mut ports: BTreeMap<IpAddr, Vec<Rule>> = BTreeMap::new();
        for (frontend, backends) in intent.services.iter() {
            if IpFamily::of(frontend.address) != self.family || !is_served(frontend, backends, self.facts) {
                continue;
            }
            let tag = tag_of(frontend);
            let chain = ChainName::of(SERVICE, &tag);
            self.service(&chain, &tag, frontend.protocol, backends);
            let port = Match::DestinationPorts(vec![(frontend.port, frontend.port)]);
            let rule = Rule::new(vec![Match::Protocol(frontend.protocol), port], Target::Goto(chain));
            ports.entry(frontend.address).or_default().push(rule);
        }
        let leaves: Leaves =
            ports.into_iter().map(|(address, rules)| (address, self.address(address, rules))).collect();
        if leaves.is_empty() {
            return;
        }
        let root = ChainName::fixed("SERVICES");
        self.chains(Table::Nat, addresses::chains(&root, &leaves));
        for hook in [Hook::Prerouting, Hook::Output] {
            self.jump(Table::Nat, hook, Vec::new(), root.clone());
        }
    }

    /// What packets for a service's address meet: the rule of its port, or a chain with the rules of its ports.
    fn address(&mut self, address: IpAddr, rules: Vec<Rule>) -> Rule {
        if let [only] = rules.as_slice() {
            return only.clone();
        }
        let chain = ChainName::of(ADDRESS, &short_hash([address.to_string().as_str()], 16));
        self.chain(Table::Nat, chain.clone(), Chain::new(rules));
        Rule::always(Target::Goto(chain))
    }

    fn service(&mut self, chain: &ChainName, tag: &str, protocol: Protocol, backends: &Backends) {
        let family = self.family;
        let endpoints: Vec<SocketAddr> = backends
            .endpoints
            .iter()
            .filter(|(address, _)| IpFamily::of(*address) == family)
            .map(|(address, port)| SocketAddr::new(*address, *port))
            .collect();
        let is_protocol = Match::Protocol(protocol);
        let mut rules = Vec::new();
        let mut choices = Vec::new();
        for endpoint in endpoints {
            let translate = Rule::new(vec![is_protocol.clone()], Target::DestinationNat(endpoint));
            let Some(seconds) = backends.affinity_seconds else {
                choices.push(translate);
                continue;
            };
            // The clients of each endpoint are remembered by the kernel, in a set whose elements time out.
            let client_tag = short_hash([tag, endpoint.to_string().as_str()], 16);
            let clients = SetName::of("a", &client_tag, family);
            let stay = ChainName::of("SX", &client_tag);
            let remember = Rule::always(Target::Remember(clients.clone(), seconds));
            self.chain(Table::Nat, stay.clone(), Chain::new(vec![remember, translate]));
            let content = Content::Kernel;
            self.spec.sets.insert(clients.clone(), SetSpec { kind: SetKind::HashIpTimeout(family), content });
            rules.push(Rule::new(vec![Match::Set(clients, Directions::Src)], Target::Goto(stay.clone())));
            choices.push(Rule::new(vec![is_protocol.clone()], Target::Goto(stay)));
        }
        self.choose(chain, rules, &choices, Some(&backends.name));
    }

    /// The chain `name`: `rules`, then one of `choices`, each as likely as the others.
    fn choose(&mut self, name: &ChainName, mut rules: Vec<Rule>, choices: &[Rule], label: Option<&str>) {
        let share = |rule: &Rule, weight: usize, rest: usize| {
            let (Ok(weight), Ok(rest)) = (u32::try_from(weight), u32::try_from(rest)) else { return rule.clone() };
            let mut matches = rule.matches.clone();
            if weight < rest {
                matches.push(Match::Share(weight, rest));
            }
            Rule::new(matches, rule.target.clone())
        };
        let size = choices.len().div_ceil(CHOICES_MAX);
        let mut rest = choices.len();
        for (number, group) in choices.chunks(size.max(1)).enumerate() {
            if let [choice] = group {
                rules.push(share(choice, 1, rest));
            } else {
                let child = name.child(&number.to_string());
                self.choose(&child, Vec::new(), group, None);
                rules.push(share(&Rule::always(Target::Goto(child)), group.len(), rest));
            }
            rest -= group.len();
        }
        let chain = Chain::new(rules);
        let chain = match label {
            Some(label) => chain.labelled(label),
            None => chain,
        };
        self.chain(Table::Nat, name.clone(), chain);
    }

    pub(super) fn masquerade(&mut self) {
        let family = self.family;
        let mut rules = Vec::new();
        if self.family_facts.service_cidr.is_some() || !self.intent.services.is_empty() {
            // A pod that reaches itself through a service would otherwise answer itself directly and not know the connection.
            let own = Match::Set(gate_set(family), Directions::SrcDst);
            rules.push(Rule::new(vec![Match::Out(Interface::AnyPod), Match::Translated, own], Target::Masquerade));
        }
        let facts = self.family_facts;
        let of_family = |net: &&IpNet| IpFamily::of(net.addr()) == family && net.prefix_len() > 0;
        if let Some(pods) = facts.node_pod_cidr.as_ref().filter(of_family) {
            let inside = facts.cluster_pod_cidrs.iter().chain(&facts.service_cidr).chain([pods]).filter(of_family);
            let inside: BTreeSet<Entry> = inside.map(|net| Entry::Net(net.trunc())).collect();
            let set = cluster_set(family);
            self.set(set.clone(), SetKind::HashNet(family), inside);
            rules.extend(self.vxlan_source(pods.trunc()));
            let leaves = vec![
                Match::Source(pods.trunc()),
                Match::NotOut(Interface::AnyPod),
                Match::NotSet(set, Directions::Dst),
            ];
            rules.push(Rule::new(leaves, Target::Masquerade));
        }
        if !rules.is_empty() {
            let chain = ChainName::fixed("MASQUERADE");
            self.chain(Table::Nat, chain.clone(), Chain::new(rules));
            self.jump(Table::Nat, Hook::Postrouting, Vec::new(), chain);
        }
    }
}
