//! Two and more nodes on one segment, behind a router, or with objects that contradict each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netd_policy::object::Node;

use super::{Hop, Hops, Network, Situation, compile};
use crate::options::Routing;
use crate::routes::Ranges;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn node(name: &str, internal: &[&str], ranges: &[&str]) -> Node {
    let internal: Vec<IpAddr> = internal.iter().map(|text| ip(text)).collect();
    let pod_cidrs = ranges.iter().map(ToString::to_string).collect();
    Node { name: name.to_owned(), addresses: internal.iter().copied().collect(), internal, pod_cidrs }
}

fn own() -> Node {
    node("n1", &["192.0.2.1", "2001:db8::1"], &["10.244.0.0/24", "fd00:10:244::/64"])
}

fn ranges() -> Ranges {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a range")).collect();
    Ranges {
        node: nets(&["10.244.0.0/24", "fd00:10:244::/64"]),
        cluster: nets(&["10.244.0.0/16", "fd00:10:244::/48"]),
        services: nets(&["10.96.0.0/16"]),
    }
}

/// On link 2 are `192.0.2.0/24` and `2001:db8::/64`; everything but `203.0.113.0/24` is behind a router there.
fn hop(address: IpAddr) -> Option<Hop> {
    let text = address.to_string();
    let on_link = text.starts_with("192.0.2.") || text.starts_with("2001:db8::");
    (!text.starts_with("203.0.113.")).then_some(Hop { link: 2, on_link, mtu: 1500 })
}

/// What n1 does, given the other nodes.
fn network(routing: Routing, own: Node, others: &[Node]) -> Network {
    let all = [vec![own], others.to_vec()].concat();
    let nodes: BTreeMap<String, Node> = all.into_iter().map(|node| (node.name.clone(), node)).collect();
    let hops: Hops = super::addresses_of_others("n1", &nodes).filter_map(|a| Some((a, hop(a)?))).collect();
    compile(&Situation { node: "n1", nodes: &nodes, ranges: &ranges(), routing, hops: &hops })
}

/// As lines: what leads where, and what does not.
fn lines(network: &Network) -> Vec<String> {
    let mut lines: Vec<String> = network.routes(Some(9)).iter().map(ToString::to_string).collect();
    if let Some(vxlan) = &network.vxlan {
        lines.push(format!("vxlan from {} mtu {}", vxlan.local, vxlan.mtu));
        lines.extend(vxlan.forwardings().iter().map(|entry| format!("to {}", entry.to)));
    }
    lines.extend(network.problems.iter().map(ToString::to_string));
    lines
}

#[track_caller]
fn check(routing: Routing, others: &[Node], expected: &[&str]) {
    assert_eq!(lines(&network(routing, own(), others)), expected);
}

fn near() -> Node {
    node("n2", &["192.0.2.2", "2001:db8::2"], &["10.244.1.0/24", "fd00:10:244:1::/64"])
}

fn far() -> Node {
    node("n3", &["198.51.100.3", "2001:db8:3::3"], &["10.244.3.0/24", "fd00:10:244:3::/64"])
}

#[test]
fn a_node_on_the_link_is_reached_directly_and_one_behind_a_router_by_vxlan() {
    check(Routing::Auto, &[], &[]);
    let direct = ["10.244.1.0/24 via 192.0.2.2 dev #2", "fd00:10:244:1::/64 via 2001:db8::2 dev #2"];
    check(Routing::Auto, &[near()], &direct);
    let through = [
        "10.244.3.0/24 via 10.244.3.1 dev #9",
        "fd00:10:244:3::/64 via fd00:10:244:3::1 dev #9",
        "vxlan from 192.0.2.1 mtu 1450",
        "to 198.51.100.3",
    ];
    check(Routing::Auto, &[far()], &through);
    check(Routing::Auto, &[near(), far()], &[direct.as_slice(), &through].concat());
    check(Routing::None, &[near(), far()], &[]);
}

#[test]
fn a_node_of_which_only_one_family_is_on_the_link_is_reached_both_ways() {
    let expected = [
        "10.244.1.0/24 via 192.0.2.2 dev #2",
        "fd00:10:244:1::/64 via fd00:10:244:1::1 dev #9",
        "vxlan from 192.0.2.1 mtu 1450",
        "to 192.0.2.2",
    ];
    check(Routing::Auto, &[Node { internal: vec![ip("192.0.2.2")], ..near() }], &expected);
}

#[test]
fn an_underlay_of_ipv6_alone_takes_70_bytes() {
    let own = Node { internal: vec![ip("2001:db8::1")], ..own() };
    let far = Node { internal: vec![ip("2001:db8:3::3")], ..far() };
    let network = network(Routing::Auto, own, &[far]);
    assert_eq!(lines(&network)[2..], ["vxlan from 2001:db8::1 mtu 1430", "to 2001:db8:3::3"]);
}

#[test]
fn by_option_everything_or_nothing_goes_by_vxlan() {
    let network = network(Routing::Vxlan, own(), &[near(), far()]);
    assert!(network.direct.is_empty() && network.problems.is_empty());
    assert_eq!(network.vxlan.expect("a device").peers.len(), 2);
    check(
        Routing::Direct,
        &[far()],
        &["10.244.3.0/24", "fd00:10:244:3::/64"].map(|range| {
            format!(
                "node `n3`: it is not on a link of this node, which `--routing direct` needs for pod range `{range}`; use `--routing \
                 auto`; its pods there are not reached"
            )
        })
        .each_ref()
        .map(String::as_str),
    );
}

