//! From the objects to the intent: for every pod of this node the policies that select it, their rules merged, the merged rules
//! named by their content. Decides what is allowed; knows nothing of chains and sets.

mod merge;
mod naming;
mod peers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use minipod_model::{IpFamily, Labels, PodKey, Protocol};

use crate::cluster::Cluster;
use crate::compile::merge::{Merged, Who};
use crate::compile::peers::{PeerSet, PodPeer};
use crate::intent::{
    Allowed, Endpoint, GroupId, Intent, Pair, PairsId, PeerGroup, Peers, PortClass, Signature, SignatureId,
};
use crate::members::Members;
use crate::nets::NetSet;
use crate::object::{NamedPort, ObjectKey, Policy, PortNumbers, Rule, RulePort, RulePorts, port_number};
use crate::services;

/// Everything that the objects ask of this node.
pub(crate) fn compile(cluster: &Cluster) -> Intent {
    let mut compiler = Compiler::new(cluster);
    let endpoints = compiler.endpoints();
    compiler.expected();
    Intent {
        endpoints,
        signatures: compiler.signatures,
        groups: compiler.groups,
        pairs: compiler.pairs,
        services: services::frontends(cluster),
        cluster_dns: cluster.options.cluster_dns.iter().copied().collect(),
    }
}

struct Compiler<'a> {
    cluster: &'a Cluster,
    members: Members<'a>,
    policies_by_namespace: BTreeMap<&'a str, Vec<&'a Policy>>,
    dns: NetSet,
    /// the members behind every peer that occurred
    matching: HashMap<PodPeer, Vec<usize>>,
    /// what was compiled for the same policies and the same numbers before
    compiled: BTreeMap<Cause<'a>, SignatureId>,
    signatures: BTreeMap<SignatureId, Signature>,
    groups: BTreeMap<GroupId, PeerGroup>,
    pairs: BTreeMap<PairsId, BTreeSet<Pair>>,
}

/// All that a signature follows from: the policies that select a pod, and its numbers for the names that their ingress rules use.
type Cause<'a> = (Vec<&'a ObjectKey>, Vec<Option<u16>>);

/// Whom rules are for: a pod of this node, attached or expected.
struct Subject<'a> {
    namespace: &'a str,
    labels: &'a Labels,
    ports: &'a [NamedPort],
}

