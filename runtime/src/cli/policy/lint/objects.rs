//! The objects, and whom their selectors match at present. Pods that have ended count: their labels show that a selector is spelled as
//! it was meant.

use std::collections::BTreeMap;
use std::net::IpAddr;

use minipod_model::defaults::{DNS_LABEL, DNS_NAME, DNS_NAMESPACE};
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::{Labels, PodKey, Protocol};
use netd_policy::object::{Block, NamedPort, Namespace, Peer, PeerNamespaces, Pod, Policy};

/// The number of DNS, over UDP and TCP.
pub(super) const DNS_PORT: u16 = 53;

/// What the findings are made from.
pub(super) struct Objects {
    /// those that are looked at, by name
    pub(super) policies: Vec<Policy>,
    /// with a network of their own
    pub(super) pods: Vec<Pod>,
    namespaces: BTreeMap<String, Labels>,
    /// counts as a pod for selectors (semantics, ruling 19)
    pub(super) dns: Pod,
}

impl Objects {
    pub(super) fn new(
        policies: impl Iterator<Item = Policy>,
        pods: impl Iterator<Item = Pod>,
        namespaces: impl Iterator<Item = Namespace>,
    ) -> Self {
        let mut policies: Vec<Policy> = policies.collect();
        policies.sort_by(|a, b| a.key.cmp(&b.key));
        let mut by_name: BTreeMap<String, Labels> =
            namespaces.map(|namespace| (namespace.name, namespace.labels)).collect();
        by_name
            .entry(DNS_NAMESPACE.to_owned())
            .or_insert_with(|| Labels::from([(NAMESPACE_NAME_LABEL.to_owned(), DNS_NAMESPACE.to_owned())]));
        let pods = pods.filter(|pod| !pod.host_network).collect();
        Self { policies, pods, namespaces: by_name, dns: cluster_dns() }
    }

    /// The pods that a policy is for.
    pub(super) fn subjects(&self, policy: &Policy) -> Vec<&Pod> {
        self.pods.iter().filter(|pod| is_subject(policy, pod)).collect()
    }

    /// The pods that a peer of a policy stands for; for a block those with an address in it.
    pub(super) fn peers(&self, policy: &Policy, peer: &Peer) -> Vec<&Pod> {
        self.everyone().filter(|pod| self.is_peer(policy, peer, pod)).collect()
    }

    /// Every pod, and the cluster DNS.
    pub(super) fn everyone(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().chain([&self.dns])
    }

    pub(super) fn is_peer(&self, policy: &Policy, peer: &Peer, pod: &Pod) -> bool {
        match peer {
            Peer::Pods { namespaces, pods } => {
                self.is_in(policy, namespaces, &pod.key.namespace) && pods.matches(&pod.labels)
            }
            Peer::Block(block) => pod.addresses.iter().any(|address| in_block(block, *address)),
        }
    }

    /// Whether any namespace is one of these.
    pub(super) fn any_namespace(&self, policy: &Policy, namespaces: &PeerNamespaces) -> bool {
        self.namespaces.keys().any(|name| self.is_in(policy, namespaces, name))
    }

    fn is_in(&self, policy: &Policy, namespaces: &PeerNamespaces, name: &str) -> bool {
        match namespaces {
            PeerNamespaces::Own => name == policy.key.namespace,
            PeerNamespaces::Selected(selector) => {
                self.namespaces.get(name).is_some_and(|labels| selector.matches(labels))
            }
        }
    }
}

/// Whether a policy is for a pod that has a network of its own.
pub(super) fn is_subject(policy: &Policy, pod: &Pod) -> bool {
    pod.key.namespace == policy.key.namespace && policy.subjects.matches(&pod.labels)
}

fn in_block(block: &Block, address: IpAddr) -> bool {
    block.cidr.contains(&address) && !block.except.iter().any(|except| except.contains(&address))
}

fn cluster_dns() -> Pod {
    let port = |name: &str, protocol| NamedPort { name: name.to_owned(), protocol, number: DNS_PORT };
    Pod {
        key: PodKey::new(DNS_NAMESPACE, DNS_NAME),
        uid: String::new(),
        static_uid: None,
        labels: Labels::from([(DNS_LABEL.0.to_owned(), DNS_LABEL.1.to_owned())]),
        node: None,
        host_network: false,
        finished: false,
        addresses: Vec::new(),
        ports: vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)],
    }
}
