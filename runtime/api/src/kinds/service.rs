//! Services of type `ClusterIP` (headless too) and `ExternalName` (`pkg/apis/core/validation`, `pkg/registry/core/service/storage/alloc.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use minipod_model::IpFamily;
use minipod_model::label;
use minipod_model::name::{dns_1035_label_problem, dns_label_problem, dns_subdomain_problem, port_name_problem};
use serde_json::{Value, json};

use super::Cluster;
use super::cluster::nth;
use super::network_policy::PROTOCOLS;
use super::strategy::{Context, Strategy};
use super::support::{self, Support, Table};
use crate::field::FieldErrors;

/// Prefix of the keys that hold each cluster IP for its service.
pub(super) const CLAIMS: &str = "/claims/clusterip/";

const NONE: &str = "None";
const TYPES: &[&str] = &["ClusterIP", "ExternalName"];
const AFFINITIES: &[&str] = &["ClientIP", "None"];
const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const FAMILY_POLICIES: &[&str] = &["SingleStack", "PreferDualStack", "RequireDualStack"];
const TRAFFIC_POLICIES: &[&str] = &["Cluster", "Local"];
const MAX_AFFINITY_SECONDS: i32 = 86_400;
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

pub(super) const SUPPORTED: Table = &[
    ("spec.type", Support::Any),
    ("spec.selector", Support::Any),
    ("spec.clusterIP", Support::Any),
    ("spec.clusterIPs", Support::Any),
    ("spec.ipFamilies", Support::Any),
    ("spec.ipFamilyPolicy", Support::Any),
    ("spec.ports[].name", Support::Any),
    ("spec.ports[].port", Support::Any),
    ("spec.ports[].targetPort", Support::Any),
    ("spec.ports[].protocol", Support::Any),
    ("spec.ports[].appProtocol", Support::Any),
    ("spec.ports[].nodePort", Support::Only(&["0"])),
    ("spec.sessionAffinity", Support::Any),
    ("spec.sessionAffinityConfig", Support::Any),
    ("spec.externalName", Support::Any),
    ("spec.publishNotReadyAddresses", Support::Any),
    ("spec.internalTrafficPolicy", Support::Any),
    ("spec.allocateLoadBalancerNodePorts", Support::Only(&["false"])),
];

pub(super) struct Services;

impl Strategy for Services {
    type Object = Service;

    fn name_problem(name: &str) -> Option<String> {
        dns_1035_label_problem(name)
    }

    fn begin(object: &mut Service) {
        object.status = Some(k8s_openapi::api::core::v1::ServiceStatus {
            load_balancer: Some(k8s_openapi::api::core::v1::LoadBalancerStatus::default()),
            conditions: None,
        });
    }

