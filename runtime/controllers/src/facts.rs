//! What the controllers need to know of an object, and no more: changes of anything else wake nobody.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use minipod_model::{Labels, PodKey, Protocol, Selector};

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodFacts {
    pub(crate) key: PodKey,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) labels: Labels,
    /// `spec.nodeName`
    pub(crate) node: Option<String>,
    /// `status.podIPs`
    pub(crate) addresses: Vec<IpAddr>,
    /// condition `Ready`
    pub(crate) ready: bool,
    /// deletion was asked for
    pub(crate) terminating: bool,
    /// phase Succeeded or Failed
    pub(crate) finished: bool,
    /// container ports that have a name
    pub(crate) ports: BTreeMap<(String, Protocol), u16>,
    /// message of the condition `PodScheduled` while it is false
    pub(crate) unschedulable: Option<String>,
}

impl PodFacts {
    /// `None` for an object without a name, which no server sends.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let conditions = || status.into_iter().flat_map(|s| s.conditions.iter().flatten());
        let ips = status.and_then(|s| s.pod_ips.as_deref()).unwrap_or_default();
        let only = status.and_then(|s| s.pod_ip.as_deref()).filter(|_| ips.is_empty());
        let containers = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
        let ports = containers.iter().flat_map(|c| c.ports.iter().flatten()).filter_map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP").parse().ok()?;
            Some(((port.name.clone()?, protocol), u16::try_from(port.container_port).ok()?))
        });
        let mut by_name = BTreeMap::new();
        for (name, number) in ports {
            // The first container that uses a name has it.
            by_name.entry(name).or_insert(number);
        }
        Some(Self {
            key: PodKey::new(meta.namespace.clone()?, meta.name.clone()?),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            node: spec.and_then(|s| s.node_name.clone()).filter(|node| !node.is_empty()),
            addresses: ips.iter().map(|ip| ip.ip.as_str()).chain(only).filter_map(|ip| ip.parse().ok()).collect(),
            ready: conditions().any(|c| c.type_ == "Ready" && c.status == "True"),
            terminating: meta.deletion_timestamp.is_some(),
            finished: matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")),
            ports: by_name,
            unschedulable: conditions()
                .find(|c| c.type_ == "PodScheduled" && c.status == "False")
                .map(|c| c.message.clone().unwrap_or_default()),
        })
    }

    /// Whether anything that others decide by differs.
    pub(crate) fn same_but_version(&self, other: &Self) -> bool {
        Self { resource_version: other.resource_version.clone(), ..self.clone() } == *other
    }
}

/// A service that has endpoints of ours.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServiceFacts {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// `spec.selector`; never empty
    pub(crate) selector: Selector,
    pub(crate) service: Service,
}

impl ServiceFacts {
    /// `None` for a service whose endpoints are not ours to make: without a selector, or a mere name.
    pub(crate) fn of(service: &Service) -> Option<Self> {
        let meta = &service.metadata;
        let spec = service.spec.as_ref()?;
        let labels = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let selector = k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
            match_labels: Some(labels.clone()),
            match_expressions: None,
        };
        let mut service = service.clone();
        service.metadata.resource_version = None;
        service.metadata.managed_fields = None;
        Some(Self {
            namespace: meta.namespace.clone()?,
            name: meta.name.clone()?,
            uid: meta.uid.clone().unwrap_or_default(),
            selector: Selector::from_object(&selector).ok()?,
            service,
        })
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) name: String,
    /// condition `Ready`, and not being deleted
    pub(crate) ready: bool,
    /// `spec.unschedulable`
    pub(crate) cordoned: bool,
}

impl NodeFacts {
    pub(crate) fn of(node: &Node) -> Option<Self> {
        let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let ready = conditions.clone().any(|c| c.type_ == "Ready" && c.status == "True");
        let cordoned = node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true));
        Some(Self {
            name: node.metadata.name.clone()?,
            ready: ready && node.metadata.deletion_timestamp.is_none(),
            cordoned,
        })
    }

    /// Whether it takes pods.
    pub(crate) fn schedulable(&self) -> bool {
        self.ready && !self.cordoned
    }
}
