//! Whom a policy is for: namespaces, pods, directions.

use serde_json::{Value, json};

use super::{Case, Direction, all, expression, labelled, object, policy};

pub(crate) fn targets() -> Vec<Case> {
    let selectors: [(&str, Value); 9] = [
        ("all", all()),
        ("pod=a", labelled("pod", "a")),
        ("pod=a by two labels", json!({"matchLabels": {"pod": "a", "actor": "a"}})),
        ("none", labelled("pod", "d")),
        ("in a, b", expression("pod", "In", &["a", "b"])),
        ("not in a, b", expression("pod", "NotIn", &["a", "b"])),
        ("has pod", expression("pod", "Exists", &[])),
        ("has no pod", expression("pod", "DoesNotExist", &[])),
        (
            "label and expression",
            json!({"matchLabels": {"actor": "b"}, "matchExpressions": [
            {"key": "pod", "operator": "NotIn", "values": ["a"]}]}),
        ),
    ];
    let mut cases = Vec::new();
    for (name, pods) in &selectors {
        for direction in Direction::BOTH {
            let deny = policy("x", "target", pods, direction, &json!([]));
            cases.push(Case::of(format!("target {name}, {direction:?}"), vec![deny]));
        }
        let both = object("x", "target", &json!({"podSelector": pods, "policyTypes": ["Ingress", "Egress"]}));
        cases.push(Case::of(format!("target {name}, both directions"), vec![both]));
    }
    for direction in Direction::BOTH {
        let everywhere = ["x", "y", "z"].map(|ns| policy(ns, "target", &all(), direction, &json!([])));
        cases.push(Case::of(format!("target all of every namespace, {direction:?}"), everywhere.into()));
        let some = ["y", "z"].map(|ns| policy(ns, "target", &labelled("pod", "b"), direction, &json!([])));
        cases.push(Case::of(format!("target pod=b of two namespaces, {direction:?}"), some.into()));
    }
    cases
}