    fn default(object: &mut Service, cluster: &Cluster) {
        let Some(spec) = &mut object.spec else { return };
        let service_type = spec.type_.get_or_insert_with(|| "ClusterIP".to_owned()).clone();
        spec.session_affinity.get_or_insert_with(|| "None".to_owned());
        if spec.session_affinity.as_deref() == Some("ClientIP") {
            let config = spec.session_affinity_config.get_or_insert_with(SessionAffinityConfig::default);
            let client = config.client_ip.get_or_insert_with(ClientIPConfig::default);
            client.timeout_seconds.get_or_insert(DEFAULT_AFFINITY_SECONDS);
        } else {
            spec.session_affinity_config = None;
        }
        for port in spec.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
            if matches!(&port.target_port, None | Some(IntOrString::Int(0))) {
                port.target_port = Some(IntOrString::Int(port.port));
            }
        }
        if service_type == "ClusterIP" {
            spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
            default_addresses(spec, cluster);
        }
    }

    fn refuse_unsupported(value: &Value, errors: &mut FieldErrors) {
        if let Some(service_type @ ("NodePort" | "LoadBalancer")) = value.pointer("/spec/type").and_then(Value::as_str)
        {
            errors.forbidden(
                "spec.type",
                format!("services of type {service_type} are not supported by minipod; use ClusterIP"),
            );
        }
        support::refuse_unsupported(SUPPORTED, &[], value, errors);
    }

    fn validate(object: &Service, cluster: &Cluster, errors: &mut FieldErrors) {
        let Some(spec) = &object.spec else {
            return errors.required("spec.ports", "");
        };
        match spec.type_.as_deref().unwrap_or_default() {
            // Refused by name already.
            "NodePort" | "LoadBalancer" => return,
            other if !TYPES.contains(&other) => errors.not_supported("spec.type", other, TYPES),
            _ => {}
        }
        for (key, value) in spec.selector.iter().flatten() {
            errors.check("spec.selector", key, label::key_problem(key));
            errors.check("spec.selector", value, label::value_problem(value));
        }
        validate_ports(spec, errors);
        validate_affinity(spec, errors);
        if is_external_name(spec) {
            validate_external_name(spec, errors);
        } else {
            validate_addresses(spec, cluster, errors);
        }
    }

    fn inherit(new: &mut Service, old: &Service) {
        let (Some(new), Some(old)) = (&mut new.spec, &old.spec) else { return };
        if is_external_name(new) || is_external_name(old) {
            return;
        }
        if new.cluster_ip.as_deref().unwrap_or_default().is_empty() && empty(new.cluster_ips.as_deref()) {
            new.cluster_ip.clone_from(&old.cluster_ip);
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if empty(new.ip_families.as_deref()) {
            new.ip_families.clone_from(&old.ip_families);
        }
        if new.ip_family_policy.is_none() {
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
    }

    fn validate_update(new: &Service, old: &Service, errors: &mut FieldErrors) {
        let (Some(new), Some(old)) = (&new.spec, &old.spec) else { return };
        if is_external_name(new) || is_external_name(old) {
            return;
        }
        let before = old.cluster_ips.as_deref().unwrap_or_default();
        let after = new.cluster_ips.as_deref().unwrap_or_default();
        for (index, old) in before.iter().enumerate() {
            if after.get(index) != Some(old) {
                errors.invalid(format!("spec.clusterIPs[{index}]"), json!(after), "may not change once set");
            }
        }
        let families = old.ip_families.as_deref().unwrap_or_default();
        if new.ip_families.as_deref().unwrap_or_default() != families {
            errors.invalid("spec.ipFamilies", json!(new.ip_families), "may not change once set");
        }
    }

    fn allocate(object: &mut Service, context: &Context<'_>, errors: &mut FieldErrors) {
        let Some(spec) = &mut object.spec else { return };
        if is_external_name(spec) {
            spec.cluster_ip = None;
            spec.cluster_ips = None;
            return;
        }
        let mut addresses = spec.cluster_ips.clone().unwrap_or_default();
        if addresses.first().is_some_and(|address| address == NONE) {
            return;
        }
        let families = spec.ip_families.clone().unwrap_or_default();
        for (index, family) in families.iter().enumerate() {
            let Some(range) = family_of(family).and_then(|family| context.cluster.range(family)) else { continue };
            match addresses.get(index) {
                Some(address) => {
                    if context.taken.contains(address) {
                        let detail = format!("failed to allocate IP {address}: provided IP is already allocated");
                        errors.invalid("spec.clusterIPs", json!(addresses), detail);
                    }
                }
                None => match free_address(range, context) {
                    Some(address) => addresses.push(address.to_string()),
                    None => errors.invalid(
                        "spec.clusterIPs",
                        json!(addresses),
                        format!(
                            "failed to allocate a serviceIP: range {range} is full; delete services that are not needed"
                        ),
                    ),
                },
            }
        }
        spec.cluster_ip = addresses.first().cloned();
        spec.cluster_ips = Some(addresses);
    }

    fn claims(object: &Service) -> Vec<String> {
        let addresses = object.spec.as_ref().and_then(|spec| spec.cluster_ips.clone()).unwrap_or_default();
        addresses.into_iter().filter(|address| address != NONE).collect()
    }
}

fn empty(list: Option<&[String]>) -> bool {
    list.is_none_or(<[String]>::is_empty)
}

fn is_external_name(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("ExternalName")
}

fn family_of(name: &str) -> Option<IpFamily> {
    IpFamily::ALL.into_iter().find(|family| family.to_string() == name)
}

/// Makes `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` say the same.
fn default_addresses(spec: &mut ServiceSpec, cluster: &Cluster) {
    let single = spec.cluster_ip.clone().filter(|address| !address.is_empty());
    let list = spec.cluster_ips.clone().unwrap_or_default();
    match (&single, list.first()) {
        (Some(single), None) => spec.cluster_ips = Some(vec![single.clone()]),
        (None, Some(first)) => spec.cluster_ip = Some(first.clone()),
        _ => {}
    }
    // The address is one spelling only, so that its claim is one key.
    for address in spec.cluster_ips.iter_mut().flatten().chain(spec.cluster_ip.as_mut()) {
        if let Ok(ip) = address.parse::<IpAddr>() {
            *address = ip.to_string();
        }
    }
    let known: Vec<String> = cluster.families().map(|family| family.to_string()).collect();
    let mut families = spec.ip_families.clone().unwrap_or_default();
    for address in spec.cluster_ips.iter().flatten().skip(families.len()) {
        if let Ok(ip) = address.parse::<IpAddr>() {
            families.push(IpFamily::of(ip).to_string());
        }
    }
    let headless_without_selector = spec.cluster_ip.as_deref() == Some(NONE)
        && spec.selector.as_ref().is_none_or(BTreeMap::is_empty)
        && known.len() == 2
        && families.is_empty();
    let policy = match families.len() {
        2 => "RequireDualStack",
        _ if headless_without_selector => "RequireDualStack",
        _ => "SingleStack",
    };
    let policy = spec.ip_family_policy.get_or_insert_with(|| policy.to_owned()).clone();
    let wanted = if policy == "SingleStack" { 1 } else { 2 };
    for family in known {
        if families.len() < wanted && !families.contains(&family) {
            families.push(family);
        }
    }
    spec.ip_families = Some(families);
}

fn validate_ports(spec: &ServiceSpec, errors: &mut FieldErrors) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let headless = spec.cluster_ip.as_deref() == Some(NONE);
    if ports.is_empty() && !headless && !is_external_name(spec) {
        errors.required("spec.ports", "");
    }
    let mut names = BTreeSet::new();
    let mut pairs = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        validate_port(&field, port, ports.len() > 1, errors);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty())
            && !names.insert(name)
        {
            errors.duplicate(format!("{field}.name"), name);
        }
        if !pairs.insert((port.port, port.protocol.as_deref())) {
            errors.duplicate(field, json!({"port": port.port, "protocol": port.protocol}));
        }
    }
}

