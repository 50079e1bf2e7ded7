//! Who may talk: every kind of pod selector with every kind of namespace selector, blocks of addresses, and several peers at once.

use serde_json::{Value, json};

use super::{Case, Direction, Step, all, expression, labelled, policy};
use crate::scene::Scene;

pub(crate) fn peers(direction: Direction) -> Vec<Case> {
    let pods: [(&str, Option<Value>); 6] = [
        ("pods left out", None),
        ("all pods", Some(all())),
        ("pod=a", Some(labelled("pod", "a"))),
        ("pod in b, c", Some(expression("pod", "In", &["b", "c"]))),
        ("pod not in b", Some(expression("pod", "NotIn", &["b"]))),
        ("pods without a label", Some(expression("pod", "DoesNotExist", &[]))),
    ];
    let namespaces: [(&str, Option<Value>); 6] = [
        ("namespace left out", None),
        ("all namespaces", Some(all())),
        ("ns=y", Some(labelled("ns", "y"))),
        ("ns in x, y", Some(expression("ns", "In", &["x", "y"]))),
        ("ns not in x", Some(expression("ns", "NotIn", &["x"]))),
        ("namespace by its name", Some(labelled("kubernetes.io/metadata.name", "z"))),
    ];
    let mut cases = Vec::new();
    for (pods_name, pods) in &pods {
        for (namespaces_name, namespaces) in &namespaces {
            if pods.is_none() && namespaces.is_none() {
                continue;
            }
            let mut peer = json!({});
            if let Some(pods) = pods {
                peer["podSelector"] = pods.clone();
            }
            if let Some(namespaces) = namespaces {
                peer["namespaceSelector"] = namespaces.clone();
            }
            cases.push(with_peers(&format!("{pods_name}, {namespaces_name}"), direction, &json!([peer])));
        }
    }
    let two = json!([{"podSelector": labelled("pod", "b")}, {"namespaceSelector": labelled("ns", "z")}]);
    cases.push(with_peers("two selectors", direction, &two));
    let overlapping =
        json!([{"podSelector": all(), "namespaceSelector": all()}, {"podSelector": labelled("pod", "b")}]);
    cases.push(with_peers("two selectors, one in the other", direction, &overlapping));
    cases.extend(blocks(direction));
    cases
}

fn with_peers(name: &str, direction: Direction, peers: &Value) -> Case {
    let policy = policy("x", "peers", &labelled("pod", "a"), direction, &json!([{direction.peers(): peers}]));
    Case::of(format!("peers: {name}, {direction:?}"), vec![policy])
}

/// Blocks of addresses, which depend on where the pods are.
fn blocks(direction: Direction) -> Vec<Case> {
    let case = |name: &str, peers: fn(&Scene) -> Value| {
        let step: Step = Box::new(move |scene| {
            let rules = json!([{direction.peers(): peers(scene)}]);
            scene.put(&[policy("x", "peers", &labelled("pod", "a"), direction, &rules)]);
        });
        Case::steps(format!("peers: {name}, {direction:?}"), vec![step])
    };
    vec![
        case("all of IPv4", |_| json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}])),
        case("all of IPv6", |_| json!([{"ipBlock": {"cidr": "::/0"}}])),
        case("all of both", |_| json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}])),
        case("one address", |scene| json!([{"ipBlock": {"cidr": host(scene, "y", "a", false)}}])),
        case("one IPv6 address", |scene| json!([{"ipBlock": {"cidr": host(scene, "y", "a", true)}}])),
        case("a prefix", |scene| json!([{"ipBlock": {"cidr": around(scene, "y", "b", false)}}])),
        case("a prefix of IPv6", |scene| json!([{"ipBlock": {"cidr": around(scene, "y", "b", true)}}])),
        case(
            "all but one address",
            |scene| json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": [host(scene, "y", "a", false)]}}]),
        ),
        case("all but two IPv6 prefixes", |scene| {
            let except = [host(scene, "y", "a", true), around(scene, "z", "c", true)];
            json!([{"ipBlock": {"cidr": "::/0", "except": except}}])
        }),
        case("a block with a hole that another block fills", |scene| {
            json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": [around(scene, "y", "a", false)]}},
                   {"ipBlock": {"cidr": host(scene, "y", "a", false)}}])
        }),
        case("a hole that a selector fills", |scene| {
            json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": [host(scene, "y", "a", false)]}},
                   {"podSelector": labelled("pod", "a"), "namespaceSelector": labelled("ns", "y")}])
        }),
        case("a block without any pod", |_| json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}])),
    ]
}

/// The pod's address alone.
fn host(scene: &Scene, namespace: &str, pod: &str, v6: bool) -> String {
    format!("{}/{}", scene.address(namespace, pod, v6), if v6 { 128 } else { 32 })
}

/// Four addresses with the pod's among them.
fn around(scene: &Scene, namespace: &str, pod: &str, v6: bool) -> String {
    match scene.address(namespace, pod, v6) {
        std::net::IpAddr::V4(address) => format!("{}/30", std::net::Ipv4Addr::from(u32::from(address) & !3)),
        std::net::IpAddr::V6(address) => format!("{}/126", std::net::Ipv6Addr::from(u128::from(address) & !3)),
    }
}
