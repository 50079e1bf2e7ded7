//! Which endpoint slices a service needs (`pkg/controller/endpointslice`, `k8s.io/endpointslice`). Pure.
//!
//! The pods of a slice have the same address family and the same numbers behind the service's target ports. A slice's name is
//! made of the service and these, so that the same state always needs the same slices.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ObjectReference, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use minipod_model::hash::short_hash;
use minipod_model::{IpFamily, Protocol};

use crate::facts::{PodFacts, ServiceFacts};

/// The label that names a slice's service.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The label that says whose a slice is.
pub(crate) const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// Its value for slices of ours.
pub(crate) const MANAGED_BY: &str = "minipod-controllers";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// The most endpoints that the API takes in one slice.
const MAX_ENDPOINTS: usize = 1000;
const HASH: usize = 10;

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SliceChange {
    Create(Box<EndpointSlice>),
    /// with the resource version of what it replaces
    Replace(Box<EndpointSlice>),
    Delete(Box<EndpointSlice>),
}

/// Ports of one service as one pod offers them.
type Ports = Vec<(String, Protocol, u16, Option<String>)>;

/// The slices that a service needs, by name.
pub(crate) fn desired_slices<'a>(
    service: &ServiceFacts,
    pods: impl Iterator<Item = &'a PodFacts>,
) -> BTreeMap<String, EndpointSlice> {
    let Some(spec) = &service.service.spec else { return BTreeMap::new() };
    let mut groups: BTreeMap<(IpFamily, Ports), Vec<Endpoint>> = BTreeMap::new();
    let publish = spec.publish_not_ready_addresses == Some(true);
    let members = pods
        .filter(|pod| pod.key.namespace == service.namespace && !pod.finished && service.selector.matches(&pod.labels));
    for pod in members {
        let ports = resolve_ports(spec, pod);
        if ports.is_empty() && spec.ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
            continue;
        }
        for family in families(spec) {
            if let Some(address) = pod.addresses.iter().find(|address| IpFamily::of(**address) == family) {
                let endpoint = endpoint(pod, *address, publish);
                groups.entry((family, ports.clone())).or_default().push(endpoint);
            }
        }
    }
    let mut slices = BTreeMap::new();
    for ((family, ports), mut endpoints) in groups {
        endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
        for (number, chunk) in endpoints.chunks(MAX_ENDPOINTS).enumerate() {
            let slice = slice(service, family, &ports, number, chunk);
            slices.insert(slice.metadata.name.clone().unwrap_or_default(), slice);
        }
    }
    slices
}

/// What takes the slices that are there to those that are needed.
pub(crate) fn changes<'a>(
    mut desired: BTreeMap<String, EndpointSlice>,
    existing: impl Iterator<Item = &'a EndpointSlice>,
) -> Vec<SliceChange> {
    let mut changes = Vec::new();
    for old in existing {
        let name = old.metadata.name.clone().unwrap_or_default();
        match desired.remove(&name) {
            None => changes.push(SliceChange::Delete(Box::new(old.clone()))),
            Some(new) if same(&new, old) => {}
            Some(mut new) => {
                new.metadata.resource_version.clone_from(&old.metadata.resource_version);
                changes.push(SliceChange::Replace(Box::new(new)));
            }
        }
    }
    let created = desired.into_values().map(|slice| SliceChange::Create(Box::new(slice)));
    // New addresses first: a service is never without those that it has.
    created.chain(changes).collect()
}

fn same(new: &EndpointSlice, old: &EndpointSlice) -> bool {
    new.endpoints == old.endpoints
        && new.ports == old.ports
        && new.address_type == old.address_type
        && new.metadata.labels == old.metadata.labels
        && new.metadata.owner_references == old.metadata.owner_references
}

fn families(spec: &ServiceSpec) -> Vec<IpFamily> {
    let given = spec.ip_families.as_deref().unwrap_or_default();
    if given.is_empty() {
        return vec![IpFamily::V4];
    }
    IpFamily::ALL.into_iter().filter(|family| given.contains(&family.to_string())).collect()
}