impl<'a> Compiler<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let mut policies_by_namespace: BTreeMap<&str, Vec<&Policy>> = BTreeMap::new();
        for policy in cluster.policies.values() {
            policies_by_namespace.entry(&policy.key.namespace).or_default().push(policy);
        }
        let dns = cluster.options.cluster_dns.iter().map(|address| NetSet::of((*address).into()));
        Self {
            cluster,
            members: Members::of(cluster),
            policies_by_namespace,
            dns: dns.fold(NetSet::default(), |all, one| all.union(&one)),
            matching: HashMap::new(),
            compiled: BTreeMap::new(),
            signatures: BTreeMap::new(),
            groups: BTreeMap::new(),
            pairs: BTreeMap::new(),
        }
    }

    fn endpoints(&mut self) -> BTreeMap<minipod_model::LinkName, Endpoint> {
        let cluster = self.cluster;
        let mut endpoints = BTreeMap::new();
        for attachment in cluster.attachments.values() {
            let signature = match (cluster.pod_of(attachment), &attachment.labels) {
                (Some(pod), _) => {
                    self.signature(&Subject { namespace: &pod.key.namespace, labels: &pod.labels, ports: &pod.ports })
                }
                (None, Some(labels)) => {
                    self.signature(&Subject { namespace: &attachment.pod.namespace, labels, ports: &[] })
                }
                (None, None) => self.sealed(),
            };
            let addresses = IpFamily::ALL.into_iter().filter(|family| cluster.options.families.contains(family));
            let addresses: Vec<IpAddr> = addresses
                .filter_map(|family| attachment.addresses.iter().find(|a| IpFamily::of(**a) == family).copied())
                .collect();
            let endpoint = Endpoint { pod: attachment.pod.clone(), addresses, signature };
            endpoints.insert(attachment.link.clone(), endpoint);
        }
        endpoints
    }

    /// Pods of this node that are going to be attached: their rules are made ready.
    fn expected(&mut self) {
        let cluster = self.cluster;
        let attached: BTreeSet<&PodKey> = cluster
            .attachments
            .values()
            .filter_map(|attachment| cluster.pod_of(attachment).map(|pod| &pod.key))
            .collect();
        for pod in cluster.pods.values() {
            let here = pod.node.as_ref() == Some(&cluster.options.node);
            if here && !pod.host_network && !pod.finished && !attached.contains(&pod.key) {
                self.signature(&Subject { namespace: &pod.key.namespace, labels: &pod.labels, ports: &pod.ports });
            }
        }
    }

    /// An interface whose pod object is gone or another one's: nothing opens it again, so nothing passes (semantics, ruling 5).
    fn sealed(&mut self) -> SignatureId {
        self.keep(Signature { ingress: Some(Allowed::default()), egress: Some(Allowed::default()) })
    }

    fn signature(&mut self, subject: &Subject<'_>) -> SignatureId {
        let in_namespace = self.policies_by_namespace.get(subject.namespace).map_or(&[][..], Vec::as_slice);
        let selecting: Vec<&Policy> =
            in_namespace.iter().filter(|policy| policy.subjects.matches(subject.labels)).copied().collect();

        let names = selecting.iter().flat_map(|policy| policy.ingress.iter().flatten()).flat_map(named_ports);
        let numbers = names.map(|(name, protocol)| port_number(subject.ports, name, protocol)).collect();
        let cause = (selecting.iter().map(|policy| &policy.key).collect(), numbers);
        if let Some(id) = self.compiled.get(&cause) {
            return id.clone();
        }
        let id = self.compile_signature(subject, &selecting);
        self.compiled.insert(cause, id.clone());
        id
    }

    fn compile_signature(&mut self, subject: &Subject<'_>, selecting: &[&Policy]) -> SignatureId {
        let ingress: Vec<_> = selecting.iter().filter_map(|policy| policy.ingress.as_ref()).flatten().collect();
        let ingress_isolated = selecting.iter().any(|policy| policy.ingress.is_some());
        // Ingress is judged on the pod itself, so its own numbers stand for the names (semantics, ruling 12).
        let ingress: Vec<Rule> = ingress.into_iter().filter_map(|rule| with_numbers(rule, subject.ports)).collect();
        let ingress = ingress_isolated.then(|| Merged::of(subject.namespace, ingress.iter()));

        let egress = selecting.iter().filter_map(|policy| policy.egress.as_ref()).flatten();
        let egress_isolated = selecting.iter().any(|policy| policy.egress.is_some());
        let egress = egress_isolated.then(|| Merged::of(subject.namespace, egress));

        let signature = Signature {
            ingress: ingress.map(|merged| self.allowed(merged)),
            egress: egress.map(|merged| self.allowed(merged)),
        };
        self.keep(signature)
    }

    fn keep(&mut self, signature: Signature) -> SignatureId {
        let id = naming::signature(&signature);
        self.signatures.insert(id.clone(), signature);
        id
    }

    fn allowed(&mut self, merged: Merged) -> Allowed {
        let any_port = merged.any_port.map(|who| self.peers(&who));
        let ports = merged.classes.into_iter().map(|class| PortClass {
            protocol: class.protocol,
            ranges: class.ranges,
            peers: self.peers(&class.who),
        });
        let ports = ports.collect();
        let named = merged.named.into_iter().map(|((name, protocol), who)| self.named(&who, &name, protocol));
        Allowed { any_port, ports, named: named.collect() }
    }

    fn peers(&mut self, who: &Who) -> Peers {
        match who {
            Who::Everyone => Peers::Everyone,
            Who::Some(set) => {
                let id = naming::group(set);
                if !self.groups.contains_key(&id) {
                    let group = self.group(set);
                    self.groups.insert(id.clone(), group);
                }
                Peers::Group(id)
            }
        }
    }

    /// For every member whether it is selected by label.
    fn selected(&mut self, set: &PeerSet) -> Vec<bool> {
        let mut selected = vec![false; self.members.len()];
        for peer in &set.pods {
            if !self.matching.contains_key(peer) {
                self.matching.insert(peer.clone(), peer.matching(&self.members));
            }
            for index in self.matching.get(peer).into_iter().flatten() {
                selected[*index] = true;
            }
        }
        selected
    }

    fn group(&mut self, set: &PeerSet) -> PeerGroup {
        let selected = self.selected(set);
        let mut pods = Vec::new();
        for index in (0..selected.len()).filter(|index| selected[*index]) {
            let addresses = self.members.get(index).addresses.iter();
            pods.extend(addresses.filter(|a| self.members.all_claimants(index, **a, |claimant| selected[claimant])));
        }
        let nets = set.nets.without(&self.dns).prefixes().into_iter();
        let nets = nets.filter(|net| self.cluster.options.families.contains(&IpFamily::of(net.addr())));
        PeerGroup { pods: pods.into_iter().collect(), nets: nets.collect() }
    }

    fn named(&mut self, who: &Who, name: &str, protocol: Protocol) -> PairsId {
        let id = naming::pairs(who, name, protocol);
        if !self.pairs.contains_key(&id) {
            let pairs = self.pairs_of(who, name, protocol);
            self.pairs.insert(id.clone(), pairs);
        }
        id
    }

    /// Every address that `who` covers together with the number that its pod gave the name. Of an address that several claim
    /// only a number on which all agree (semantics, ruling 17).
    fn pairs_of(&mut self, who: &Who, name: &str, protocol: Protocol) -> BTreeSet<Pair> {
        let selected = match who {
            Who::Everyone => vec![true; self.members.len()],
            Who::Some(set) => self.selected(set),
        };
        let in_nets = |address| match who {
            Who::Everyone => false,
            Who::Some(set) => set.nets.contains(address) && !self.dns.contains(address),
        };
        let number = |index: usize| port_number(&self.members.get(index).ports, name, protocol);
        let mut pairs = BTreeSet::new();
        for index in 0..self.members.len() {
            let Some(port) = number(index) else { continue };
            for &address in &self.members.get(index).addresses {
                let covered = in_nets(address) || self.members.all_claimants(index, address, |other| selected[other]);
                if covered && self.members.all_claimants(index, address, |other| number(other) == Some(port)) {
                    pairs.insert(Pair { address, protocol, port });
                }
            }
        }
        pairs
    }
}

