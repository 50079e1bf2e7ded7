//! What the objects say of one pod, as a peer and as a subject. Decides which addresses a pod is believed to have; never reads a policy.

use std::borrow::Cow;
use std::net::IpAddr;

use minipod_model::defaults::{DNS_LABEL, DNS_NAMESPACE};
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::selector::Operator;
use minipod_model::{IpFamily, Labels, LinkName, PodKey, Protocol, Selector};

use crate::cluster::Cluster;
use crate::object::{NamedPort, Pod};

/// Who can be a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum MemberKey {
    /// a sandbox of this node
    Link(LinkName),
    /// the cluster DNS, where this node answers for it
    Dns,
    /// a pod of another node
    Pod(PodKey),
}

/// A pod with a network and addresses of its own, or the cluster DNS.
#[derive(Debug)]
pub(super) struct Member<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: Cow<'a, Labels>,
    pub(super) ports: Cow<'a, [NamedPort]>,
    /// of enabled families, none twice
    pub(super) addresses: Vec<IpAddr>,
}

/// What the objects say of a possible peer; `None`: it is none.
pub(super) fn member<'a>(cluster: &'a Cluster, key: &MemberKey) -> Option<Member<'a>> {
    let mut member = match key {
        MemberKey::Link(link) => attached(cluster, link)?,
        MemberKey::Dns => cluster_dns(cluster)?,
        MemberKey::Pod(key) => remote(cluster, key)?,
    };
    member.addresses.retain(|address| cluster.options.families.contains(&IpFamily::of(*address)));
    member.addresses.sort_unstable();
    member.addresses.dedup();
    (!member.addresses.is_empty()).then_some(member)
}

/// A sandbox of this node: what its interface has is true whatever a status says.
fn attached<'a>(cluster: &'a Cluster, link: &LinkName) -> Option<Member<'a>> {
    let attachment = cluster.attachments.get(link)?;
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
fn remote<'a>(cluster: &'a Cluster, key: &PodKey) -> Option<Member<'a>> {
    let pod = cluster.pods.get(key)?;
    let is_remote = !pod.host_network && !pod.finished && pod.node.as_ref() != Some(&cluster.options.node);
    is_remote.then(|| Member {
        namespace: &pod.key.namespace,
        labels: Cow::Borrowed(&pod.labels),
        ports: Cow::Borrowed(&pod.ports),
        addresses: pod.addresses.clone(),
    })
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

/// Whom rules are for: a sandbox of this node, or a pod of this node that is going to be attached, whose rules are made ready.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SubjectKey {
    Link(LinkName),
    Expected(PodKey),
}

/// What counts for a subject's rules.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) namespace: &'a str,
    /// `None`: an interface whose pod object is gone or another one's
    pub(super) labels: Option<&'a Labels>,
    pub(super) ports: &'a [NamedPort],
}

/// What the objects say of a possible subject; `None`: it is none. `links`: the interfaces that were attached for the pod.
pub(super) fn subject<'a>(
    cluster: &'a Cluster,
    key: &SubjectKey,
    links: impl Fn(&PodKey) -> Vec<LinkName>,
) -> Option<Subject<'a>> {
    match key {
        SubjectKey::Link(link) => {
            let attachment = cluster.attachments.get(link)?;
            let namespace = &attachment.pod.namespace;
            Some(match cluster.pod_of(attachment) {
                Some(pod) => Subject { namespace, labels: Some(&pod.labels), ports: &pod.ports },
                None => Subject { namespace, labels: attachment.labels.as_ref(), ports: &[] },
            })
        }
        SubjectKey::Expected(key) => {
            let pod = cluster.pods.get(key).filter(|pod| is_expected(cluster, pod))?;
            let mut attachments = links(key).into_iter().filter_map(|link| cluster.attachments.get(&link));
            let is_attached = attachments.any(|attachment| cluster.pod_of(attachment).is_some());
            (!is_attached).then_some(Subject {
                namespace: &pod.key.namespace,
                labels: Some(&pod.labels),
                ports: &pod.ports,
            })
        }
    }
}

fn is_expected(cluster: &Cluster, pod: &Pod) -> bool {
    pod.node.as_ref() == Some(&cluster.options.node) && !pod.host_network && !pod.finished
}

/// What is known of a namespace's labels.
#[derive(Debug)]
pub(super) struct KnownLabels<'a> {
    pub(super) labels: Cow<'a, Labels>,
    /// the object was seen; else only the name is known and other labels may come
    complete: bool,
}

impl<'a> KnownLabels<'a> {
    pub(super) fn of(cluster: &'a Cluster, name: &str) -> Self {
        if let Some(namespace) = cluster.namespaces.get(name) {
            return Self { labels: Cow::Borrowed(&namespace.labels), complete: true };
        }
        let only_name = [(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())].into();
        Self { labels: Cow::Owned(only_name), complete: false }
    }

    /// Whether the namespace is selected, and stays so whatever labels are still to come: an allow may lag, a deny may not
    /// (semantics, ruling 5).
    pub(super) fn surely_match(&self, selector: &Selector) -> bool {
        let settled = selector.requirements().all(|requirement| match requirement.operator() {
            Operator::In(_) | Operator::Exists => true,
            Operator::NotIn(_) | Operator::DoesNotExist => requirement.key() == NAMESPACE_NAME_LABEL,
        });
        (self.complete || settled) && selector.matches(&self.labels)
    }
}
