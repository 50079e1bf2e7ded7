//! Who can be a peer, and who stands behind an address. Decides which addresses a pod is believed to have; never reads a policy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use minipod_model::defaults::{DNS_LABEL, DNS_NAMESPACE};
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::selector::Operator;
use minipod_model::{IpFamily, Labels, Protocol, Selector};

use crate::index::Cluster;
use crate::object::{Attachment, NamedPort, Pod};

/// A pod with a network and addresses of its own, or the cluster DNS.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) ports: Vec<NamedPort>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// All members of the cluster, found by namespace and by address.
#[derive(Debug)]
pub(crate) struct Members {
    all: Vec<Member>,
    by_namespace: BTreeMap<String, Vec<usize>>,
    by_address: BTreeMap<IpAddr, Vec<usize>>,
    namespaces: BTreeMap<String, KnownLabels>,
}

/// What is known of a namespace's labels.
#[derive(Debug)]
pub(crate) struct KnownLabels {
    labels: Labels,
    /// the object was seen; else only the name is known and other labels may come
    complete: bool,
}

impl KnownLabels {
    fn of(cluster: &Cluster, name: &str) -> Self {
        match cluster.namespaces.get(name) {
            Some(namespace) => Self { labels: namespace.labels.clone(), complete: true },
            None => Self { labels: [(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())].into(), complete: false },
        }
    }

    /// Whether the namespace is selected, and stays so whatever labels are still to come: an allow may lag, a deny may not
    /// (semantics, ruling 5).
    pub(crate) fn surely_match(&self, selector: &Selector) -> bool {
        let settled = selector.requirements().all(|requirement| match requirement.operator() {
            Operator::In(_) | Operator::Exists => true,
            Operator::NotIn(_) | Operator::DoesNotExist => requirement.key() == NAMESPACE_NAME_LABEL,
        });
        (self.complete || settled) && selector.matches(&self.labels)
    }
}

impl Members {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let all = members(cluster);
        let mut by_namespace: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut by_address: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
        for (index, member) in all.iter().enumerate() {
            by_namespace.entry(member.namespace.clone()).or_default().push(index);
            for address in &member.addresses {
                by_address.entry(*address).or_default().push(index);
            }
        }
        let namespaces = by_namespace.keys().map(|name| (name.clone(), KnownLabels::of(cluster, name))).collect();
        Self { all, by_namespace, by_address, namespaces }
    }

    pub(crate) fn get(&self, index: usize) -> &Member {
        &self.all[index]
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> {
        0..self.all.len()
    }

    /// The members of one namespace.
    pub(crate) fn in_namespace(&self, name: &str) -> impl Iterator<Item = usize> {
        self.by_namespace.get(name).into_iter().flatten().copied()
    }

    /// The namespaces that have members, with what is known of their labels.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (&str, &KnownLabels)> {
        self.namespaces.iter().map(|(name, labels)| (name.as_str(), labels))
    }

    /// Everyone who claims an address. More than one: only what all of them are allowed is allowed (semantics, ruling 17).
    pub(crate) fn claimants(&self, address: IpAddr) -> &[usize] {
        self.by_address.get(&address).map_or(&[], Vec::as_slice)
    }
}

fn members(cluster: &Cluster) -> Vec<Member> {
    let attached = cluster.attachments.values().filter_map(|attachment| attached(cluster, attachment));
    let taken: BTreeSet<IpAddr> = cluster
        .attachments
        .values()
        .flat_map(|attachment| attachment.addresses.iter())
        .chain(cluster.nodes.values().flat_map(|node| node.addresses.iter()))
        .chain(&cluster.options.cluster_dns)
        .copied()
        .collect();
    let remote = cluster.pods.values().filter(|pod| is_remote(cluster, pod)).map(|pod| Member {
        namespace: pod.key.namespace.clone(),
        labels: pod.labels.clone(),
        ports: pod.ports.clone(),
        addresses: pod.addresses.iter().filter(|address| !taken.contains(address)).copied().collect(),
    });
    let mut all: Vec<Member> = attached.chain(remote).chain(cluster_dns(cluster)).collect();
    for member in &mut all {
        member.addresses.retain(|address| cluster.options.families.contains(&IpFamily::of(*address)));
    }
    all.retain(|member| !member.addresses.is_empty());
    all
}

/// A sandbox of this node: what its interface has is true whatever a status says.
fn attached(cluster: &Cluster, attachment: &Attachment) -> Option<Member> {
    let (labels, ports) = match (cluster.pod_of(attachment), &attachment.labels) {
        (Some(pod), _) => (pod.labels.clone(), pod.ports.clone()),
        (None, Some(labels)) => (labels.clone(), Vec::new()),
        (None, None) => return None,
    };
    Some(Member { namespace: attachment.pod.namespace.clone(), labels, ports, addresses: attachment.addresses.clone() })
}

/// A pod of another node whose network is there as far as its object tells (semantics, rulings 9 and 17).
fn is_remote(cluster: &Cluster, pod: &Pod) -> bool {
    !pod.host_network && !pod.finished && pod.node.as_ref() != Some(&cluster.options.node)
}

/// The virtual pod that stands for the cluster DNS (semantics, ruling 19), with the port names of the usual deployment.
fn cluster_dns(cluster: &Cluster) -> Option<Member> {
    let port = |name: &str, protocol| NamedPort { name: name.to_owned(), protocol, number: 53 };
    (!cluster.options.cluster_dns.is_empty()).then(|| Member {
        namespace: DNS_NAMESPACE.to_owned(),
        labels: [(DNS_LABEL.0.to_owned(), DNS_LABEL.1.to_owned())].into(),
        ports: vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)],
        addresses: cluster.options.cluster_dns.clone(),
    })
}
