//! The rules as a whole: none, one for everything, and which directions a policy is said or taken to isolate.

use serde_json::json;

use super::{Case, all, labelled, object};

pub(crate) fn rules() -> Vec<Case> {
    let specs = [
        ("no types, no rules: ingress", json!({"podSelector": all()})),
        ("no types, egress rules: both", json!({"podSelector": all(), "egress": [{}]})),
        ("no types, empty egress", json!({"podSelector": all(), "egress": []})),
        ("no types, ingress for all", json!({"podSelector": all(), "ingress": [{}]})),
        ("no types, both for all", json!({"podSelector": all(), "ingress": [{}], "egress": [{}]})),
        ("ingress without rules", json!({"podSelector": all(), "policyTypes": ["Ingress"]})),
        ("ingress with none", json!({"podSelector": all(), "policyTypes": ["Ingress"], "ingress": []})),
        ("ingress for all", json!({"podSelector": all(), "policyTypes": ["Ingress"], "ingress": [{}]})),
        ("egress without rules", json!({"podSelector": all(), "policyTypes": ["Egress"]})),
        ("egress with none", json!({"podSelector": all(), "policyTypes": ["Egress"], "egress": []})),
        ("egress for all", json!({"podSelector": all(), "policyTypes": ["Egress"], "egress": [{}]})),
        ("both without rules", json!({"podSelector": all(), "policyTypes": ["Egress", "Ingress"]})),
        (
            "both for all",
            json!({"podSelector": all(), "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}),
        ),
        (
            "ingress only, egress rules without effect",
            json!({"podSelector": all(), "policyTypes": ["Ingress"], "egress": []}),
        ),
        (
            "egress only, ingress rules without effect",
            json!({"podSelector": all(), "policyTypes": ["Egress"], "ingress": []}),
        ),
        (
            "lists of peers and ports without entries",
            json!({"podSelector": all(), "ingress": [{"from": [], "ports": []}]}),
        ),
        (
            "the same rule twice",
            json!({"podSelector": all(), "ingress": [
            {"from": [{"podSelector": labelled("pod", "a")}]}, {"from": [{"podSelector": labelled("pod", "a")}]}]}),
        ),
        (
            "a rule for all after one for some",
            json!({"podSelector": all(), "ingress": [
            {"from": [{"podSelector": labelled("pod", "a")}]}, {}]}),
        ),
    ];
    specs
        .into_iter()
        .map(|(name, spec)| Case::of(format!("rules: {name}"), vec![object("x", "rules", &spec)]))
        .collect()
}
