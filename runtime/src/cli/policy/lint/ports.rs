//! Port names that nobody has at whom they are looked up, the destination (semantics, ruling 12). Pure.

use minipod_model::Protocol;
use netd_policy::object::{Peer, Pod, Policy, PortNumbers, Rule, RulePeers, RulePorts, port_number};

use super::finding::{Check, Direction, Finding, Level};
use super::objects::Objects;

pub(super) fn find(objects: &Objects, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    for direction in Direction::BOTH {
        for rule in direction.rules(policy).into_iter().flatten() {
            let RulePorts::Listed(ports) = &rule.ports else { continue };
            let Some(destinations) = destinations(objects, policy, direction, rule) else { continue };
            for (index, port) in ports.iter().enumerate() {
                let PortNumbers::Named(name) = &port.numbers else { continue };
                if destinations.iter().any(|pod| port_number(&pod.ports, name, port.protocol).is_some()) {
                    continue;
                }
                findings.push(Finding {
                    level: Level::Warning,
                    check: Check::PortNameUnknown,
                    policy: policy.key.clone(),
                    field: direction.port(rule, index),
                    what: what(&destinations, direction, name, port.protocol),
                    next: format!("name a {} containerPort `{name}`, or give its number here", port.protocol),
                });
            }
        }
    }
    findings
}

/// Who is connected to; `None` where nobody is selected, which is a finding already.
fn destinations<'a>(objects: &'a Objects, policy: &Policy, direction: Direction, rule: &Rule) -> Option<Vec<&'a Pod>> {
    let pods = match (direction, &rule.peers) {
        (Direction::Ingress, _) => objects.subjects(policy),
        (Direction::Egress, RulePeers::Everyone) => objects.everyone().collect(),
        (Direction::Egress, RulePeers::Listed(peers)) => {
            if peers.iter().any(|peer| matches!(peer, Peer::Block(_))) {
                return Some(peers.iter().flat_map(|peer| objects.peers(policy, peer)).collect());
            }
            peers.iter().flat_map(|peer| objects.peers(policy, peer)).collect()
        }
    };
    (!pods.is_empty()).then_some(pods)
}

fn what(destinations: &[&Pod], direction: Direction, name: &str, protocol: Protocol) -> String {
    let whose = match direction {
        Direction::Ingress => "no selected pod",
        Direction::Egress => "no pod among the peers",
    };
    let other = Protocol::ALL.into_iter().find(|other| {
        *other != protocol && destinations.iter().any(|pod| port_number(&pod.ports, name, *other).is_some())
    });
    let hint = other.map(|other| format!("; there is one for {other}")).unwrap_or_default();
    format!("{whose} has a {protocol} port `{name}`: allows nothing{hint}")
}