/// The ports of a rule that are given by name.
fn named_ports(rule: &Rule) -> impl Iterator<Item = (&str, Protocol)> {
    let listed = match &rule.ports {
        RulePorts::Every => &[][..],
        RulePorts::Listed(listed) => listed,
    };
    listed.iter().filter_map(|port| match &port.numbers {
        PortNumbers::Named(name) => Some((name.as_str(), port.protocol)),
        PortNumbers::Every | PortNumbers::Range(..) => None,
    })
}

/// The rule with the pod's numbers in place of port names; `None` if no port is left, since a list without ports would mean all.
fn with_numbers(rule: &Rule, own: &[NamedPort]) -> Option<Rule> {
    let RulePorts::Listed(listed) = &rule.ports else { return Some(rule.clone()) };
    let numbers = listed.iter().filter_map(|port| match &port.numbers {
        PortNumbers::Named(name) => {
            let number = port_number(own, name, port.protocol)?;
            Some(RulePort { protocol: port.protocol, numbers: PortNumbers::Range(number, number) })
        }
        PortNumbers::Every | PortNumbers::Range(..) => Some(port.clone()),
    });
    let numbers: Vec<RulePort> = numbers.collect();
    (!numbers.is_empty()).then(|| Rule { ports: RulePorts::Listed(numbers), ..rule.clone() })
}