/// The numbers behind the service's ports on this pod; a name that the pod does not have is left out.
fn resolve_ports(spec: &ServiceSpec, pod: &PodFacts) -> Ports {
    let ports = spec.ports.as_deref().unwrap_or_default();
    ports.iter().filter_map(|port| resolve_port(port, pod)).collect()
}

fn resolve_port(port: &ServicePort, pod: &PodFacts) -> Option<(String, Protocol, u16, Option<String>)> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP").parse().ok()?;
    let number = match &port.target_port {
        None => u16::try_from(port.port).ok()?,
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok()?,
        Some(IntOrString::String(name)) => *pod.ports.get(&(name.clone(), protocol))?,
    };
    Some((port.name.clone().unwrap_or_default(), protocol, number, port.app_protocol.clone()))
}

fn endpoint(pod: &PodFacts, address: IpAddr, publish: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(publish || (pod.ready && !pod.terminating)),
            serving: Some(pod.ready),
            terminating: Some(pod.terminating),
        }),
        node_name: pod.node.clone(),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.key.namespace.clone()),
            name: Some(pod.key.name.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn slice(
    service: &ServiceFacts,
    family: IpFamily,
    ports: &Ports,
    number: usize,
    endpoints: &[Endpoint],
) -> EndpointSlice {
    let family = family.to_string();
    let ports_text = format!("{ports:?}");
    let hash = short_hash([family.as_str(), ports_text.as_str(), &number.to_string()], HASH);
    let mut labels = service.service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_LABEL.to_owned(), service.name.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    if service.service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", service.name)),
            namespace: Some(service.namespace.clone()),
            labels: Some(labels),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Service".to_owned(),
                name: service.name.clone(),
                uid: service.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        address_type: family,
        endpoints: Some(endpoints.to_vec()),
        ports: Some(ports.iter().map(port).collect()),
    }
}

