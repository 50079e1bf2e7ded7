//! The compiled rules, walked in Rust, give the verdict of the intent; and a first packet's way does not grow with the node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::random::{choice, expected, intent, packets, signatures, spec_of, spec_on, walk};
use crate::sample::{addr, facts, facts_of_a_start, link, pod_address, service};
use minipod_model::{IpFamily, Protocol};
use netd_dataplane::interpret::{End, Origin, Packet, Route, State};
use netd_dataplane::spec::{ConnState, Hook, Table};
use netd_dataplane::{DenyAction, MarkBits, NodeFacts};
use netd_policy::Transport;
use netd_policy::intent::{Allowed, GroupId, Intent, PeerGroup, Peers, Signature, SignatureId};
use proptest::prelude::*;

proptest! {
    #![proptest_config(crate::sample::cases(48))]

    #[test]
    fn compiled_rules_give_the_verdict_of_the_intent(
        signatures in signatures(),
        choice in choice(),
        facts in facts_of_a_start(),
    ) {
        let intent = intent(&signatures, &choice);
        let spec = spec_on(&facts, &intent);
        let state = State::of_spec(&spec, MarkBits::default());
        for packet in packets() {
            let outcome = walk(&state, &packet);
            prop_assert_eq!(outcome.arrives(), expected(&intent, &packet), "{:?} {:?}", packet, outcome);
            prop_assert!(!outcome.leaks_scratch, "{:?} {:?}", packet, outcome);
            let left = if outcome.arrives() { outcome.mark & MarkBits::default().scratch() } else { 0 };
            prop_assert_eq!(left, 0, "{:?} {:?}", packet, outcome);
        }
    }

    #[test]
    fn scratch_bits_that_others_set_do_not_change_a_verdict(signatures in signatures(), choice in choice(), mark: u32) {
        let intent = intent(&signatures, &choice);
        let spec = spec_of(&intent);
        let state = State::of_spec(&spec, MarkBits::default());
        for packet in packets() {
            let marked = Packet { mark, ..packet.clone() };
            prop_assert_eq!(walk(&state, &marked).end, walk(&state, &packet).end, "{:?}", marked);
        }
    }

    #[test]
    fn an_accept_on_top_in_filter_lets_no_more_pass_where_denied_packets_are_rejected(
        signatures in signatures(),
        choice in choice(),
        untracked: bool,
    ) {
        let intent = intent(&signatures, &choice);
        let dropping = spec_of(&intent);
        let rejecting = spec_on(&rejects(), &intent);
        let accepting = |spec| State::of_spec(spec, MarkBits::default()).accepting_in(Table::Filter);
        for packet in packets() {
            let state = if untracked { ConnState::Untracked } else { ConnState::New };
            let packet = Packet { state, ..packet };
            let outcome = walk(&accepting(&rejecting), &packet);
            prop_assert_eq!(outcome.arrives(), walk(&accepting(&dropping), &packet).arrives(), "{:?} {:?}", packet, outcome);
        }
    }
}

fn rejects() -> NodeFacts {
    NodeFacts { deny_action: DenyAction::Reject, ..facts() }
}

#[test]
fn what_is_denied_is_answered_only_where_the_node_rejects_and_only_for_its_policy() {
    let intent = crate::sample::rich();
    let (dropping, rejecting) = (spec_of(&intent), spec_on(&rejects(), &intent));
    assert!(dropping.chains.keys().all(|key| key.table != Table::Security && !key.name.as_str().contains("DENIED")));
    let at = |number| pod_address(number, IpFamily::V4);
    let first = |from: u8, to| {
        Packet::first(Origin::Pod(link(&format!("p{from}"))), at(from), to, Transport::Port(Protocol::Tcp, 9999))
    };
    let egress = first(3, at(2));
    let revoked = MarkBits::default().revoked();
    let live = Packet { state: ConnState::Established, is_syn: false, connection_mark: revoked, ..first(2, at(1)) };
    let (own, node) = (pod_address(3, IpFamily::V6), addr("2001:db8::1"));
    let to_node = Packet::first(Origin::Pod(link("p3")), own, node, Transport::Port(Protocol::Tcp, 9999));
    let forward = Hook::Forward;
    for (packet, hook, is_answered) in [
        (egress.clone(), forward, true),
        (first(3, addr("192.0.2.77")), forward, true),
        (to_node, Hook::Input, true),
        (live, forward, true),
        (Packet { state: ConnState::Untracked, ..egress.clone() }, forward, false),
        (Packet { state: ConnState::Invalid, ..egress.clone() }, forward, false),
        (Packet { is_syn: false, ..egress.clone() }, forward, false),
        // Nothing is known of this pod yet.
        (first(2, at(5)), forward, false),
        (first(2, addr("10.96.0.10")), Hook::Input, false),
    ] {
        let end = |spec| walk(&State::of_spec(spec, MarkBits::default()), &packet).end;
        let dropped = End::Dropped(Table::Mangle, hook);
        assert_eq!(end(&dropping), dropped, "{packet:?}");
        let answered = if is_answered { End::Rejected(Table::Filter, hook) } else { dropped };
        assert_eq!(end(&rejecting), answered, "{packet:?}");
    }
}
#[test]
fn packets_in_the_middle_are_judged_by_connection_tracking() {
    let spec = spec_of(&crate::sample::rich());
    let state = State::of_spec(&spec, MarkBits::default());
    let at = |number| pod_address(number, IpFamily::V4);
    let origin = Origin::Pod(link("p3"));
    let denied = Packet::first(origin, at(3), at(2), Transport::Port(Protocol::Tcp, 9999));
    assert_eq!(
        walk(&state, &denied).end,
        End::Dropped(netd_dataplane::spec::Table::Mangle, netd_dataplane::spec::Hook::Forward)
    );
    let established = Packet { state: ConnState::Established, is_syn: false, ..denied.clone() };
    assert!(walk(&state, &established).arrives());
    let revoked = Packet { connection_mark: MarkBits::default().revoked(), ..established };
    assert!(!walk(&state, &revoked).arrives());
    let open = Packet::first(Origin::Pod(link("p2")), at(2), at(1), Transport::Port(Protocol::Tcp, 80));
    assert!(walk(&state, &open).arrives());
    for state_ in [ConnState::New, ConnState::Untracked, ConnState::Invalid] {
        let middle = Packet { state: state_, is_syn: false, ..open.clone() };
        assert!(!walk(&state, &middle).arrives(), "{state_:?}");
    }
    let error = Packet { transport: Transport::Other, icmp: Some(3), state: ConnState::Related, ..denied.clone() };
    assert!(walk(&state, &error).arrives());
    let expected_by_a_helper = Packet { state: ConnState::Related, ..denied };
    assert!(!walk(&state, &expected_by_a_helper).arrives());
}

