//! Pods.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use minipod_model::PodKey;

use super::{one_per_family, port, protocol};
use crate::object::{NamedPort, Pod, port_number};

/// Under which the kubelet tells the CNI plugin the UID of a static pod; the mirror object in the API has another.
const STATIC_UID_ANNOTATION: &str = "kubernetes.io/config.hash";

impl Pod {
    /// Reads a Pod. Addresses and ports that make no sense are left out.
    #[must_use]
    pub fn read(pod: &v1::Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(STATIC_UID_ANNOTATION));
        Self {
            key: PodKey::new(
                pod.metadata.namespace.clone().unwrap_or_default(),
                pod.metadata.name.clone().unwrap_or_default(),
            ),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            static_uid: annotation.cloned(),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            node: spec.and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()),
            host_network: spec.and_then(|spec| spec.host_network) == Some(true),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            addresses: status.map(addresses).unwrap_or_default(),
            ports: spec.map(named_ports).unwrap_or_default(),
        }
    }
}

fn addresses(status: &v1::PodStatus) -> Vec<IpAddr> {
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let all: Vec<IpAddr> = listed.chain(status.pod_ip.as_deref()).filter_map(|ip| ip.parse().ok()).collect();
    one_per_family(&all)
}

/// The ports with names, in the order in which Kubernetes looks them up: containers, then init containers that keep running
/// (`restartPolicy: Always`). The first of each name and protocol counts.
fn named_ports(spec: &v1::PodSpec) -> Vec<NamedPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut named: Vec<NamedPort> = Vec::new();
    for item in spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten()) {
        let Some(name) = item.name.as_deref().filter(|name| !name.is_empty()) else { continue };
        let (Some(protocol), Some(number)) = (protocol(item.protocol.as_deref()), port(item.container_port)) else {
            continue;
        };
        if port_number(&named, name, protocol).is_none() {
            named.push(NamedPort { name: name.to_owned(), protocol, number });
        }
    }
    named
}
