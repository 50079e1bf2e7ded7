//! Service addresses and where their connections go. Decides which endpoints count; never which of them a connection gets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use minipod_model::IpFamily;

use crate::cluster::Cluster;
use crate::intent::{Backends, Frontend};
use crate::object::{EndpointSlice, Service, ServiceKind, ServicePort};

/// Every cluster IP and port of this cluster. Headless services and external names have none; neither has the cluster DNS that this node
/// answers itself. Of two services that claim the same address and port the first by name has it.
pub(crate) fn frontends(cluster: &Cluster) -> BTreeMap<Frontend, Backends> {
    let mut slices: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in cluster.slices.values() {
        if let Some(service) = &slice.service {
            slices.entry((&slice.key.namespace, service)).or_default().push(slice);
        }
    }
    let mut frontends = BTreeMap::new();
    for service in cluster.services.values() {
        let ServiceKind::ClusterIp(addresses) = &service.kind else { continue };
        let slices = slices.get(&(service.key.namespace.as_str(), service.key.name.as_str()));
        let slices = slices.map_or(&[][..], Vec::as_slice);
        for &address in addresses.iter().filter(|address| serves(cluster, **address)) {
            for port in &service.ports {
                let frontend = Frontend { address, protocol: port.protocol, port: port.port };
                frontends.entry(frontend).or_insert_with(|| backends(cluster, service, port, slices, address));
            }
        }
    }
    frontends
}

fn serves(cluster: &Cluster, address: IpAddr) -> bool {
    let options = &cluster.options;
    options.families.contains(&IpFamily::of(address)) && !options.cluster_dns.contains(&address)
}

fn backends(
    cluster: &Cluster,
    service: &Service,
    port: &ServicePort,
    slices: &[&EndpointSlice],
    address: IpAddr,
) -> Backends {
    let mut endpoints = BTreeSet::new();
    for slice in slices {
        // A slice lists the target ports under the names of the service's ports.
        let targets = slice.ports.iter().filter(|target| target.name == port.name && target.protocol == port.protocol);
        for target in targets {
            let usable = slice.endpoints.iter().filter(|endpoint| {
                let here = !service.node_local || endpoint.node.as_ref() == Some(&cluster.options.node);
                endpoint.ready && here && IpFamily::of(endpoint.address) == IpFamily::of(address)
            });
            endpoints.extend(usable.map(|endpoint| (endpoint.address, target.port)));
        }
    }
    let port_name = if port.name.is_empty() { port.port.to_string() } else { port.name.clone() };
    Backends {
        name: format!("{}:{port_name}", service.key),
        endpoints: endpoints.into_iter().collect(),
        affinity_seconds: service.affinity_seconds,
    }
}