#[test]
fn neighbour_discovery_reaches_the_node_only() {
    let spec = spec_of(&crate::sample::rich());
    let state = State::of_spec(&spec, MarkBits::default());
    let discovery = |kind, to: &str, hop_limit| {
        let first = Packet::first(Origin::Pod(link("p3")), addr("fe80::2"), addr(to), Transport::Other);
        Packet { icmp: Some(kind), hop_limit, state: ConnState::Untracked, ..first }
    };
    let local = |_: IpAddr| Route::Local;
    let arrives = |packet: &Packet| state.walk(packet, local, |_, _| true).arrives();
    assert!(arrives(&discovery(135, "fe80::1", 255)));
    assert!(arrives(&discovery(133, "ff02::2", 255)));
    assert!(!arrives(&discovery(134, "ff02::1", 255)), "no router advertisement from a pod");
    assert!(!arrives(&discovery(135, "fe80::1", 64)), "forwarded");
    assert!(!arrives(&discovery(135, "fd00:10:244:1::1", 255)), "to another pod with a source that is not its own");
    assert!(!arrives(&discovery(128, "fe80::1", 255)), "an echo request from an unknown address");
}

/// A node with so many pods, each with a signature of its own, so many services of so many endpoints.
fn large(pods: u32, services: u32) -> Intent {
    let mut intent = crate::sample::little();
    let address = |n: u32| addr(&format!("10.244.{}.{}", 1 + n / 250, n % 250 + 1));
    for n in 0..pods {
        let id = format!("s{n}");
        let id = SignatureId(id.into());
        let group = GroupId(format!("g{n}").into());
        let members = (0..pods).map(address).collect();
        let members = PeerGroup { pods: members, ..PeerGroup::default() };
        Arc::make_mut(&mut intent.groups).insert(group.clone(), members);
        let allowed = Allowed { any_port: Some(Peers::Group(group)), ..Allowed::default() };
        let signature = Signature { ingress: Some(allowed.clone()), egress: Some(allowed) };
        Arc::make_mut(&mut intent.signatures).insert(id.clone(), Arc::new(signature));
        let endpoint = netd_policy::intent::Endpoint {
            pod: minipod_model::PodKey::new("default", format!("p{n}")),
            addresses: vec![address(n)],
            signature: id,
        };
        Arc::make_mut(&mut intent.endpoints).insert(link(&format!("p{n}")), Arc::new(endpoint));
    }
    for n in 0..services {
        let endpoints: Vec<_> = (0..pods.min(200)).map(|n| (address(n), 80)).collect();
        let at = format!("10.96.{}.{}", n / 200, n % 200 + 20);
        service(&mut intent, &at, 80, &endpoints, None);
    }
    intent
}

/// The most rules that the first packet of a connection to a service meets on the way to its pod.
fn longest_way(pods: u32, services: u32) -> usize {
    let intent = large(pods, services);
    // The longer way of the two.
    let spec = spec_on(&rejects(), &intent);
    let state = State::of_spec(&spec, MarkBits::default());
    let address = |n: u32| addr(&format!("10.244.{}.{}", 1 + n / 250, n % 250 + 1));
    let links: BTreeMap<IpAddr, _> = (0..pods).map(|n| (address(n), link(&format!("p{n}")))).collect();
    let route = |to: IpAddr| links.get(&to).map_or(Route::Uplink, |link| Route::Pod(link.clone()));
    let mut longest = 0;
    for n in (0..services).step_by(1 + services as usize / 60) {
        let to = addr(&format!("10.96.{}.{}", n / 200, n % 200 + 20));
        let from = n % pods;
        let origin = Origin::Pod(link(&format!("p{from}")));
        let packet = Packet::first(origin, address(from), to, Transport::Port(Protocol::Tcp, 80));
        // The last of all choices is the longest way.
        let outcome = state.walk(&packet, route, |_, _| false);
        assert!(outcome.arrives(), "{packet:?} {outcome:?}");
        longest = longest.max(outcome.rules_met);
    }
    longest
}

#[test]
fn a_first_packet_meets_no_more_rules_on_a_large_node() {
    let small = longest_way(10, 10);
    let large = longest_way(400, 1000);
    // docs/datapath.md, "The bound": 31 and a tree of up to 16 leaves for each of service, egress and ingress; then of up to 4096.
    assert!(small <= 31 + 3 * 16 + 16, "{small}");
    assert!(large <= 31 + 3 * 48 + 24, "{large}");
}
