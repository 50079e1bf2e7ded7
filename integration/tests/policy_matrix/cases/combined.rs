//! Several rules in one policy.

use serde_json::{Value, json};

use super::{Case, Direction, all, labelled, object, policy};

pub(crate) fn combined() -> Vec<Case> {
    let mut cases = Vec::new();
    for direction in Direction::BOTH {
        let rule = |peers: Value, ports: Value| json!({direction.peers(): peers, "ports": ports});
        let pod = |name: &str| json!([{"podSelector": labelled("pod", name)}]);
        let namespace = |name: &str| json!([{"namespaceSelector": labelled("ns", name)}]);
        let everyone = || json!([{"namespaceSelector": all()}]);
        let lists = [
            ("one port each", json!([rule(pod("b"), json!([{"port": 80}])), rule(pod("c"), json!([{"port": 81}]))])),
            (
                "the same port for two",
                json!([rule(pod("b"), json!([{"port": 80}])), rule(namespace("y"), json!([{"port": 80}]))]),
            ),
            (
                "a range and a port in it",
                json!([
                    rule(pod("b"), json!([{"port": 80, "endPort": 81}])),
                    rule(namespace("z"), json!([{"port": 81}]))
                ]),
            ),
            (
                "ranges that overlap",
                json!([
                    rule(namespace("y"), json!([{"port": 1, "endPort": 80}])),
                    rule(namespace("z"), json!([{"port": 80, "endPort": 90}]))
                ]),
            ),
            (
                "every port for one, one for everyone",
                json!([
                {direction.peers(): pod("b")}, rule(everyone(), json!([{"port": 80}]))]),
            ),
            (
                "one protocol each",
                json!([
                    rule(namespace("y"), json!([{"protocol": "UDP"}])),
                    rule(namespace("z"), json!([{"protocol": "SCTP"}]))
                ]),
            ),
            (
                "a name and a number",
                json!([
                    rule(namespace("y"), json!([{"port": "serve-80-tcp"}])),
                    rule(namespace("z"), json!([{"port": 80}]))
                ]),
            ),
            (
                "ports for everyone, peers without ports",
                json!([{"ports": [{"port": 81}]}, {direction.peers(): namespace("y")}]),
            ),
        ];
        for (name, rules) in lists {
            let policy = policy("x", "combined", &labelled("pod", "a"), direction, &rules);
            cases.push(Case::of(format!("combined: {name}, {direction:?}"), vec![policy]));
        }
    }
    let both = json!({"podSelector": labelled("pod", "a"), "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"namespaceSelector": labelled("ns", "y")}], "ports": [{"port": 80}]}],
        "egress": [{"to": [{"namespaceSelector": labelled("ns", "z")}], "ports": [{"port": 81, "protocol": "UDP"}]}]});
    cases.push(Case::of("combined: another rule each way", vec![object("x", "combined", &both)]));
    cases
}
