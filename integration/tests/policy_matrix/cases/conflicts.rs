//! Several policies for the same pods, and policies at both ends.

use serde_json::{Value, json};

use super::{Case, Direction, all, labelled, policy};

pub(crate) fn conflicts() -> Vec<Case> {
    let mut cases = Vec::new();
    for direction in Direction::BOTH {
        let to_all = |name: &str, rules: &Value| policy("x", name, &all(), direction, rules);
        let to_a = |name: &str, rules: &Value| policy("x", name, &labelled("pod", "a"), direction, rules);
        let from = |ns: &str, ports: Value| json!([{direction.peers(): [{"namespaceSelector": labelled("ns", ns)}], "ports": ports}]);
        let both_ends = |here: Value, there: Value| {
            let other = if direction == Direction::Ingress { Direction::Egress } else { Direction::Ingress };
            vec![to_all("here", &here), policy("y", "there", &all(), other, &there)]
        };
        let sets = [
            ("deny all, allow all", vec![to_all("deny", &json!([])), to_all("allow", &json!([{}]))]),
            ("deny all, allow some", vec![to_all("deny", &json!([])), to_a("allow", &from("y", json!([])))]),
            (
                "two ports of one peer",
                vec![to_a("one", &from("y", json!([{"port": 80}]))), to_a("two", &from("y", json!([{"port": 81}])))],
            ),
            (
                "two peers of one port",
                vec![to_a("one", &from("y", json!([{"port": 80}]))), to_a("two", &from("z", json!([{"port": 80}])))],
            ),
            (
                "a range and a part of it",
                vec![
                    to_a("one", &from("y", json!([{"port": 1, "endPort": 100}]))),
                    to_all("two", &from("z", json!([{"port": 81}]))),
                ],
            ),
            (
                "three that overlap",
                vec![
                    to_all("one", &from("x", json!([{"protocol": "UDP"}]))),
                    to_a("two", &from("y", json!([{"port": 80}, {"port": 80, "protocol": "UDP"}]))),
                    to_a("three", &from("z", json!([{"port": "serve-80-tcp"}]))),
                ],
            ),
            ("allowed here, denied there", both_ends(json!([{}]), json!([]))),
            ("denied here, allowed there", both_ends(json!([]), json!([{}]))),
            (
                "another port here than there",
                both_ends(json!([{"ports": [{"port": 80}]}]), json!([{"ports": [{"port": 81}]}])),
            ),
            (
                "the same port here and there",
                both_ends(json!([{"ports": [{"port": 80}]}]), json!([{"ports": [{"port": 80}]}])),
            ),
        ];
        cases.extend(sets.map(|(name, policies)| Case::of(format!("conflicts: {name}, {direction:?}"), policies)));
    }
    cases
}
