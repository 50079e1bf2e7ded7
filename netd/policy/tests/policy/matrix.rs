//! The complete matrix of nine pods for each kind of policy, by the evaluator and by the compiled intent
//! (`docs/semantics.md`, "Cases every build proves", as far as no kernel is needed).

use minipod_model::Protocol;
use netd_policy::{Change, Transport};
use serde_json::{Value, json};

use crate::support::{
    ALL, ALT, DGRAM, HTTP, PING, STREAM, check_matrix, namespace, pod, pod_object, policy_of, small_cluster,
    with_policies,
};

/// Asserts the matrix for all protocols alike, with exceptions of the form "from, to".
#[track_caller]
fn check_all(policies: &[(&str, Value)], expected: impl Fn(&str, &str) -> bool) {
    let index = with_policies(policies);
    for transport in ALL {
        check_matrix(&index, transport, |from, to| from == to || expected(from, to));
    }
}

fn in_x(name: &str) -> bool {
    name.starts_with("x/")
}

#[test]
fn without_policies_everything_passes() {
    check_all(&[], |_, _| true);
}

#[test]
fn default_deny_ingress() {
    check_all(&[("x", json!({"podSelector": {}}))], |_, to| !in_x(to));
    check_all(&[("x", json!({"podSelector": {}, "policyTypes": ["Ingress"]}))], |_, to| !in_x(to));
}

#[test]
fn default_deny_egress() {
    check_all(&[("x", json!({"podSelector": {}, "policyTypes": ["Egress"]}))], |from, _| !in_x(from));
}

#[test]
fn default_deny_both() {
    let both = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    check_all(&[("x", both)], |from, to| !in_x(from) && !in_x(to));
}

#[test]
fn allow_all_beside_deny_all() {
    let deny = ("x", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}));
    check_all(&[deny.clone(), ("x", json!({"podSelector": {}, "ingress": [{}]}))], |from, _| !in_x(from));
    check_all(&[deny, ("x", json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}))], |_, to| !in_x(to));
}

#[test]
fn allow_all_beside_narrow_rules() {
    let narrow = (
        "x",
        json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}], "ports": [{"port": 80}]}]}),
    );
    check_all(&[narrow, ("x", json!({"podSelector": {}, "ingress": [{}]}))], |_, _| true);
}

#[test]
fn from_own_namespace_by_pod_selector() {
    let policy = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]});
    check_all(&[("x", policy)], |from, to| to != "x/a" || from == "x/b");
}

#[test]
fn from_all_pods_of_the_own_namespace() {
    check_all(&[("x", json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}))], |from, to| {
        !in_x(to) || in_x(from)
    });
}

#[test]
fn from_all_namespaces() {
    check_all(&[("x", json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}))], |_, _| true);
}

#[test]
fn from_another_namespace_only() {
    let policy =
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]}]});
    check_all(&[("x", policy)], |from, to| !in_x(to) || from.starts_with("y/"));
}

#[test]
fn by_the_default_namespace_label() {
    let policy = json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}}]}]});
    check_all(&[("x", policy)], |from, to| !in_x(to) || from.starts_with("y/"));
}

#[test]
fn match_expressions_on_pods_and_on_namespaces() {
    let policy = json!({
        "podSelector": {"matchExpressions": [{"key": "pod", "operator": "In", "values": ["a", "b"]}]},
        "ingress": [{"from": [{
            "namespaceSelector": {"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["x", "kube-system"]}]},
            "podSelector": {"matchExpressions": [{"key": "pod", "operator": "Exists"}, {"key": "pod", "operator": "NotIn", "values": ["c"]}]},
        }]}],
    });
    check_all(&[("x", policy)], |from, to| !(to == "x/a" || to == "x/b") || (!in_x(from) && !from.ends_with("/c")));
}

#[test]
fn pod_selector_or_namespace_selector() {
    let policy = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [
        {"podSelector": {"matchLabels": {"pod": "b"}}}, {"namespaceSelector": {"matchLabels": {"ns": "y"}}},
    ]}]});
    check_all(&[("x", policy)], |from, to| to != "x/a" || from == "x/b" || from.starts_with("y/"));
}

