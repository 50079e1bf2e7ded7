//! Services and their endpoints.

use std::net::IpAddr;

use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use minipod_model::Protocol;
use netd_policy::intent::{Backends, Frontend};
use netd_policy::object::{EndpointSlice, Service};
use netd_policy::{Change, Index};
use serde_json::{Value, json};

use crate::support::options;

fn service(spec: &Value) -> Change {
    let object = json!({"metadata": {"namespace": "x", "name": "web"}, "spec": spec});
    Change::Service(Service::read(&serde_json::from_value::<v1::Service>(object).expect("a service")))
}

fn slice(name: &str, family: &str, ports: &Value, endpoints: &Value) -> Change {
    let object = json!({
        "metadata": {"namespace": "x", "name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": family, "ports": ports, "endpoints": endpoints,
    });
    Change::Slice(EndpointSlice::read(&serde_json::from_value::<discovery::EndpointSlice>(object).expect("a slice")))
}

/// A frontend's address and port, its name, and its endpoints.
type Line<'a> = (&'a str, u16, &'a str, &'a [(&'a str, u16)]);

/// Asserts the whole table.
#[track_caller]
fn check(changes: Vec<Change>, expected: &[Line<'_>]) {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let mut index = Index::new(options());
    for change in changes {
        index.apply(change);
    }
    let expected = expected.iter().map(|(ip, port, name, endpoints)| {
        let frontend = Frontend { address: address(ip), protocol: Protocol::Tcp, port: *port };
        let endpoints = endpoints.iter().map(|(ip, port)| (address(ip), *port)).collect();
        (frontend, Backends { name: (*name).to_owned(), endpoints, affinity_seconds: None })
    });
    assert_eq!(*index.clone().intent().services, expected.collect());
}

#[test]
fn a_connection_goes_to_the_target_port_of_a_ready_endpoint_of_its_family() {
    let ports = json!([{"name": "http", "port": 8080}, {"name": "admin", "port": 9090}]);
    let endpoints = json!([
        {"addresses": ["10.244.1.2"], "conditions": {"ready": true}},
        {"addresses": ["10.244.1.1"]},
        {"addresses": ["10.244.1.3"], "conditions": {"ready": false}},
    ]);
    check(
        vec![
            service(&json!({
                "clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20", "fd00:10:96::14"],
                "ports": [{"name": "http", "port": 80, "targetPort": "http"}, {"name": "admin", "port": 81}],
            })),
            slice("web-4", "IPv4", &ports, &endpoints),
            slice("web-6", "IPv6", &ports, &json!([{"addresses": ["fd00:10:244:1::1"]}])),
        ],
        &[
            ("10.96.0.20", 80, "x/web:http", &[("10.244.1.1", 8080), ("10.244.1.2", 8080)]),
            ("10.96.0.20", 81, "x/web:admin", &[("10.244.1.1", 9090), ("10.244.1.2", 9090)]),
            ("fd00:10:96::14", 80, "x/web:http", &[("fd00:10:244:1::1", 8080)]),
            ("fd00:10:96::14", 81, "x/web:admin", &[("fd00:10:244:1::1", 9090)]),
        ],
    );
}

#[test]
fn a_service_without_endpoints_is_there_with_none() {
    check(
        vec![service(&json!({"clusterIP": "10.96.0.20", "ports": [{"port": 80}]}))],
        &[("10.96.0.20", 80, "x/web:80", &[])],
    );
}

#[test]
fn several_slices_of_one_service_are_one_list() {
    let ports = json!([{"name": "", "port": 8080}]);
    check(
        vec![
            slice("a", "IPv4", &ports, &json!([{"addresses": ["10.244.1.2"]}, {"addresses": ["10.244.1.1"]}])),
            slice(
                "b",
                "IPv4",
                &json!([{"port": 8081}]),
                &json!([{"addresses": ["10.244.2.1"]}, {"addresses": ["10.244.1.1"]}]),
            ),
            service(&json!({"clusterIP": "10.96.0.20", "ports": [{"port": 80}]})),
        ],
        &[(
            "10.96.0.20",
            80,
            "x/web:80",
            &[("10.244.1.1", 8080), ("10.244.1.1", 8081), ("10.244.1.2", 8080), ("10.244.2.1", 8081)],
        )],
    );
}

#[test]
fn headless_services_external_names_and_the_cluster_dns_have_no_frontend() {
    for spec in [
        json!({"clusterIP": "None", "ports": [{"port": 80}]}),
        json!({"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80}]}),
        json!({"clusterIP": "10.96.0.10", "ports": [{"port": 53}]}),
        json!({"ports": [{"port": 80}]}),
    ] {
        check(vec![service(&spec)], &[]);
    }
}

#[test]
fn internal_traffic_policy_local_keeps_to_this_node() {
    let endpoints =
        json!([{"addresses": ["10.244.1.1"], "nodeName": "here"}, {"addresses": ["10.244.2.1"], "nodeName": "there"}]);
    check(
        vec![
            service(&json!({"clusterIP": "10.96.0.20", "internalTrafficPolicy": "Local", "ports": [{"port": 80}]})),
            slice("a", "IPv4", &json!([{"port": 8080}]), &endpoints),
        ],
        &[("10.96.0.20", 80, "x/web:80", &[("10.244.1.1", 8080)])],
    );
}

#[test]
fn session_affinity_has_the_timeout_of_the_service_or_three_hours() {
    for (config, seconds) in [(json!(null), 10_800), (json!({"clientIP": {"timeoutSeconds": 5}}), 5)] {
        let mut index = Index::new(options());
        index.apply(service(&json!({
            "clusterIP": "10.96.0.20", "ports": [{"port": 80}],
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": config,
        })));
        let services = index.intent().services;
        assert_eq!(services.values().next().and_then(|backends| backends.affinity_seconds), Some(seconds));
    }
}
