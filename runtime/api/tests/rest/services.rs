//! Services: defaults, cluster IPs, validation.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Api, SERVICES, complaint, fields};

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_service_gets_an_address_and_its_defaults() {
    let api = Api::new().await;
    let created =
        api.must_create(SERVICES, &service("a", json!({"selector": {"app": "a"}, "ports": [{"port": 80}]}))).await;
    let spec = &created["spec"];
    let address = spec["clusterIP"].as_str().expect("an address");
    assert!(address.starts_with("10.96.0."), "{address}");
    assert_eq!(spec["clusterIPs"], json!([address]));
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    assert_eq!(spec["type"], "ClusterIP");
    assert_eq!(spec["sessionAffinity"], "None");
    assert_eq!(spec["ports"], json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
}

#[tokio::test]
async fn families_are_chosen_as_in_kubernetes() {
    let api = Api::new().await;
    for (name, spec, families, addresses) in [
        ("v6", json!({"ipFamilies": ["IPv6"]}), json!(["IPv6"]), 1),
        ("dual", json!({"ipFamilyPolicy": "PreferDualStack"}), json!(["IPv4", "IPv6"]), 2),
        ("dual6", json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}), json!(["IPv6", "IPv4"]), 2),
        ("given6", json!({"clusterIP": "fd00:10:96::77"}), json!(["IPv6"]), 1),
        ("headless", json!({"clusterIP": "None", "selector": {"a": "b"}}), json!(["IPv4"]), 1),
        ("headless-manual", json!({"clusterIP": "None"}), json!(["IPv4", "IPv6"]), 1),
    ] {
        let mut spec = spec;
        spec["ports"] = json!([{"port": 80}]);
        let created = api.must_create(SERVICES, &service(name, spec)).await;
        assert_eq!(created["spec"]["ipFamilies"], families, "{name}");
        assert_eq!(created["spec"]["clusterIPs"].as_array().map(Vec::len), Some(addresses), "{name}");
    }
}