#[test]
fn pod_selector_and_namespace_selector() {
    let policy = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [
        {"podSelector": {"matchLabels": {"pod": "b"}}, "namespaceSelector": {"matchLabels": {"ns": "y"}}},
    ]}]});
    check_all(&[("x", policy)], |from, to| to != "x/a" || from == "y/b");
}

#[test]
fn several_selectors() {
    let peer = |ns: &str, pod: &str| json!({"podSelector": {"matchLabels": {"pod": pod}}, "namespaceSelector": {"matchLabels": {"ns": ns}}});
    let policy =
        json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [peer("y", "b"), peer("z", "c")]}]});
    check_all(&[("x", policy)], |from, to| to != "x/a" || from == "y/b" || from == "z/c");
}

#[test]
fn ports_open_what_they_name_and_no_other_protocol() {
    let policy = |ports: Value| ("x", json!({"podSelector": {}, "ingress": [{"ports": ports}]}));
    let check = |ports: Value, open: &[Transport]| {
        let index = with_policies(&[policy(ports)]);
        for transport in ALL {
            check_matrix(&index, transport, |from, to| from == to || !in_x(to) || open.contains(&transport));
        }
    };
    check(json!([]), &ALL);
    check(json!([{}]), &[HTTP, ALT]);
    check(json!([{"port": 80}]), &[HTTP]);
    check(json!([{"protocol": "UDP"}]), &[DGRAM]);
    check(json!([{"protocol": "UDP", "port": 80}]), &[DGRAM]);
    check(json!([{"protocol": "SCTP", "port": 80}]), &[STREAM]);
    check(json!([{"port": 81, "endPort": 90}]), &[ALT]);
    check(json!([{"port": 1, "endPort": 65535}]), &[HTTP, ALT]);
    check(json!([{"port": 80}, {"port": 80, "protocol": "UDP"}]), &[HTTP, DGRAM]);
    check(json!([{"port": "http"}]), &[HTTP]);
    check(json!([{"port": "http", "protocol": "UDP"}]), &[]);
    check(json!([{"port": "dgram", "protocol": "UDP"}]), &[DGRAM]);
    check(json!([{"port": "unknown"}]), &[]);
    check(json!([{"port": "unknown"}, {"port": 81}]), &[ALT]);
}

#[test]
fn a_port_range_ends_where_it_says() {
    let index =
        with_policies(&[("x", json!({"podSelector": {}, "ingress": [{"ports": [{"port": 8000, "endPort": 8003}]}]}))]);
    for (port, open) in [(7999, false), (8000, true), (8003, true), (8004, false)] {
        let transport = Transport::Port(Protocol::Tcp, port);
        check_matrix(&index, transport, |from, to| from == to || !in_x(to) || open);
    }
}

#[test]
fn stacked_policies_with_overlapping_selectors() {
    let b_on_80 = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}], "ports": [{"port": 80}]}]});
    let c_on_both = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "c"}}}], "ports": [{"port": 80, "endPort": 81}]}]});
    let index = with_policies(&[("x", b_on_80), ("x", c_on_both)]);
    check_matrix(&index, HTTP, |from, to| from == to || !in_x(to) || from == "x/c" || (to == "x/a" && from == "x/b"));
    check_matrix(&index, ALT, |from, to| from == to || !in_x(to) || from == "x/c");
    check_matrix(&index, DGRAM, |from, to| from == to || !in_x(to));
}

#[test]
fn named_port_of_egress_into_another_namespace_with_a_number_per_pod() {
    let policy = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"], "egress": [
        {"to": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}], "ports": [{"port": "http"}]},
    ]});
    let mut index = with_policies(&[("x", policy)]);
    let mut other = pod_object("y/b");
    other["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 81}]);
    index.apply(Change::Pod(pod(other)));
    check_matrix(&index, HTTP, |from, to| from == to || from != "x/a" || to == "y/a" || to == "y/c");
    check_matrix(&index, ALT, |from, to| from == to || from != "x/a" || to == "y/b");
    check_matrix(&index, DGRAM, |from, to| from == to || from != "x/a");
}

