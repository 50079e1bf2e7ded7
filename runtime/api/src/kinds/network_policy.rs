//! Network policies (`pkg/apis/networking/validation`; docs/semantics.md, "Reading the object").

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use minipod_model::Selector;
use minipod_model::name::{dns_subdomain_problem, port_name_problem};
use serde_json::Value;

use super::Cluster;
use super::strategy::Strategy;
use super::support::{self, Support, Table};
use crate::field::FieldErrors;

/// Transport protocols as Kubernetes lists them in messages.
pub(super) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const POLICY_TYPES: &[&str] = &["Egress", "Ingress"];

/// All there are; one that a later version brings is refused until it is carried out.
pub(super) const SUPPORTED: Table = &[
    ("spec.podSelector.matchLabels", Support::Any),
    ("spec.podSelector.matchExpressions", Support::Any),
    ("spec.policyTypes", Support::Any),
    ("spec.ingress[].ports[].protocol", Support::Any),
    ("spec.ingress[].ports[].port", Support::Any),
    ("spec.ingress[].ports[].endPort", Support::Any),
    ("spec.ingress[].from[].podSelector", Support::Any),
    ("spec.ingress[].from[].namespaceSelector", Support::Any),
    ("spec.ingress[].from[].ipBlock.cidr", Support::Any),
    ("spec.ingress[].from[].ipBlock.except", Support::Any),
    ("spec.egress[].ports[].protocol", Support::Any),
    ("spec.egress[].ports[].port", Support::Any),
    ("spec.egress[].ports[].endPort", Support::Any),
    ("spec.egress[].to[].podSelector", Support::Any),
    ("spec.egress[].to[].namespaceSelector", Support::Any),
    ("spec.egress[].to[].ipBlock.cidr", Support::Any),
    ("spec.egress[].to[].ipBlock.except", Support::Any),
];

pub(super) struct NetworkPolicies;

impl Strategy for NetworkPolicies {
    type Object = NetworkPolicy;

    fn name_problem(name: &str) -> Option<String> {
        dns_subdomain_problem(name)
    }

    fn default(object: &mut NetworkPolicy, _cluster: &Cluster) {
        let Some(spec) = &mut object.spec else { return };
        let ingress = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        let egress = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
        for port in ingress.chain(egress) {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
        if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
            let mut types = vec!["Ingress".to_owned()];
            if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
                types.push("Egress".to_owned());
            }
            spec.policy_types = Some(types);
        }
    }

    fn refuse_unsupported(value: &Value, errors: &mut FieldErrors) {
        support::refuse_unsupported(SUPPORTED, &[], value, errors);
    }

    fn validate(object: &NetworkPolicy, _cluster: &Cluster, errors: &mut FieldErrors) {
        let Some(spec) = &object.spec else {
            return errors
                .required("spec", "the policy says nothing; `podSelector: {}` selects every pod of the namespace");
        };
        if let Some(selector) = &spec.pod_selector {
            validate_selector("spec.podSelector", selector, errors);
        }
        for (index, rule) in spec.ingress.iter().flatten().enumerate() {
            let field = format!("spec.ingress[{index}]");
            validate_ports(&field, rule.ports.as_deref().unwrap_or_default(), errors);
            validate_peers(&format!("{field}.from"), rule.from.as_deref().unwrap_or_default(), errors);
        }
        for (index, rule) in spec.egress.iter().flatten().enumerate() {
            let field = format!("spec.egress[{index}]");
            validate_ports(&field, rule.ports.as_deref().unwrap_or_default(), errors);
            validate_peers(&format!("{field}.to"), rule.to.as_deref().unwrap_or_default(), errors);
        }
        let types = spec.policy_types.as_deref().unwrap_or_default();
        if types.len() > 2 {
            errors.invalid("spec.policyTypes", types.to_vec(), "may not specify more than two policyTypes");
        }
        for (index, policy_type) in types.iter().enumerate().filter(|(_, t)| !POLICY_TYPES.contains(&t.as_str())) {
            errors.not_supported(format!("spec.policyTypes[{index}]"), policy_type.as_str(), POLICY_TYPES);
        }
    }
}

