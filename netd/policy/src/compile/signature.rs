//! The signature of a pod that some policies select.

use std::collections::{BTreeMap, BTreeSet};

use minipod_model::Protocol;

use super::merge::{Merged, Who};
use super::naming;
use super::peers::PeerSet;
use crate::intent::{Allowed, GroupId, PairsId, Peers, PortClass, Signature, SignatureId};
use crate::object::{NamedPort, Policy, PortNumbers, Rule, RulePort, RulePorts, port_number};

/// A signature and what its names stand for.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) id: SignatureId,
    pub(crate) signature: Signature,
    pub(crate) groups: BTreeMap<GroupId, PeerSet>,
    pub(crate) pairs: BTreeMap<PairsId, NamedPeers>,
}

/// Peers at the port that each of them gave a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPeers {
    pub(crate) who: Who,
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
}

/// An interface whose pod object is gone or another one's: nothing opens it again, so nothing passes (semantics, ruling 5).
pub(crate) fn sealed() -> Compiled {
    let signature = Signature { ingress: Some(Allowed::default()), egress: Some(Allowed::default()) };
    Compiled { id: naming::signature(&signature), signature, groups: BTreeMap::new(), pairs: BTreeMap::new() }
}

/// What holds for a pod of `namespace` with these `ports` that exactly the policies `selecting` select.
pub(crate) fn signature(namespace: &str, ports: &[NamedPort], selecting: &[&Policy]) -> Compiled {
    let ingress: Vec<_> = selecting.iter().filter_map(|policy| policy.ingress.as_ref()).flatten().collect();
    let ingress_isolated = selecting.iter().any(|policy| policy.ingress.is_some());
    // Ingress is judged on the pod itself, so its own numbers stand for the names (semantics, ruling 12).
    let ingress: Vec<Rule> = ingress.into_iter().filter_map(|rule| with_numbers(rule, ports)).collect();
    let ingress = ingress_isolated.then(|| Merged::of(namespace, ingress.iter()));

    let egress = selecting.iter().filter_map(|policy| policy.egress.as_ref()).flatten();
    let egress_isolated = selecting.iter().any(|policy| policy.egress.is_some());
    let egress = egress_isolated.then(|| Merged::of(namespace, egress));

    let mut names = Names::default();
    let signature = Signature {
        ingress: ingress.map(|merged| names.allowed(merged)),
        egress: egress.map(|merged| names.allowed(merged)),
    };
    Compiled { id: naming::signature(&signature), signature, groups: names.groups, pairs: names.pairs }
}

#[derive(Default)]
struct Names {
    groups: BTreeMap<GroupId, PeerSet>,
    pairs: BTreeMap<PairsId, NamedPeers>,
}

impl Names {
    fn allowed(&mut self, merged: Merged) -> Allowed {
        let any_port = merged.any_port.map(|who| self.peers(who));
        let ports = merged.classes.into_iter().map(|class| PortClass {
            protocol: class.protocol,
            ranges: class.ranges,
            peers: self.peers(class.who),
        });
        let ports = ports.collect();
        let named = merged.named.into_iter().map(|((name, protocol), who)| self.named(who, name, protocol));
        let named: BTreeSet<PairsId> = named.collect();
        Allowed { any_port, ports, named }
    }

    fn peers(&mut self, who: Who) -> Peers {
        match who {
            Who::Everyone => Peers::Everyone,
            Who::Some(set) => {
                let id = naming::group(&set);
                self.groups.insert(id.clone(), set);
                Peers::Group(id)
            }
        }
    }

    fn named(&mut self, who: Who, name: String, protocol: Protocol) -> PairsId {
        let id = naming::pairs(&who, &name, protocol);
        self.pairs.insert(id.clone(), NamedPeers { who, name, protocol });
        id
    }
}

/// The ports of a rule that are given by name.
pub(crate) fn named_ports(rule: &Rule) -> impl Iterator<Item = (&str, Protocol)> {
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
