//! What guards VXLAN: who may speak it to whom, and whom what is inside may come from.

use std::sync::Arc;

use minipod_model::{IpFamily, Protocol};
use netd_dataplane::MarkBits;
use netd_dataplane::compile;
use netd_dataplane::index::Indexes;
use netd_dataplane::interpret::{End, Origin, Packet, Route, State};
use netd_dataplane::spec::{Hook, Spec, Table};
use netd_dataplane::{HostFirewall as Firewall, NodeFacts};
use netd_policy::Transport;
use netd_policy::intent::{Backends, Frontend, Intent};

use crate::sample::{add_pod, addr, facts, facts_with_vxlan, link, pod_address, rich, route, signature};

const VXLAN: Transport = Transport::Port(Protocol::Udp, 4789);

fn spec(intent: &Intent, facts: &NodeFacts) -> Spec {
    compile(intent, facts, &Indexes::default()).expect("compiles")
}

/// One pod that nothing isolates.
fn open() -> Intent {
    let mut intent = Intent::default();
    signature(&mut intent, "open", None, None);
    add_pod(&mut intent, 1, "open");
    intent
}

fn from_pod(to: &str) -> Packet {
    let source = pod_address(1, IpFamily::of(addr(to)));
    Packet::first(Origin::Pod(link("p1")), source, addr(to), VXLAN)
}

fn from_outside(from: &str, to: &str) -> Packet {
    Packet::first(Origin::Uplink, addr(from), addr(to), VXLAN)
}

fn from_inside(from: &str, to: std::net::IpAddr) -> Packet {
    Packet::first(Origin::Vxlan, addr(from), to, Transport::Port(Protocol::Tcp, 80))
}

/// Of each kind that the rules tell apart.
pub(crate) fn packets() -> Vec<Packet> {
    let v4 = pod_address(1, IpFamily::V4);
    vec![
        from_pod("192.0.2.1"),
        from_pod("192.0.2.2"),
        from_pod("203.0.113.9"),
        from_pod("2001:db8::2"),
        from_outside("192.0.2.2", "192.0.2.1"),
        from_outside("203.0.113.9", "192.0.2.1"),
        from_inside("10.244.2.7", v4),
        from_inside("10.244.1.9", v4),
    ]
}

#[track_caller]
fn check(intent: &Intent, packet: &Packet, expected: End) {
    let spec = spec(intent, &facts_with_vxlan());
    let state = State::of_spec(&spec, MarkBits::default());
    // The node has one more address, by which no other node knows it.
    let local = |to| if to == addr("198.51.100.1") { Route::Local } else { route(to, 9) };
    let outcome = state.walk(packet, local, |_, _| true);
    assert_eq!(outcome.end, expected, "{packet:?}");
    assert!(!outcome.leaks_scratch);
}

#[test]
fn no_pod_speaks_vxlan_to_a_node_whatever_its_policies_say() {
    let intent = open();
    for own in ["192.0.2.1", "198.51.100.1"] {
        check(&intent, &from_pod(own), End::Dropped(Table::Mangle, Hook::Input));
    }
    for other in ["192.0.2.2", "192.0.2.3", "2001:db8::2", "10.244.2.1", "fd00:10:244:2::1"] {
        check(&intent, &from_pod(other), End::Dropped(Table::Mangle, Hook::Forward));
    }
    check(&intent, &from_pod("203.0.113.9"), End::Arrives);
    let other_port = Packet { transport: Transport::Port(Protocol::Udp, 4790), ..from_pod("192.0.2.2") };
    check(&intent, &other_port, End::Arrives);
}

