//! The reference evaluator: whether a packet may pass, read straight off the objects, one rule after the other. Slow on purpose and
//! apart from the compiler; where the two differ one of them is wrong.

use std::net::IpAddr;

use minipod_model::defaults::{DNS_LABEL, DNS_NAMESPACE};
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::selector::Operator;
use minipod_model::{Labels, PodKey, Protocol, Selector};

use crate::cluster::Cluster;
use crate::object::{
    NamedPort, ObjectKey, Peer, PeerNamespaces, Policy, PortNumbers, RulePeers, RulePorts, port_number,
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
    /// VXLAN to a node, which is between nodes alone (ruling 18)
    NotANode {
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
        !matches!(self, Self::Denied { .. } | Self::NotDns { .. } | Self::NotANode { .. } | Self::Unknown { .. })
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
    let is_node = || cluster.nodes.values().any(|node| node.addresses.contains(&other));
    if direction == Direction::Egress && cluster.options.other_nodes && packet.transport.is_vxlan() && is_node() {
        return Decision::NotANode { pod };
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

    let others = claimants(cluster, other);
    let mut isolating = Vec::new();
    let mut allowing = Vec::new();
    let mut is_allowed = vec![false; others.len()];
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
            let mut allows_any = false;
            for (claimant, is_allowed) in others.iter().zip(&mut is_allowed) {
                // Whose port it is: the destination's.
                let ports = if direction == Direction::Ingress { resident.ports } else { &claimant.ports };
                if peers_match(cluster, policy, &rule.peers, other, claimant) && ports_match(&rule.ports, ports, packet)
                {
                    (allows_any, *is_allowed) = (true, true);
                }
            }
            if allows_any {
                allowing.push((policy.key.clone(), rule.index));
            }
        }
    }
    match (isolating.is_empty(), is_allowed.iter().all(|allowed| *allowed)) {
        (true, _) => Decision::NotIsolated { pod },
        (false, true) => Decision::Allowed { pod, by: allowing },
        (false, false) => Decision::Denied { pod, by: isolating },
    }
}

/// Who may stand behind the address of the other end.
struct Claimant {
    /// namespace and labels; `None`: nobody who can be selected
    member: Option<(String, Labels)>,
    ports: Vec<NamedPort>,
}

/// Everyone who claims an address; at least one, if only nobody. A packet must be allowed for each of them, by whichever rule
/// (ruling 17).
fn claimants(cluster: &Cluster, address: IpAddr) -> Vec<Claimant> {
    if cluster.options.cluster_dns.contains(&address) {
        let labels = Labels::from([(DNS_LABEL.0.to_owned(), DNS_LABEL.1.to_owned())]);
        let port = |name: &str, protocol| NamedPort { name: name.to_owned(), protocol, number: 53 };
        let ports = vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)];
        return vec![Claimant { member: Some((DNS_NAMESPACE.to_owned(), labels)), ports }];
    }
    let residents = residents(cluster, address).into_iter().map(|resident| Claimant {
        member: resident.labels.map(|labels| (resident.pod.namespace, labels)),
        ports: resident.ports.to_vec(),
    });
    let mut claimants: Vec<Claimant> = residents.collect();
    if claimants.is_empty() {
        claimants.push(Claimant { member: None, ports: Vec::new() });
    }
    claimants
}

fn peers_match(cluster: &Cluster, policy: &Policy, peers: &RulePeers, other: IpAddr, claimant: &Claimant) -> bool {
    let RulePeers::Listed(peers) = peers else { return true };
    peers.iter().any(|peer| match peer {
        Peer::Block(block) => {
            block.cidr.contains(&other)
                && !block.except.iter().any(|except| except.contains(&other))
                && !cluster.options.cluster_dns.contains(&other)
        }
        Peer::Pods { namespaces, pods } => claimant.member.as_ref().is_some_and(|(namespace, labels)| {
            let in_namespace = match namespaces {
                PeerNamespaces::Own => *namespace == policy.key.namespace,
                PeerNamespaces::Selected(selector) => is_selected(cluster, namespace, selector),
            };
            in_namespace && pods.matches(labels)
        }),
    })
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

/// `named` are the ports of the destination.
fn ports_match(ports: &RulePorts, named: &[NamedPort], packet: &Packet) -> bool {
    let RulePorts::Listed(ports) = ports else { return true };
    let Transport::Port(protocol, number) = packet.transport else { return false };
    ports.iter().filter(|port| port.protocol == protocol).any(|port| match &port.numbers {
        PortNumbers::Every => true,
        PortNumbers::Range(first, last) => (*first..=*last).contains(&number),
        PortNumbers::Named(name) => port_number(named, name, protocol) == Some(number),
    })
}
