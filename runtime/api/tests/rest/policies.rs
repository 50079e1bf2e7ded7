//! Network policies as docs/semantics.md, "Reading the object", reads them.

use serde_json::{Value, json};

use crate::harness::{Api, POLICIES, complaint, fields};

fn policy(spec: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": spec})
}

#[tokio::test]
async fn policy_types_follow_the_rules_that_are_given() {
    let api = Api::new().await;
    for (spec, expected) in [
        (json!({"podSelector": {}}), json!(["Ingress"])),
        (json!({"podSelector": {}, "egress": []}), json!(["Ingress"])),
        (json!({"podSelector": {}, "egress": [{}]}), json!(["Ingress", "Egress"])),
        (json!({"podSelector": {}, "policyTypes": []}), json!(["Ingress"])),
        (json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]}), json!(["Egress"])),
    ] {
        let mut object = policy(spec.clone());
        object["metadata"] = json!({"generateName": "p-"});
        let created = api.must_create(POLICIES, &object).await;
        assert_eq!(created["spec"]["policyTypes"], expected, "{spec}");
    }
    let mut object = policy(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}, {}]}]}));
    object["metadata"] = json!({"generateName": "p-"});
    let created = api.must_create(POLICIES, &object).await;
    assert_eq!(created["spec"]["ingress"][0]["ports"], json!([{"port": 80, "protocol": "TCP"}, {"protocol": "TCP"}]));
}

#[tokio::test]
async fn invalid_policies_are_refused_with_the_field() {
    let api = Api::new().await;
    let ingress = |rule: Value| json!({"podSelector": {}, "ingress": [rule]});
    let peer = |peer: Value| ingress(json!({"from": [peer]}));
    let port = |port: Value| ingress(json!({"ports": [port]}));
    for (spec, field) in [
        (json!({"podSelector": {}, "policyTypes": ["Sideways"]}), "spec.policyTypes[0]"),
        (json!({"podSelector": {"matchLabels": {"a b": "c"}}}), "spec.podSelector.matchLabels"),
        (peer(json!({})), "spec.ingress[0].from[0]"),
        (peer(json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}})), "spec.ingress[0].from[0]"),
        (peer(json!({"ipBlock": {"cidr": "10.0.0.0/33"}})), "spec.ingress[0].from[0].ipBlock.cidr"),
        (
            peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}})),
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        (
            peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}})),
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        (
            peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}})),
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        (peer(json!({"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}})), "spec.ingress[0].from[0].ipBlock.cidr"),
        (
            peer(json!({"ipBlock": {"cidr": "::/0", "except": ["::ffff:10.0.0.0/104"]}})),
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        (
            peer(json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})),
            "spec.ingress[0].from[0].podSelector.matchExpressions[0].values",
        ),
        (
            peer(
                json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]}}),
            ),
            "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].values",
        ),
        (port(json!({"port": 0})), "spec.ingress[0].ports[0].port"),
        (port(json!({"port": "Web"})), "spec.ingress[0].ports[0].port"),
        (port(json!({"protocol": "ICMP"})), "spec.ingress[0].ports[0].protocol"),
        (port(json!({"port": 80, "endPort": 79})), "spec.ingress[0].ports[0].endPort"),
        (port(json!({"port": "web", "endPort": 80})), "spec.ingress[0].ports[0].endPort"),
        (port(json!({"endPort": 80})), "spec.ingress[0].ports[0].port"),
        (json!({"podSelector": {}, "egress": [{"to": [{}]}]}), "spec.egress[0].to[0]"),
    ] {
        let refused = api.post(POLICIES, &policy(spec.clone())).await;
        assert_eq!((refused.0, fields(&refused)), (422, vec![field.to_owned()]), "{spec}: {:#}", refused.1);
    }
    assert_eq!(
        complaint(&api.post(POLICIES, &policy(peer(json!({})))).await).1,
        "NetworkPolicy.networking.k8s.io \"p\" is invalid: spec.ingress[0].from[0]: Required value: must specify a peer"
    );
}

#[tokio::test]
async fn a_block_of_ipv4_mapped_addresses_is_refused_by_name() {
    let api = Api::new().await;
    let spec = json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}}]}]});
    assert_eq!(
        complaint(&api.post(POLICIES, &policy(spec)).await).1,
        "NetworkPolicy.networking.k8s.io \"p\" is invalid: spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"::ffff:10.0.0.0/104\": must not be an IPv4-mapped IPv6 address"
    );
}

#[tokio::test]
async fn the_policies_of_the_lesson_are_taken() {
    let api = Api::new().await;
    for (name, spec) in [
        (
            "hello-allow-from-foo",
            json!({"policyTypes": ["Ingress"], "podSelector": {"matchLabels": {"app": "hello"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "foo"}}}]}]}),
        ),
        (
            "foo-allow-to-hello",
            json!({"policyTypes": ["Egress"], "podSelector": {"matchLabels": {"app": "foo"}},
            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "hello"}}}]},
                {"ports": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}]}),
        ),
        ("default-deny", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
        ("allow-all", json!({"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]})),
    ] {
        let object = json!({"kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": name}, "spec": spec});
        api.must_create(POLICIES, &object).await;
    }
}
