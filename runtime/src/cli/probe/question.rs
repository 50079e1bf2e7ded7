//! What is tried: from every source to every target, in each family that both have. Pure.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use minipod_model::{IpFamily, PodKey, Protocol};
use netd_policy::object::{EndpointSlice, Pod, Service, ServiceKind};
use netd_policy::{Packet, Transport};

use super::super::policy::matrix::reach::{Port, declared};
use super::source::Source;

/// What can be dialled by a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `pod` or `service`
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) doors: Vec<Door>,
}

/// An address and port, and who answers there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    /// after service translation
    pub(super) backends: Vec<SocketAddr>,
}

/// One connection to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) from: PodKey,
    /// `NAMESPACE/NAME`, of a service `service NAMESPACE/NAME`
    pub(super) to: String,
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddr,
    /// its first packet, for each backend that it may get to
    pub(super) packets: Vec<Packet>,
}

/// The pods and services that are meant and have something to dial.
pub(super) fn targets(
    pods: &[v1::Pod],
    services: &[v1::Service],
    slices: &[discovery::EndpointSlice],
    ports: &[Port],
    is_meant: impl Fn(&str, &str, &str) -> bool,
) -> Vec<Target> {
    let slices: Vec<EndpointSlice> = slices.iter().map(EndpointSlice::read).collect();
    let of_pods = pods.iter().filter_map(|pod| of_pod(pod, ports));
    let of_services = services.iter().map(|service| of_service(&Service::read(service), &slices));
    let all = of_pods.chain(of_services).filter(|target| !target.doors.is_empty());
    let mut all: Vec<Target> = all.filter(|target| is_meant(target.kind, &target.namespace, &target.name)).collect();
    all.sort_by(|a, b| (a.kind, &a.namespace, &a.name).cmp(&(b.kind, &b.namespace, &b.name)));
    all
}

fn of_pod(pod: &v1::Pod, ports: &[Port]) -> Option<Target> {
    let read = Pod::read(pod);
    let mut ports: Vec<Port> = declared(pod).chain(ports.iter().copied()).collect();
    ports.sort();
    ports.dedup();
    let door = |address: IpAddr, port: &Port| {
        let address = SocketAddr::new(address, port.number);
        Door { protocol: port.protocol, address, backends: vec![address] }
    };
    let doors = read.addresses.iter().flat_map(|address| ports.iter().map(|port| door(*address, port))).collect();
    let has_network = !read.host_network && !read.finished;
    has_network.then_some(Target { kind: "pod", namespace: read.key.namespace, name: read.key.name, doors })
}

/// Without those addresses and ports that nobody answers for. Where a node's pods get to endpoints of their node alone, it depends on the
/// node who answers: nothing is tried.
fn of_service(service: &Service, slices: &[EndpointSlice]) -> Target {
    let own = |slice: &&EndpointSlice| {
        slice.key.namespace == service.key.namespace && slice.service.as_ref() == Some(&service.key.name)
    };
    let addresses: &[IpAddr] = match &service.kind {
        ServiceKind::ClusterIp(addresses) if !service.node_local => addresses,
        _ => &[],
    };
    let mut doors = Vec::new();
    for (address, port) in addresses.iter().flat_map(|address| service.ports.iter().map(move |port| (address, port))) {
        let mut backends = Vec::new();
        for slice in slices.iter().filter(own) {
            let targets =
                slice.ports.iter().filter(|target| target.name == port.name && target.protocol == port.protocol);
            for target in targets {
                let of_family = |endpoint: IpAddr| IpFamily::of(endpoint) == IpFamily::of(*address);
                let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready && of_family(endpoint.address));
                backends.extend(ready.map(|endpoint| SocketAddr::new(endpoint.address, target.port)));
            }
        }
        if !backends.is_empty() {
            doors.push(Door { protocol: port.protocol, address: SocketAddr::new(*address, port.port), backends });
        }
    }
    Target { kind: "service", namespace: service.key.namespace.clone(), name: service.key.name.clone(), doors }
}

/// Every connection. SCTP has no sockets that could be counted on, and is left out; so is what a pod says to itself.
pub(super) fn questions(sources: &[Source], targets: &[Target]) -> Vec<Question> {
    let mut questions = Vec::new();
    for (source, target) in sources.iter().flat_map(|source| targets.iter().map(move |target| (source, target))) {
        let is_itself =
            target.kind == "pod" && target.namespace == source.pod.namespace && target.name == source.pod.name;
        for door in target.doors.iter().filter(|door| !is_itself && door.protocol != Protocol::Sctp) {
            let family = IpFamily::of(door.address.ip());
            let Some(own) = source.addresses.iter().find(|address| IpFamily::of(**address) == family) else { continue };
            let packet = |backend: &SocketAddr| Packet {
                source: *own,
                destination: backend.ip(),
                transport: Transport::Port(door.protocol, backend.port()),
            };
            let service = if target.kind == "service" { "service " } else { "" };
            questions.push(Question {
                from: source.pod.clone(),
                to: format!("{service}{}/{}", target.namespace, target.name),
                protocol: door.protocol,
                address: door.address,
                packets: door.backends.iter().map(packet).collect(),
            });
        }
    }
    questions
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::targets;

    #[test]
    fn a_service_is_dialled_at_its_addresses_and_judged_at_its_ready_endpoints() {
        let service = serde_json::from_value(json!({
            "metadata": {"namespace": "x", "name": "web"},
            "spec": {"clusterIPs": ["10.96.0.9", "fd01::9"], "ports": [{"port": 80}, {"port": 81, "name": "other"}]},
        }))
        .expect("a service");
        let endpoint = |address: &str, ready: bool| json!({"addresses": [address], "conditions": {"ready": ready}});
        let slice = serde_json::from_value(json!({
            "metadata": {"namespace": "x", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"port": 8080}],
            "endpoints": [endpoint("10.0.0.1", true), endpoint("10.0.0.2", false), endpoint("10.0.0.3", true)],
        }))
        .expect("a slice");
        let found = targets(&[], &[service], &[slice], &[], |kind, _, name| kind == "service" && name == "web");
        let [target] = found.as_slice() else { unreachable!("{found:?}") };
        let doors: Vec<String> =
            target.doors.iter().map(|door| format!("{} {:?}", door.address, door.backends)).collect();
        assert_eq!(doors, ["10.96.0.9:80 [10.0.0.1:8080, 10.0.0.3:8080]"]);
    }
}
