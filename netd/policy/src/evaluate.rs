//! The reference evaluator: whether a packet may pass, read straight off the objects, one rule after the other. Slow on purpose and
//! apart from the compiler; where the two differ one of them is wrong.

use std::net::IpAddr;

use minipod_model::defaults::{DNS_LABEL, DNS_NAMESPACE};
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::selector::Operator;
use minipod_model::{Labels, PodKey, Protocol, Selector};

use crate::cluster::Cluster;
use crate::object::{
    NamedPort, ObjectKey, Peer, PeerNamespaces, Policy, PortNumbers, Rule, RulePeers, RulePort, RulePorts, port_number,
};
use crate::packet::{Packet, Transport};

/// The verdict on a packet. It passes if both ends let it pass (semantics, ruling 2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// the source's egress
    pub egress: Decision,
    /// the destination's ingress
    pub ingress: Decision,
}

impl Verdict {
    /// Whether the packet passes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.egress.is_allowed() && self.ingress.is_allowed()
    }
}

/// The verdict of one end, with what decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// no pod with a network of its own is at this end: nothing is judged here
    NoPod,
    /// the pod reaches itself (ruling 11)
    Itself,
    /// the other end is the pod's own node, which reaches it (ruling 7) or which it may reach by option (ruling 8)
    OwnNode,
    /// the other end is the cluster DNS's address, where nothing but the cluster DNS answers, whatever the policies say (ruling 18)
    NotDns {
        /// the pod
        pod: PodKey,
    },
    /// no policy isolates the pod in this direction
    NotIsolated {
        /// the pod
        pod: PodKey,
    },
    /// isolated, and allowed by these rules
    Allowed {
        /// the pod
        pod: PodKey,
        /// every rule that allows the packet, as policy and place in the policy's list
        by: Vec<(ObjectKey, usize)>,
    },
    /// isolated, and no rule allows it
    Denied {
        /// the pod
        pod: PodKey,
        /// the policies that isolate it
        by: Vec<ObjectKey>,
    },
    /// an interface of this node whose pod object is gone: nothing passes (ruling 5)
    Unknown {
        /// the name it was attached under
        pod: PodKey,
    },
}

impl Decision {
    /// Whether this end lets the packet pass.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        !matches!(self, Self::Denied { .. } | Self::NotDns { .. } | Self::Unknown { .. })
    }
}

/// Judges a packet that is forwarded, or sent by a pod to its node. What the node itself sends to its pods is not policed at all
/// (ruling 7): the caller knows where a packet came from, its source address does not tell.
#[must_use]
pub fn verdict(cluster: &Cluster, packet: &Packet) -> Verdict {
    Verdict { egress: decide(cluster, packet, Direction::Egress), ingress: decide(cluster, packet, Direction::Ingress) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// A pod, or the cluster DNS, at an address.
struct Resident<'a> {
    pod: PodKey,
    /// `None`: a pod whose object is gone
    labels: Option<Labels>,
    ports: &'a [NamedPort],
    addresses: &'a [IpAddr],
}

/// Everyone at an address who has a network of their own. Interfaces of this node are believed before any status.
fn residents(cluster: &Cluster, address: IpAddr) -> Vec<Resident<'_>> {
    let mut here = Vec::new();
    for attachment in cluster.attachments.values() {
        if attachment.addresses.contains(&address) {
            let pod = cluster.pod_of(attachment);
            here.push(Resident {
                pod: attachment.pod.clone(),
                labels: pod.map(|pod| pod.labels.clone()).or_else(|| attachment.labels.clone()),
                ports: pod.map_or(&[], |pod| pod.ports.as_slice()),
                addresses: &attachment.addresses,
            });
        }
    }
    let is_node = cluster.nodes.values().any(|node| node.addresses.contains(&address));
    if !here.is_empty() || is_node || cluster.options.cluster_dns.contains(&address) {
        return here;
    }
    for pod in cluster.pods.values() {
        let elsewhere = pod.node.as_ref() != Some(&cluster.options.node);
        if elsewhere && !pod.host_network && !pod.finished && pod.addresses.contains(&address) {
            here.push(Resident {
                pod: pod.key.clone(),
                labels: Some(pod.labels.clone()),
                ports: &pod.ports,
                addresses: &pod.addresses,
            });
        }
    }
    here
}

fn decide(cluster: &Cluster, packet: &Packet, direction: Direction) -> Decision {
    let (own, other) = match direction {
        Direction::Egress => (packet.source, packet.destination),
        Direction::Ingress => (packet.destination, packet.source),
    };
    // Of two who claim an address only what both are allowed is allowed (ruling 17): the first who is denied decides.
    let mut decision = Decision::NoPod;
    for resident in residents(cluster, own) {
        decision = decide_for(cluster, &resident, other, packet, direction);
        if !decision.is_allowed() {
            break;
        }
    }
    decision
}

