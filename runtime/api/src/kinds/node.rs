//! Nodes.

use k8s_openapi::api::core::v1::Node;
use minipod_model::name::dns_subdomain_problem;
use serde_json::Value;

use super::Cluster;
use super::pod::quantities_as_text;
use super::strategy::Strategy;
use super::support::{self, Support, Table};
use crate::field::FieldErrors;

pub(super) const SUPPORTED: Table = &[
    ("spec.podCIDR", Support::Any),
    ("spec.podCIDRs", Support::Any),
    ("spec.unschedulable", Support::Any),
    ("spec.providerID", Support::Idle("it only tells where a machine comes from")),
];

pub(super) struct Nodes;

impl Strategy for Nodes {
    type Object = Node;

    fn name_problem(name: &str) -> Option<String> {
        dns_subdomain_problem(name)
    }

    fn normalise(value: &mut Value) {
        for field in ["capacity", "allocatable"] {
            quantities_as_text(value.pointer_mut(&format!("/status/{field}")));
        }
    }

    fn default(object: &mut Node, _cluster: &Cluster) {
        let spec = object.spec.get_or_insert_default();
        match (&spec.pod_cidr, spec.pod_cidrs.as_deref().unwrap_or_default()) {
            (Some(cidr), []) if !cidr.is_empty() => spec.pod_cidrs = Some(vec![cidr.clone()]),
            (None, [first, ..]) => spec.pod_cidr = Some(first.clone()),
            _ => {}
        }
    }

    fn refuse_unsupported(value: &Value, errors: &mut FieldErrors) {
        support::refuse_unsupported(SUPPORTED, &[], value, errors);
    }

    fn validate(object: &Node, _cluster: &Cluster, errors: &mut FieldErrors) {
        let Some(spec) = &object.spec else { return };
        let cidrs = spec.pod_cidrs.as_deref().unwrap_or_default();
        for (index, cidr) in cidrs.iter().enumerate() {
            if cidr.parse::<ipnet::IpNet>().is_err() {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.invalid(format!("spec.podCIDRs[{index}]"), cidr.as_str(), detail);
            }
        }
        let families: Vec<_> =
            cidrs.iter().filter_map(|c| c.parse().ok()).map(|c: ipnet::IpNet| c.addr().is_ipv4()).collect();
        if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
            errors.invalid("spec.podCIDRs", cidrs.to_vec(), "may specify no more than one CIDR for each IP family");
        }
        if let (Some(cidr), Some(first)) = (&spec.pod_cidr, cidrs.first())
            && cidr != first
        {
            errors.invalid("spec.podCIDRs", cidrs.to_vec(), "field 0 must match node's podCIDR");
        }
    }

    fn validate_update(new: &Node, old: &Node, errors: &mut FieldErrors) {
        let cidrs = |node: &Node| node.spec.as_ref().and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
        let before = cidrs(old);
        if !before.is_empty() && cidrs(new) != before {
            errors.forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
        }
    }
}
