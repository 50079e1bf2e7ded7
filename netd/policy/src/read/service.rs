//! Services and endpoint slices.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;

use super::{object_key, one_per_family, port, protocol};
use crate::object::{Endpoint, EndpointSlice, Service, ServiceKind, ServicePort};

/// Names the service that a slice belongs to.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// `sessionAffinityConfig.clientIP.timeoutSeconds` where it is missing (Kubernetes' default: three hours).
const AFFINITY_SECONDS: u32 = 10_800;

impl Service {
    /// Reads a Service. Ports that make no sense are left out.
    #[must_use]
    pub fn read(service: &v1::Service) -> Self {
        let empty = v1::ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&empty);
        let ports = spec.ports.iter().flatten().filter_map(|item| {
            Some(ServicePort {
                name: item.name.clone().unwrap_or_default(),
                protocol: protocol(item.protocol.as_deref())?,
                port: port(item.port)?,
            })
        });
        Self {
            key: object_key(&service.metadata),
            kind: kind(spec),
            ports: ports.collect(),
            affinity_seconds: (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| affinity_seconds(spec)),
            node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            publish_not_ready: spec.publish_not_ready_addresses == Some(true),
        }
    }
}

fn kind(spec: &v1::ServiceSpec) -> ServiceKind {
    if spec.type_.as_deref() == Some("ExternalName") {
        return ServiceKind::ExternalName(spec.external_name.clone().unwrap_or_default());
    }
    let listed = spec.cluster_ips.iter().flatten().map(String::as_str);
    let all: Vec<&str> = spec.cluster_ip.as_deref().into_iter().chain(listed).collect();
    if all.contains(&"None") {
        return ServiceKind::Headless;
    }
    let addresses: Vec<IpAddr> = all.iter().filter_map(|ip| ip.parse().ok()).collect();
    ServiceKind::ClusterIp(one_per_family(&addresses))
}

fn affinity_seconds(spec: &v1::ServiceSpec) -> u32 {
    let client_ip = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = client_ip.and_then(|client_ip| client_ip.timeout_seconds);
    seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(AFFINITY_SECONDS)
}

impl EndpointSlice {
    /// Reads an `EndpointSlice`. Endpoints without a usable address (`addressType: FQDN`) and ports without a number are left out.
    #[must_use]
    pub fn read(slice: &discovery::EndpointSlice) -> Self {
        let ports = slice.ports.iter().flatten().filter_map(|item| {
            Some(ServicePort {
                name: item.name.clone().unwrap_or_default(),
                protocol: protocol(item.protocol.as_deref())?,
                port: port(item.port?)?,
            })
        });
        Self {
            key: object_key(&slice.metadata),
            service: slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL)).cloned(),
            endpoints: slice.endpoints.iter().flatten().filter_map(endpoint).collect(),
            ports: ports.collect(),
        }
    }
}

fn endpoint(item: &discovery::Endpoint) -> Option<Endpoint> {
    let pod = item.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    Some(Endpoint {
        address: item.addresses.first()?.parse().ok()?,
        ready: item.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false),
        hostname: item.hostname.clone().filter(|name| !name.is_empty()),
        node: item.node_name.clone(),
        pod: pod.and_then(|target| target.name.clone()),
    })
}
