//! Who can be a peer, and who stands behind an address. Decides which addresses a pod is believed to have; never reads a policy.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use minipod_model::defaults::{DNS_LABEL, DNS_NAMESPACE};
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::selector::Operator;
use minipod_model::{IpFamily, Labels, Protocol, Selector};

use crate::cluster::Cluster;
use crate::object::{Attachment, NamedPort, Pod};

/// A pod with a network and addresses of its own, or the cluster DNS.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) labels: Cow<'a, Labels>,
    pub(crate) ports: Cow<'a, [NamedPort]>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// All members of the cluster, found by namespace and by address.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    all: Vec<Member<'a>>,
    by_namespace: BTreeMap<&'a str, Vec<usize>>,
    /// addresses that several claim, with all who do
    contested: BTreeMap<IpAddr, Vec<usize>>,
    namespaces: BTreeMap<&'a str, KnownLabels<'a>>,
}

/// What is known of a namespace's labels.
#[derive(Debug)]
pub(crate) struct KnownLabels<'a> {
    labels: Cow<'a, Labels>,
    /// the object was seen; else only the name is known and other labels may come
    complete: bool,
}

impl<'a> KnownLabels<'a> {
    fn of(cluster: &'a Cluster, name: &str) -> Self {
        if let Some(namespace) = cluster.namespaces.get(name) {
            return Self { labels: Cow::Borrowed(&namespace.labels), complete: true };
        }
        let only_name = [(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())].into();
        Self { labels: Cow::Owned(only_name), complete: false }
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

impl<'a> Members<'a> {
    pub(crate) fn of(cluster: &'a Cluster) -> Self {
        let all = members(cluster);
        let mut by_namespace: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, member) in all.iter().enumerate() {
            by_namespace.entry(member.namespace).or_default().push(index);
        }
        let contested = contested(&all);
        let namespaces = by_namespace.keys().map(|name| (*name, KnownLabels::of(cluster, name))).collect();
        Self { all, by_namespace, contested, namespaces }
    }

    pub(crate) fn get(&self, index: usize) -> &Member<'a> {
        &self.all[index]
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// The members of one namespace.
    pub(crate) fn in_namespace(&self, name: &str) -> &[usize] {
        self.by_namespace.get(name).map_or(&[], Vec::as_slice)
    }

    /// The namespaces that have members, with what is known of their labels.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = (&str, &KnownLabels<'a>)> {
        self.namespaces.iter().map(|(name, labels)| (*name, labels))
    }

    /// Whether something is true of everyone who claims an address of member `index`: of two claimants only what both are allowed is allowed
    /// (semantics, ruling 17).
    pub(crate) fn all_claimants(&self, index: usize, address: IpAddr, is_true: impl Fn(usize) -> bool) -> bool {
        match self.contested.get(&address) {
            None => is_true(index),
            Some(claimants) => claimants.iter().all(|claimant| is_true(*claimant)),
        }
    }
}

fn contested(all: &[Member<'_>]) -> BTreeMap<IpAddr, Vec<usize>> {
    let mut seen = HashSet::with_capacity(all.len() * 2);
    let twice: HashSet<IpAddr> =
        all.iter().flat_map(|member| &member.addresses).copied().filter(|address| !seen.insert(*address)).collect();
    let mut contested: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
    if twice.is_empty() {
        return contested;
    }
    for (index, member) in all.iter().enumerate() {
        for address in member.addresses.iter().filter(|address| twice.contains(address)) {
            contested.entry(*address).or_default().push(index);
        }
    }
    contested
}

fn members(cluster: &Cluster) -> Vec<Member<'_>> {
    let here = |address: &&IpAddr| cluster.options.families.contains(&IpFamily::of(**address));
    let local = cluster.attachments.values().filter_map(|attachment| attached(cluster, attachment));
    let taken: HashSet<IpAddr> = cluster
        .attachments
        .values()
        .flat_map(|attachment| attachment.addresses.iter())
        .chain(cluster.nodes.values().flat_map(|node| node.addresses.iter()))
        .chain(&cluster.options.cluster_dns)
        .copied()
        .collect();
    let remote = cluster.pods.values().filter(|pod| is_remote(cluster, pod)).map(|pod| Member {
        namespace: &pod.key.namespace,
        labels: Cow::Borrowed(&pod.labels),
        ports: Cow::Borrowed(&pod.ports),
        addresses: pod.addresses.iter().filter(here).filter(|address| !taken.contains(address)).copied().collect(),
    });
    let mut all: Vec<Member<'_>> = local.chain(cluster_dns(cluster)).collect();
    for member in &mut all {
        member.addresses.retain(|address| here(&address));
    }
    all.extend(remote);
    all.retain(|member| !member.addresses.is_empty());
    all
}

/// A sandbox of this node: what its interface has is true whatever a status says.
fn attached<'a>(cluster: &'a Cluster, attachment: &'a Attachment) -> Option<Member<'a>> {
    let (labels, ports) = match (cluster.pod_of(attachment), &attachment.labels) {
        (Some(pod), _) => (&pod.labels, pod.ports.as_slice()),
        (None, Some(labels)) => (labels, &[][..]),
        (None, None) => return None,
    };
    Some(Member {
        namespace: &attachment.pod.namespace,
        labels: Cow::Borrowed(labels),
        ports: Cow::Borrowed(ports),
        addresses: attachment.addresses.clone(),
    })
}

/// A pod of another node whose network is there as far as its object tells (semantics, rulings 9 and 17).
fn is_remote(cluster: &Cluster, pod: &Pod) -> bool {
    !pod.host_network && !pod.finished && pod.node.as_ref() != Some(&cluster.options.node)
}

/// The virtual pod that stands for the cluster DNS (semantics, ruling 19), with the port names of the usual deployment.
fn cluster_dns(cluster: &Cluster) -> Option<Member<'_>> {
    let port = |name: &str, protocol| NamedPort { name: name.to_owned(), protocol, number: 53 };
    (!cluster.options.cluster_dns.is_empty()).then(|| Member {
        namespace: DNS_NAMESPACE,
        labels: Cow::Owned([(DNS_LABEL.0.to_owned(), DNS_LABEL.1.to_owned())].into()),
        ports: Cow::Owned(vec![port("dns", Protocol::Udp), port("dns-tcp", Protocol::Tcp)]),
        addresses: cluster.options.cluster_dns.clone(),
    })
}