fn decide_for(
    cluster: &Cluster,
    resident: &Resident<'_>,
    other: IpAddr,
    packet: &Packet,
    direction: Direction,
) -> Decision {
    let pod = resident.pod.clone();
    if resident.addresses.contains(&other) {
        return Decision::Itself;
    }
    let own_node = cluster.nodes.get(&cluster.options.node);
    let to_own_node = own_node.is_some_and(|node| node.addresses.contains(&other));
    if direction == Direction::Egress && to_own_node && cluster.options.pod_to_node {
        return Decision::OwnNode;
    }
    if direction == Direction::Egress && cluster.options.cluster_dns.contains(&other) && !packet.transport.reaches_dns()
    {
        return Decision::NotDns { pod };
    }
    let Some(labels) = &resident.labels else { return Decision::Unknown { pod } };

    let mut isolating = Vec::new();
    let mut allowing = Vec::new();
    for policy in cluster.policies.values() {
        if policy.key.namespace != pod.namespace || !policy.subjects.matches(labels) {
            continue;
        }
        let rules = match direction {
            Direction::Ingress => &policy.ingress,
            Direction::Egress => &policy.egress,
        };
        let Some(rules) = rules else { continue };
        isolating.push(policy.key.clone());
        for rule in rules {
            if rule_allows(cluster, policy, rule, other, packet) {
                allowing.push((policy.key.clone(), rule.index));
            }
        }
    }
    match (isolating.is_empty(), allowing.is_empty()) {
        (true, _) => Decision::NotIsolated { pod },
        (false, false) => Decision::Allowed { pod, by: allowing },
        (false, true) => Decision::Denied { pod, by: isolating },
    }
}

/// Whether one rule allows the packet. The other end and the destination's port names may be claimed by several pods: then the rule
/// must hold for each of them.
fn rule_allows(cluster: &Cluster, policy: &Policy, rule: &Rule, other: IpAddr, packet: &Packet) -> bool {
    peers_match(cluster, policy, &rule.peers, other) && ports_match(cluster, &rule.ports, packet)
}

fn peers_match(cluster: &Cluster, policy: &Policy, peers: &RulePeers, other: IpAddr) -> bool {
    let RulePeers::Listed(peers) = peers else { return true };
    let in_block = peers.iter().any(|peer| match peer {
        Peer::Block(block) => {
            block.cidr.contains(&other)
                && !block.except.iter().any(|except| except.contains(&other))
                && !cluster.options.cluster_dns.contains(&other)
        }
        Peer::Pods { .. } => false,
    });
    if in_block {
        return true;
    }
    let mut candidates: Vec<(String, Option<Labels>)> =
        residents(cluster, other).into_iter().map(|resident| (resident.pod.namespace, resident.labels)).collect();
    if cluster.options.cluster_dns.contains(&other) {
        let labels = Labels::from([(DNS_LABEL.0.to_owned(), DNS_LABEL.1.to_owned())]);
        candidates.push((DNS_NAMESPACE.to_owned(), Some(labels)));
    }
    let selected = |namespace: &str, labels: &Labels| {
        peers.iter().any(|peer| match peer {
            Peer::Block(_) => false,
            Peer::Pods { namespaces, pods } => {
                let in_namespace = match namespaces {
                    PeerNamespaces::Own => namespace == policy.key.namespace,
                    PeerNamespaces::Selected(selector) => is_selected(cluster, namespace, selector),
                };
                in_namespace && pods.matches(labels)
            }
        })
    };
    !candidates.is_empty()
        && candidates
            .iter()
            .all(|(namespace, labels)| labels.as_ref().is_some_and(|labels| selected(namespace, labels)))
}

/// Whether a namespace is selected. Of one whose object was not seen only the name is known: it is selected if no label that it may
/// have could change that.
fn is_selected(cluster: &Cluster, name: &str, selector: &Selector) -> bool {
    if let Some(namespace) = cluster.namespaces.get(name) {
        return selector.matches(&namespace.labels);
    }
    let by_absence = selector.requirements().any(|requirement| {
        requirement.key() != NAMESPACE_NAME_LABEL
            && matches!(requirement.operator(), Operator::NotIn(_) | Operator::DoesNotExist)
    });
    !by_absence && selector.matches(&Labels::from([(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())]))
}

fn ports_match(cluster: &Cluster, ports: &RulePorts, packet: &Packet) -> bool {
    let RulePorts::Listed(ports) = ports else { return true };
    let Transport::Port(protocol, number) = packet.transport else { return false };
    ports.iter().any(|port| port.protocol == protocol && port_matches(cluster, port, packet.destination, number))
}

fn port_matches(cluster: &Cluster, port: &RulePort, destination: IpAddr, number: u16) -> bool {
    match &port.numbers {
        PortNumbers::Every => true,
        PortNumbers::Range(first, last) => (*first..=*last).contains(&number),
        PortNumbers::Named(name) => {
            if cluster.options.cluster_dns.contains(&destination) {
                let names = [("dns", Protocol::Udp), ("dns-tcp", Protocol::Tcp)];
                return number == 53 && names.contains(&(name.as_str(), port.protocol));
            }
            let residents = residents(cluster, destination);
            !residents.is_empty()
                && residents.iter().all(|resident| port_number(resident.ports, name, port.protocol) == Some(number))
        }
    }
}