fn validate_port(field: &str, port: &ServicePort, name_required: bool, errors: &mut FieldErrors) {
    match port.name.as_deref().unwrap_or_default() {
        "" if name_required => errors.required(format!("{field}.name"), ""),
        "" => {}
        name => errors.check(format!("{field}.name"), name, dns_label_problem(name)),
    }
    if !(1..=65535).contains(&port.port) {
        errors.invalid(format!("{field}.port"), port.port, "must be between 1 and 65535, inclusive");
    }
    if let Some(protocol) = port.protocol.as_deref().filter(|p| !PROTOCOLS.contains(p)) {
        errors.not_supported(format!("{field}.protocol"), protocol, PROTOCOLS);
    }
    match &port.target_port {
        Some(IntOrString::Int(number)) if !(1..=65535).contains(number) => {
            errors.invalid(format!("{field}.targetPort"), *number, "must be between 1 and 65535, inclusive");
        }
        Some(IntOrString::String(name)) => {
            errors.check(format!("{field}.targetPort"), name, port_name_problem(name));
        }
        _ => {}
    }
}

fn validate_affinity(spec: &ServiceSpec, errors: &mut FieldErrors) {
    match spec.session_affinity.as_deref().unwrap_or_default() {
        "" => errors.required("spec.sessionAffinity", ""),
        other if !AFFINITIES.contains(&other) => errors.not_supported("spec.sessionAffinity", other, AFFINITIES),
        _ => {}
    }
    let client = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    if let Some(seconds) = client.and_then(|client| client.timeout_seconds)
        && !(1..=MAX_AFFINITY_SECONDS).contains(&seconds)
    {
        let detail = format!("must be greater than 0 and less than {MAX_AFFINITY_SECONDS}");
        errors.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, detail);
    }
    if let Some(policy) = spec.internal_traffic_policy.as_deref().filter(|policy| !TRAFFIC_POLICIES.contains(policy)) {
        errors.not_supported("spec.internalTrafficPolicy", policy, TRAFFIC_POLICIES);
    }
}