#[test]
fn both_ends_know_each_others_hardware_address() {
    let there = |own: &str, node: Node, other: Node| {
        let nodes: BTreeMap<String, Node> = [node, other].map(|node| (node.name.clone(), node)).into();
        let hops: Hops = super::addresses_of_others(own, &nodes).filter_map(|a| Some((a, hop(a)?))).collect();
        let range = nodes[own].pod_cidrs.iter().map(|text| text.parse().expect("a range")).collect();
        let ranges = Ranges { node: range, ..ranges() };
        let situation = Situation { node: own, nodes: &nodes, ranges: &ranges, routing: Routing::Vxlan, hops: &hops };
        compile(&situation).vxlan.expect("a device")
    };
    let (one, other) = (there("n1", own(), far()), there("n3", far(), own()));
    assert_eq!((one.mac, other.mac), (other.peers[0].mac, one.peers[0].mac));
    assert_ne!(one.mac, other.mac);
    assert!(one.mac.is_unicast());
    for address in &one.addresses {
        assert_eq!(other.neighbours()[address], one.mac);
    }
    assert_eq!(one.forwardings().first().map(|entry| entry.to), Some(other.local));
}

#[test]
fn each_peer_is_asked_inside_the_tunnel_from_the_nodes_own_address_of_that_family() {
    let far_v6 = node("n4", &["198.51.100.4"], &["fd00:10:244:4::/64"]);
    let tunnel = network(Routing::Auto, own(), &[near(), far(), far_v6]).vxlan.expect("a device").tunnel();
    let pairs = [("10.244.0.1", "10.244.3.1"), ("fd00:10:244::1", "fd00:10:244:4::1")];
    assert_eq!(tunnel.pairs, pairs.map(|(own, peer)| (ip(own), ip(peer))));
    assert_eq!(tunnel.local, ip("192.0.2.1"));
}

#[test]
fn ranges_that_nobody_else_may_have_are_not_routed_and_told_by_name() {
    let at = |name: &str, ranges: &[&str]| node(name, &["192.0.2.9"], ranges);
    let unreached = "; its pods there are not reached";
    let told = |text: &str| format!("{text}{unreached}");
    for (range, problem) in [
        (
            "10.244.0.128/25",
            "pod range `10.244.0.128/25` overlaps this node's; give each node its own with `--pod-cidr`",
        ),
        ("10.244.0.0/16", "pod range `10.244.0.0/16` overlaps this node's; give each node its own with `--pod-cidr`"),
        ("0.0.0.0/0", "pod range `0.0.0.0/0` is not in `--cluster-cidr`; give all nodes the same"),
        ("10.96.0.0/24", "pod range `10.96.0.0/24` is not in `--cluster-cidr`; give all nodes the same"),
        ("10.244.x/24", "`10.244.x/24` in `spec.podCIDRs` is no range, e.g. `10.244.1.0/24`"),
    ] {
        check(Routing::Auto, &[at("n9", &[range])], &[&told(&format!("node `n9`: {problem}"))]);
    }
    let twice = |node: &str, range: &str, other: &str| {
        told(&format!(
            "node `{node}`: pod range `{range}` overlaps that of node `{other}`; give each node its own with `--pod-cidr`"
        ))
    };
    let expected = [
        "10.244.9.0/24 via 192.0.2.9 dev #2".to_owned(),
        twice("n2", "10.244.2.0/23", "n4"),
        twice("n2", "10.244.2.0/23", "n5"),
        twice("n4", "10.244.2.0/24", "n2"),
        twice("n5", "10.244.3.0/24", "n2"),
    ];
    let others = [
        at("n2", &["10.244.2.0/23"]),
        at("n4", &["10.244.2.0/24"]),
        at("n5", &["10.244.3.0/24"]),
        at("n9", &["10.244.9.0/24"]),
    ];
    check(Routing::Auto, &others, &expected.each_ref().map(String::as_str));

    // Also where their other ranges differ: both would have the same hardware address.
    let others =
        [at("n3", &["10.244.3.0/24", "fd00:10:244:3::/64"]), at("n4", &["10.244.3.0/24", "fd00:10:244:4::/64"])];
    let expected = [twice("n3", "10.244.3.0/24", "n4"), twice("n4", "10.244.3.0/24", "n3")];
    check(Routing::Vxlan, &others, &expected.each_ref().map(String::as_str));
}

#[test]
fn a_node_without_a_usable_address_is_told_by_name() {
    for (addresses, problem) in [
        (
            &[] as &[&str],
            "it has no IPv4 address of type `InternalIP` outside the cluster's ranges for pod range `10.244.9.0/24`",
        ),
        (
            &["10.244.9.7"],
            "it has no IPv4 address of type `InternalIP` outside the cluster's ranges for pod range `10.244.9.0/24`",
        ),
        (&["203.0.113.9"], "no route leads to its address `203.0.113.9`"),
    ] {
        let expected = format!("node `n9`: {problem}; its pods there are not reached");
        check(Routing::Auto, &[node("n9", addresses, &["10.244.9.0/24"])], &[&expected]);
    }
}

#[test]
fn the_mtu_follows_the_narrowest_way_and_never_ends_ipv6() {
    let all: BTreeMap<String, Node> = [own(), far()].map(|node| (node.name.clone(), node)).into();
    for (uplink, expected) in [(9000, 8950), (1400, 1350), (1300, 1280)] {
        let hops = [(ip("198.51.100.3"), Hop { link: 2, on_link: false, mtu: uplink })].into();
        let situation = Situation { node: "n1", nodes: &all, ranges: &ranges(), routing: Routing::Auto, hops: &hops };
        assert_eq!(compile(&situation).vxlan.map(|vxlan| vxlan.mtu), Some(expected));
    }
}
