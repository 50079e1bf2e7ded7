//! Pods that may go out, and cannot resolve a name: their egress is isolated, and of all their policies no rule lets them reach the
//! cluster DNS over UDP and TCP (semantics, ruling 19). Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use minipod_model::Protocol;
use netd_policy::object::{Pod, Policy, PortNumbers, Rule, RulePeers, RulePorts, port_number};

use super::finding::{Check, Direction, Finding, Level};
use super::objects::{DNS_PORT, Objects, is_subject};

/// As many pods are named.
const SHOWN: usize = 3;

/// What pods have in common that one finding tells of.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Lack {
    /// which of the policies that were asked for
    place: usize,
    /// no policy lets anything out: names are not meant either
    closed: bool,
    protocols: Vec<&'static str>,
}

/// A pod is told of with the first of its policies that were asked for.
pub(super) fn find(objects: &Objects, asked: &[&Policy]) -> Vec<Finding> {
    let mut pods_by_lack: BTreeMap<Lack, Vec<&Pod>> = BTreeMap::new();
    for pod in &objects.pods {
        let isolating: Vec<&Policy> = objects.policies.iter().filter(|policy| isolates(policy, pod)).collect();
        // A policy with rules is the place to add one.
        let place = asked.iter().position(|policy| isolates(policy, pod) && has_rules(policy));
        let Some(place) = place.or_else(|| asked.iter().position(|policy| isolates(policy, pod))) else { continue };
        let protocols: Vec<&'static str> = [Protocol::Udp, Protocol::Tcp]
            .into_iter()
            .filter(|protocol| !isolating.iter().any(|policy| reaches(objects, policy, *protocol)))
            .map(Protocol::as_str)
            .collect();
        if !protocols.is_empty() {
            let closed = !isolating.iter().any(|policy| has_rules(policy));
            pods_by_lack.entry(Lack { place, closed, protocols }).or_default().push(pod);
        }
    }
    pods_by_lack.into_iter().map(|(lack, pods)| finding(asked[lack.place], &lack, &pods)).collect()
}

fn has_rules(policy: &Policy) -> bool {
    policy.egress.iter().flatten().next().is_some()
}

fn isolates(policy: &Policy, pod: &Pod) -> bool {
    policy.egress.is_some() && is_subject(policy, pod)
}

fn reaches(objects: &Objects, policy: &Policy, protocol: Protocol) -> bool {
    policy.egress.iter().flatten().any(|rule| has_peer(objects, policy, rule) && has_port(objects, rule, protocol))
}

fn has_peer(objects: &Objects, policy: &Policy, rule: &Rule) -> bool {
    match &rule.peers {
        RulePeers::Everyone => true,
        RulePeers::Listed(peers) => peers.iter().any(|peer| objects.is_peer(policy, peer, &objects.dns)),
    }
}

fn has_port(objects: &Objects, rule: &Rule, protocol: Protocol) -> bool {
    let RulePorts::Listed(ports) = &rule.ports else { return true };
    ports.iter().any(|port| {
        port.protocol == protocol
            && match &port.numbers {
                PortNumbers::Every => true,
                PortNumbers::Range(first, last) => (*first..=*last).contains(&DNS_PORT),
                PortNumbers::Named(name) => port_number(&objects.dns.ports, name, protocol) == Some(DNS_PORT),
            }
    })
}

fn finding(policy: &Policy, lack: &Lack, pods: &[&Pod]) -> Finding {
    let mut names = pods.iter().take(SHOWN).map(|pod| pod.key.name.as_str()).collect::<Vec<_>>().join(", ");
    if pods.len() > SHOWN {
        let _ = write!(names, " + {} more", pods.len() - SHOWN);
    }
    let (level, what, next) = if lack.closed {
        let what = format!("nothing at all may leave {names}, so names do not resolve there either");
        (Level::Note, what, "nothing, if that is meant".to_owned())
    } else {
        let over = lack.protocols.join(" and ");
        let what = format!("{names} may not reach the cluster DNS: no rule allows port {DNS_PORT} over {over}");
        (Level::Warning, what, format!("add an egress rule with port {DNS_PORT} over {over}"))
    };
    Finding { level, check: Check::NoDns, policy: policy.key.clone(), field: Direction::Egress.to_string(), what, next }
}