#[test]
fn no_service_leads_a_pod_to_the_vxlan_of_a_node() {
    let mut intent = open();
    let frontend = Frontend { address: addr("10.96.0.20"), protocol: Protocol::Udp, port: 53 };
    let endpoints = vec![(addr("192.0.2.2"), 4789)];
    let backends = Backends { name: "default/s:dns".into(), endpoints, affinity_seconds: None };
    Arc::make_mut(&mut intent.services).insert(frontend, backends);
    let packet = Packet::first(
        Origin::Pod(link("p1")),
        pod_address(1, IpFamily::V4),
        addr("10.96.0.20"),
        Transport::Port(Protocol::Udp, 53),
    );
    check(&intent, &packet, End::Dropped(Table::Mangle, Hook::Forward));
}

#[test]
fn vxlan_is_taken_in_from_nodes_and_at_one_address() {
    let intent = open();
    check(&intent, &from_outside("192.0.2.2", "192.0.2.1"), End::Arrives);
    for stranger in ["192.0.2.3", "203.0.113.9", "10.244.2.7"] {
        check(&intent, &from_outside(stranger, "192.0.2.1"), End::Dropped(Table::Mangle, Hook::Input));
    }
    // A pod that sends to an address that its node takes for nobody's comes with its node's.
    check(&intent, &from_outside("192.0.2.2", "198.51.100.1"), End::Dropped(Table::Mangle, Hook::Input));
}

#[test]
fn what_is_inside_comes_from_pods_of_nodes_that_are_reached_so() {
    let intent = open();
    let (v4, v6) = (pod_address(1, IpFamily::V4), pod_address(1, IpFamily::V6));
    for (source, to) in [("10.244.2.7", v4), ("10.244.2.1", v4), ("fd00:10:244:2::7", v6)] {
        check(&intent, &from_inside(source, to), End::Arrives);
    }
    for (source, to) in [
        ("10.244.1.9", v4),
        ("10.244.3.7", v4),
        ("192.0.2.2", v4),
        ("203.0.113.9", v4),
        ("fd00:10:244:1::9", v6),
        ("fe80::1", v6),
    ] {
        check(&intent, &from_inside(source, to), End::Dropped(Table::Raw, Hook::Prerouting));
    }
}

#[test]
fn what_leaves_by_vxlan_has_a_source_of_this_nodes_range() {
    let spec = spec(&open(), &facts_with_vxlan());
    let state = State::of_spec(&spec, MarkBits::default());
    let is_translated = |origin, source| {
        let packet = Packet::first(origin, source, addr("10.244.2.7"), Transport::Port(Protocol::Tcp, 80));
        let outcome = state.walk(&packet, |_| Route::Vxlan, |_, _| true);
        assert!(outcome.arrives(), "{packet:?}");
        outcome.is_masqueraded
    };
    assert!(!is_translated(Origin::Pod(link("p1")), pod_address(1, IpFamily::V4)), "a pod keeps its address");
    assert!(is_translated(Origin::Node, addr("192.0.2.1")), "what the node sends to a service");
    assert!(!is_translated(Origin::Node, addr("10.244.1.1")));
}

#[test]
fn a_host_that_judges_for_itself_judges_vxlan_as_well() {
    let accepts = |host_firewall| {
        let facts = NodeFacts { host_firewall, ..facts_with_vxlan() };
        let spec = spec(&open(), &facts);
        let input = spec.chains.iter().filter(|(key, _)| key.table == Table::Filter && key.name.as_str() == "MP-INPUT");
        input.flat_map(|(_, chain)| &chain.rules).filter(|rule| format!("{rule:?}").contains("4789")).count()
    };
    assert_eq!((accepts(Firewall::Accept), accepts(Firewall::Respect)), (1, 0));
}

#[test]
fn nothing_else_is_judged_otherwise_where_vxlan_is_spoken() {
    let (without, with) = (spec(&rich(), &facts()), spec(&rich(), &facts_with_vxlan()));
    let [without, with] = [&without, &with].map(|spec| State::of_spec(spec, MarkBits::default()));
    for packet in crate::random::packets() {
        assert_eq!(crate::random::walk(&with, &packet).end, crate::random::walk(&without, &packet).end, "{packet:?}");
    }
}