#[test]
fn named_port_of_ingress_with_a_number_per_pod() {
    let mut index = with_policies(&[("x", json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}))]);
    let mut other = pod_object("x/b");
    other["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 81}]);
    index.apply(Change::Pod(pod(other)));
    check_matrix(&index, HTTP, |from, to| from == to || !in_x(to) || to != "x/b");
    check_matrix(&index, ALT, |from, to| from == to || !in_x(to) || to == "x/b");
}

#[test]
fn ingress_and_egress_are_both_asked() {
    let out = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]});
    let inwards = json!({"podSelector": {"matchLabels": {"pod": "b"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "c"}}}]}]});
    check_all(&[("x", out), ("x", inwards)], |from, to| {
        (from != "x/a" || to == "x/b") && (to != "x/b" || from == "x/c")
    });
}

#[test]
fn a_policy_updated_to_no_rules_closes() {
    let spec = |ingress: Value| json!({"podSelector": {}, "ingress": ingress});
    let mut index = small_cluster();
    index.apply(Change::Policy(policy_of("x", "one", &spec(json!([{}])))));
    check_matrix(&index, HTTP, |_, _| true);
    index.apply(Change::Policy(policy_of("x", "one", &spec(json!([])))));
    check_matrix(&index, HTTP, |from, to| from == to || !in_x(to));
    index.apply(Change::PolicyRemoved(policy_of("x", "one", &json!({})).key));
    check_matrix(&index, HTTP, |_, _| true);
}

#[test]
fn a_relabelled_namespace_is_another_peer() {
    let policy =
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]}]});
    let mut index = with_policies(&[("x", policy)]);
    index.apply(Change::Namespace(namespace(json!({"metadata": {"name": "y", "labels": {"ns": "was-y"}}}))));
    index.apply(Change::Namespace(namespace(json!({"metadata": {"name": "z", "labels": {"ns": "y"}}}))));
    check_matrix(&index, HTTP, |from, to| from == to || !in_x(to) || from.starts_with("z/"));
}

#[test]
fn a_relabelled_pod_is_another_peer_and_another_subject() {
    let policy = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]});
    let mut index = with_policies(&[("x", policy)]);
    for (name, label) in [("x/a", "b"), ("x/b", "a")] {
        let mut object = pod_object(name);
        object["metadata"]["labels"]["pod"] = json!(label);
        index.apply(Change::Pod(pod(object)));
    }
    check_matrix(&index, PING, |from, to| to != "x/b" || from == "x/a" || from == to);
}

#[test]
fn isolation_by_another_protocol_does_not_open_tcp() {
    for protocol in ["UDP", "SCTP"] {
        let index = with_policies(&[(
            "x",
            json!({"podSelector": {}, "ingress": [{"ports": [{"protocol": protocol, "port": 80}]}]}),
        )]);
        check_matrix(&index, HTTP, |from, to| from == to || !in_x(to));
        check_matrix(&index, PING, |from, to| from == to || !in_x(to));
    }
}

#[test]
fn egress_to_an_address_block_reaches_the_pod_at_that_address() {
    let policy = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "10.244.1.4/32"}}, {"ipBlock": {"cidr": "fd00:10:244:1::4/128"}}]}]});
    check_all(&[("x", policy)], |from, to| !in_x(from) || to == "y/a");
}

#[test]
fn except_takes_away_from_its_own_block_only() {
    let block = json!({"to": [
        {"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.1.4/32", "10.244.1.5/32"]}},
        {"ipBlock": {"cidr": "fd00:10:244::/48", "except": ["fd00:10:244:1::4/127"]}},
    ]});
    let narrow = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [block]});
    check_all(&[("x", narrow.clone())], |from, to| !in_x(from) || (to != "y/a" && to != "y/b"));

    let again = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "10.244.1.5/32"}}, {"ipBlock": {"cidr": "fd00:10:244:1::5/128"}}]}]});
    check_all(&[("x", narrow.clone()), ("x", again)], |from, to| !in_x(from) || to != "y/a");

    let by_label = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}, "podSelector": {"matchLabels": {"pod": "a"}}}]}]});
    check_all(&[("x", narrow), ("x", by_label)], |from, to| !in_x(from) || to != "y/b");
}