fn validate_ports(rule: &str, ports: &[NetworkPolicyPort], errors: &mut FieldErrors) {
    for (index, port) in ports.iter().enumerate() {
        let field = format!("{rule}.ports[{index}]");
        if let Some(protocol) = port.protocol.as_deref().filter(|p| !PROTOCOLS.contains(p)) {
            errors.not_supported(format!("{field}.protocol"), protocol, PROTOCOLS);
        }
        match &port.port {
            Some(IntOrString::Int(number)) if !(1..=65535).contains(number) => {
                errors.invalid(format!("{field}.port"), *number, "must be between 1 and 65535, inclusive");
            }
            Some(IntOrString::String(name)) => {
                errors.check(format!("{field}.port"), name, port_name_problem(name));
            }
            _ => {}
        }
        let Some(end) = port.end_port else { continue };
        let field = format!("{field}.endPort");
        match &port.port {
            None => errors.required(field.replace("endPort", "port"), "must be specified when `endPort` is specified"),
            Some(IntOrString::String(_)) => {
                errors.invalid(field, end, "may not be specified when `port` is non-numeric");
            }
            Some(IntOrString::Int(start)) if end < *start => {
                errors.invalid(field, end, "must be greater than or equal to `port`");
            }
            Some(IntOrString::Int(_)) if end > 65535 => {
                errors.invalid(field, end, "must be between 1 and 65535, inclusive");
            }
            Some(IntOrString::Int(_)) => {}
        }
    }
}

fn validate_peers(list: &str, peers: &[NetworkPolicyPeer], errors: &mut FieldErrors) {
    for (index, peer) in peers.iter().enumerate() {
        let field = format!("{list}[{index}]");
        if let Some(selector) = &peer.pod_selector {
            validate_selector(&format!("{field}.podSelector"), selector, errors);
        }
        if let Some(selector) = &peer.namespace_selector {
            validate_selector(&format!("{field}.namespaceSelector"), selector, errors);
        }
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match &peer.ip_block {
            Some(_) if selects => errors.forbidden(field, "may not specify both ipBlock and another peer"),
            Some(block) => validate_block(&format!("{field}.ipBlock"), block, errors),
            None if !selects => errors.required(field, "must specify a peer"),
            None => {}
        }
    }
}

fn validate_block(field: &str, block: &IPBlock, errors: &mut FieldErrors) {
    // Which family such a prefix means differs between readers, so nobody may rely on it (netd refuses it too).
    const MAPPED: &str = "must not be an IPv4-mapped IPv6 address";
    const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    if block.cidr.is_empty() {
        return errors.required(format!("{field}.cidr"), "");
    }
    let Ok(cidr) = block.cidr.parse::<IpNet>() else {
        return errors.invalid(format!("{field}.cidr"), block.cidr.as_str(), CIDR);
    };
    if is_mapped(&cidr) {
        return errors.invalid(format!("{field}.cidr"), block.cidr.as_str(), MAPPED);
    }
    for (index, except) in block.except.iter().flatten().enumerate() {
        let field = format!("{field}.except[{index}]");
        match except.parse::<IpNet>() {
            Err(_) => errors.invalid(field, except.as_str(), CIDR),
            Ok(net) if is_mapped(&net) => errors.invalid(field, except.as_str(), MAPPED),
            Ok(net) if !(cidr.contains(&net.addr()) && net.prefix_len() > cidr.prefix_len()) => {
                errors.invalid(field, except.as_str(), "must be a strict subset of `cidr`");
            }
            Ok(_) => {}
        }
    }
}

fn is_mapped(net: &IpNet) -> bool {
    matches!(net, IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some())
}

/// Validates a label selector of an object.
pub(super) fn validate_selector(field: &str, selector: &LabelSelector, errors: &mut FieldErrors) {
    let Err(error) = Selector::from_object(selector) else { return };
    let field = format!("{field}.{}", error.path);
    if error.problem.starts_with("must be specified") {
        errors.required(field, &error.problem);
    } else if error.problem.starts_with("may not be specified") {
        errors.forbidden(field, error.problem);
    } else {
        errors.invalid(field, error.value, error.problem);
    }
}