#[tokio::test]
async fn an_address_belongs_to_one_service() {
    let api = Api::new().await;
    let wanted = json!({"clusterIP": "10.96.0.77", "ports": [{"port": 80}]});
    api.must_create(SERVICES, &service("a", wanted.clone())).await;
    let refused = complaint(&api.post(SERVICES, &service("b", wanted.clone())).await);
    assert_eq!(
        refused,
        (422, "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.77\"]: failed to allocate IP 10.96.0.77: provided IP is already allocated".to_owned())
    );
    let dns = api.post(SERVICES, &service("c", json!({"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}))).await;
    assert_eq!(dns.0, 422);
    assert_eq!(api.delete(&format!("{SERVICES}/a")).await.0, 200);
    api.must_create(SERVICES, &service("b", wanted)).await;
}

#[tokio::test]
async fn no_address_is_given_twice_and_a_full_range_says_so() {
    let api = Api::new().await;
    let mut addresses = BTreeSet::new();
    // A /24 less the network's, the first, the DNS' and the broadcast address.
    for number in 0..252 {
        let created =
            api.must_create(SERVICES, &service(&format!("s{number}"), json!({"ports": [{"port": 80}]}))).await;
        assert!(addresses.insert(created["spec"]["clusterIP"].to_string()), "{created:#}");
    }
    let (code, message) = complaint(&api.post(SERVICES, &service("full", json!({"ports": [{"port": 80}]}))).await);
    assert_eq!(code, 422);
    assert!(message.contains("range 10.96.0.0/24 is full"), "{message}");
}

#[tokio::test]
async fn services_made_at_once_share_no_address() {
    let api = std::sync::Arc::new(Api::new().await);
    let wanted = json!({"clusterIP": "10.96.0.99", "ports": [{"port": 80}]});
    let makers: Vec<_> = (0..6)
        .map(|number| {
            let (api, object) = (std::sync::Arc::clone(&api), service(&format!("s{number}"), wanted.clone()));
            tokio::spawn(async move { api.post(SERVICES, &object).await.0 })
        })
        .collect();
    let mut codes = Vec::new();
    for maker in makers {
        codes.push(maker.await.expect("a maker"));
    }
    codes.sort_unstable();
    assert_eq!(codes, [201, 422, 422, 422, 422, 422]);
}

#[tokio::test]
async fn the_address_of_a_service_stays() {
    let api = Api::new().await;
    let created = api.must_create(SERVICES, &service("a", json!({"ports": [{"port": 80}]}))).await;
    let path = format!("{SERVICES}/a");
    let (code, changed) = api.put(&path, &service("a", json!({"ports": [{"port": 81}]}))).await;
    assert_eq!(code, 200, "{changed:#}");
    assert_eq!(changed["spec"]["clusterIPs"], created["spec"]["clusterIPs"]);
    let refused = api.patch(&path, &json!({"spec": {"clusterIP": "10.96.0.200", "clusterIPs": ["10.96.0.200"]}})).await;
    assert_eq!((refused.0, fields(&refused)), (422, vec!["spec.clusterIPs[0]".to_owned()]));
}

#[tokio::test]
async fn a_service_that_becomes_a_name_gives_its_address_back() {
    let api = Api::new().await;
    let spec = json!({"clusterIP": "10.96.0.55", "ports": [{"port": 80}]});
    api.must_create(SERVICES, &service("a", spec.clone())).await;
    let name = service("a", json!({"type": "ExternalName", "externalName": "example.com"}));
    let (code, changed) = api.put(&format!("{SERVICES}/a"), &name).await;
    assert_eq!(code, 200, "{changed:#}");
    assert!(changed["spec"]["clusterIP"].is_null());
    api.must_create(SERVICES, &service("b", spec)).await;
}

#[tokio::test]
async fn invalid_services_are_refused_with_the_field() {
    let api = Api::new().await;
    for (spec, field) in [
        (json!({}), "spec.ports"),
        (json!({"ports": [{"port": 0}]}), "spec.ports[0].port"),
        (json!({"ports": [{"port": 80}, {"port": 81}]}), "spec.ports[0].name"),
        (json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}), "spec.ports[1].name"),
        (json!({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}), "spec.ports[1]"),
        (json!({"ports": [{"port": 80, "targetPort": "Web"}]}), "spec.ports[0].targetPort"),
        (json!({"ports": [{"port": 80, "protocol": "X"}]}), "spec.ports[0].protocol"),
        (json!({"ports": [{"port": 80}], "type": "Fancy"}), "spec.type"),
        (json!({"ports": [{"port": 80}], "type": "NodePort"}), "spec.type"),
        (json!({"ports": [{"port": 80}], "type": "LoadBalancer"}), "spec.type"),
        (json!({"ports": [{"port": 80, "nodePort": 30080}]}), "spec.ports[0].nodePort"),
        (json!({"ports": [{"port": 80}], "externalIPs": ["1.2.3.4"]}), "spec.externalIPs"),
        (json!({"ports": [{"port": 80}], "sessionAffinity": "Sticky"}), "spec.sessionAffinity"),
        (json!({"ports": [{"port": 80}], "selector": {"a b": "c"}}), "spec.selector"),
        (json!({"ports": [{"port": 80}], "clusterIP": "10.97.0.1"}), "spec.clusterIPs"),
        (json!({"ports": [{"port": 80}], "clusterIP": "x"}), "spec.clusterIPs[0]"),
        (json!({"ports": [{"port": 80}], "ipFamilies": ["IPv5"]}), "spec.ipFamilies[0]"),
        (json!({"type": "ExternalName"}), "spec.externalName"),
        (json!({"type": "ExternalName", "externalName": "a b"}), "spec.externalName"),
    ] {
        let refused = api.post(SERVICES, &service("a", spec.clone())).await;
        let mut found = fields(&refused);
        found.dedup();
        assert_eq!((refused.0, found.first().map(String::as_str)), (422, Some(field)), "{spec}: {:#}", refused.1);
    }
    let refused = api.post(SERVICES, &service("1a", json!({"ports": [{"port": 80}]}))).await;
    assert_eq!(fields(&refused), ["metadata.name"]);
}