fn validate_external_name(spec: &ServiceSpec, errors: &mut FieldErrors) {
    match spec.external_name.as_deref().map(|name| name.trim_end_matches('.')) {
        None | Some("") => errors.required("spec.externalName", ""),
        Some(name) => errors.check("spec.externalName", name, dns_subdomain_problem(name)),
    }
    for (field, set) in [
        ("spec.clusterIP", spec.cluster_ip.as_ref().is_some_and(|address| !address.is_empty())),
        ("spec.clusterIPs", !empty(spec.cluster_ips.as_deref())),
        ("spec.ipFamilies", !empty(spec.ip_families.as_deref())),
        ("spec.ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ] {
        if set {
            errors.forbidden(field, "may not be set for ExternalName services");
        }
    }
}

fn validate_addresses(spec: &ServiceSpec, cluster: &Cluster, errors: &mut FieldErrors) {
    let addresses = spec.cluster_ips.as_deref().unwrap_or_default();
    if let (Some(single), Some(first)) = (spec.cluster_ip.as_deref().filter(|a| !a.is_empty()), addresses.first())
        && single != first
    {
        errors.invalid("spec.clusterIPs", json!(addresses), "first value must match `clusterIP`");
    }
    let families = spec.ip_families.as_deref().unwrap_or_default();
    let policy = spec.ip_family_policy.as_deref().unwrap_or_default();
    if !FAMILY_POLICIES.contains(&policy) {
        errors.not_supported("spec.ipFamilyPolicy", policy, FAMILY_POLICIES);
    }
    for (index, family) in families.iter().enumerate() {
        let field = format!("spec.ipFamilies[{index}]");
        match family_of(family) {
            None => errors.not_supported(field, family.as_str(), FAMILIES),
            Some(known) if cluster.range(known).is_none() => {
                errors.invalid(field, family.as_str(), "not configured on this cluster");
            }
            Some(_) if families[..index].contains(family) => errors.duplicate(field, family.as_str()),
            Some(_) => {}
        }
    }
    if policy == "RequireDualStack" && cluster.families().count() < 2 {
        errors.invalid("spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services");
    }
    if policy == "SingleStack" && families.len() > 1 {
        let detail = "may only hold up to 1 value when `ipFamilyPolicy` is 'SingleStack'";
        errors.invalid("spec.ipFamilies", json!(families), detail);
    }
    if addresses.first().is_some_and(|address| address == NONE) {
        if addresses.len() > 1 {
            errors.invalid("spec.clusterIPs", json!(addresses), "'None' must be the first and only value");
        }
        return;
    }
    if addresses.len() > families.len() {
        errors.invalid("spec.clusterIPs", json!(addresses), "may hold one address for each of `ipFamilies`");
    }
    for (index, address) in addresses.iter().enumerate() {
        let field = format!("spec.clusterIPs[{index}]");
        let Ok(ip) = address.parse::<IpAddr>() else {
            errors.invalid(field, address.as_str(), "must be a valid IP address");
            continue;
        };
        if families.get(index).is_some_and(|family| *family != IpFamily::of(ip).to_string()) {
            let detail = format!("expected an {} value as indicated by `ipFamilies[{index}]`", families[index]);
            errors.invalid(field, address.as_str(), detail);
            continue;
        }
        if let Some(range) = cluster.range(IpFamily::of(ip))
            && (!range.contains(&ip) || reserved(range, ip))
        {
            let detail = format!(
                "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}"
            );
            errors.invalid("spec.clusterIPs", json!(addresses), detail);
        }
    }
}

/// The first address names the network, the last of an IPv4 range is its broadcast address.
fn reserved(range: IpNet, ip: IpAddr) -> bool {
    ip == range.network() || (ip.is_ipv4() && ip == range.broadcast())
}

/// A free address. As in Kubernetes (KEP 3070) a band at the start is kept for addresses that people choose, and used only
/// when the rest is full; the search begins at random, so that a released address is not given again at once.
fn free_address(range: IpNet, context: &Context<'_>) -> Option<IpAddr> {
    let bits = u32::from(range.max_prefix_len() - range.prefix_len()).min(20);
    let size = 1_u32 << bits;
    let band = (size / 16).clamp(16, 256);
    let last = if range.addr().is_ipv4() { size - 1 } else { size };
    let dns = context.cluster.dns_addresses();
    let usable = |offset: &u32| {
        let ip = nth(range, *offset);
        !dns.contains(&ip) && !context.taken.contains(&ip.to_string())
    };
    let start = band + random() % (last - band);
    // The address after the network's is left for the API server's own service, as in Kubernetes.
    let mut offsets = (start..last).chain(band..start).chain(2..band);
    offsets.find(usable).map(|offset| nth(range, offset))
}

fn random() -> u32 {
    let (number, ..) = uuid::Uuid::new_v4().as_fields();
    number
}