fn port((name, protocol, number, app_protocol): &(String, Protocol, u16, Option<String>)) -> EndpointPort {
    EndpointPort {
        name: Some(name.clone()),
        protocol: Some(protocol.to_string()),
        port: Some(i32::from(*number)),
        app_protocol: app_protocol.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "objects are written where they are used")]

    use k8s_openapi::api::core::v1::{Pod, Service};
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use serde_json::{Value, json};

    use super::{SliceChange, changes, desired_slices};
    use crate::facts::{PodFacts, ServiceFacts};

    fn service(spec: Value) -> ServiceFacts {
        let object = json!({"metadata": {"name": "web", "namespace": "default", "uid": "s1", "labels": {"tier": "front"}}, "spec": spec});
        let service: Service = serde_json::from_value(object).expect("a service");
        ServiceFacts::of(&service).expect("a service with endpoints")
    }

    fn pod(name: &str, ips: &[&str], more: Value) -> PodFacts {
        let mut object = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {
                "phase": "Running",
                "podIPs": ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        merge(&mut object, more);
        let pod: Pod = serde_json::from_value(object).expect("a pod");
        PodFacts::of(&pod).expect("facts")
    }

    fn merge(target: &mut Value, more: Value) {
        match (target, more) {
            (Value::Object(target), Value::Object(more)) => {
                for (key, value) in more {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
            (target, more) => *target = more,
        }
    }

    /// `IPv4 http=8080 10.0.0.1(ready)`
    fn summary(slice: &EndpointSlice) -> String {
        let ports: Vec<_> = slice
            .ports
            .iter()
            .flatten()
            .map(|p| format!("{}={}", p.name.as_deref().unwrap_or_default(), p.port.unwrap_or_default()))
            .collect();
        let endpoints: Vec<_> = slice
            .endpoints
            .iter()
            .flatten()
            .map(|e| {
                let c = e.conditions.clone().unwrap_or_default();
                let flags = [(c.ready, "ready"), (c.serving, "serving"), (c.terminating, "terminating")];
                let flags: Vec<_> =
                    flags.iter().filter(|(flag, _)| *flag == Some(true)).map(|(_, name)| *name).collect();
                format!("{}({})", e.addresses[0], flags.join(" "))
            })
            .collect();
        format!("{} {} {}", slice.address_type, ports.join(","), endpoints.join(","))
    }

    #[track_caller]
    fn check(spec: Value, pods: &[PodFacts], expected: &[&str]) {
        let slices = desired_slices(&service(spec), pods.iter());
        let mut found: Vec<_> = slices.values().map(summary).collect();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn ready_pods_become_endpoints_of_each_family() {
        let pods = [pod("a", &["10.0.0.1", "fd00::1"], json!({})), pod("b", &["10.0.0.2"], json!({}))];
        let spec = json!({"selector": {"app": "web"}, "ipFamilies": ["IPv4", "IPv6"], "ports": [{"port": 80, "targetPort": 8080}]});
        check(
            spec,
            &pods,
            &["IPv4 =8080 10.0.0.1(ready serving),10.0.0.2(ready serving)", "IPv6 =8080 fd00::1(ready serving)"],
        );
    }

    #[test]
    fn pods_that_cannot_serve_are_left_out_or_marked() {
        let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        let pods = [
            pod("a", &["10.0.0.1"], not_ready.clone()),
            pod("b", &["10.0.0.2"], json!({"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}})),
            pod("c", &["10.0.0.3"], json!({"status": {"phase": "Succeeded"}})),
            pod("d", &[], json!({})),
            pod("e", &["10.0.0.5"], json!({"metadata": {"labels": {"app": "other"}}})),
            pod("f", &["10.0.0.6"], json!({"metadata": {"namespace": "elsewhere"}})),
        ];
        let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
        check(spec.clone(), &pods, &["IPv4 =80 10.0.0.1(),10.0.0.2(serving terminating)"]);
        let mut published = spec;
        published["publishNotReadyAddresses"] = true.into();
        check(published, &pods, &["IPv4 =80 10.0.0.1(ready),10.0.0.2(ready serving terminating)"]);
    }

    #[test]
    fn a_named_target_port_is_resolved_on_each_pod() {
        let other =
            json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 9090}]}]}});
        let without = json!({"spec": {"containers": [{"name": "c"}]}});
        let udp = json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "http", "protocol": "UDP", "containerPort": 1}]}]}});
        let pods = [
            pod("a", &["10.0.0.1"], json!({})),
            pod("b", &["10.0.0.2"], other),
            pod("c", &["10.0.0.3"], without),
            pod("d", &["10.0.0.4"], udp),
        ];
        let spec = json!({"selector": {"app": "web"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]});
        check(spec, &pods, &["IPv4 web=8080 10.0.0.1(ready serving)", "IPv4 web=9090 10.0.0.2(ready serving)"]);
    }

    #[test]
    fn services_without_a_selector_are_left_alone() {
        for spec in [
            json!({"ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "externalName": "x", "selector": {"a": "b"}}),
        ] {
            let service: Service =
                serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec}))
                    .expect("a service");
            assert_eq!(ServiceFacts::of(&service), None);
        }
    }

    #[test]
    fn only_what_differs_is_written() {
        let service = service(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
        let pods = [pod("a", &["10.0.0.1"], json!({}))];
        let desired = desired_slices(&service, pods.iter());
        let mut existing: Vec<_> = desired.values().cloned().collect();
        existing[0].metadata.resource_version = Some("7".to_owned());
        assert_eq!(changes(desired.clone(), existing.iter()), []);
        assert!(matches!(changes(desired.clone(), [].iter()).as_slice(), [SliceChange::Create(_)]));
        existing[0].endpoints = None;
        match changes(desired, existing.iter()).as_slice() {
            [SliceChange::Replace(slice)] => assert_eq!(slice.metadata.resource_version.as_deref(), Some("7")),
            other => assert_eq!(other, []),
        }
        assert!(matches!(
            changes(desired_slices(&service, [].iter()), existing.iter()).as_slice(),
            [SliceChange::Delete(_)]
        ));
    }
}
