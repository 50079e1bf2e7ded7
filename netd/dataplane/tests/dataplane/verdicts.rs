//! The compiled rules, walked in Rust, give the verdict of the intent; every prefix of a plan passes only what the state before or the
//! state after passes; and a first packet's way does not grow with the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::sample::{add_pod, addr, facts, link, net, pod_address, route, service};
use minipod_model::{IpFamily, Protocol};
use netd_dataplane::diff::diff;
use netd_dataplane::fake::FakeKernel;
use netd_dataplane::index::Indexes;
use netd_dataplane::interpret::{End, Origin, Outcome, Packet, Route, State};
use netd_dataplane::kernel::execute_step;
use netd_dataplane::plan::{Plan, SetEdit, Step};
use netd_dataplane::spec::ConnState;
use netd_dataplane::{Dataplane, Kernel, MarkBits, NodeFacts, Spec, compile};
use netd_policy::Transport;
use netd_policy::intent::{
    Allowed, GroupId, Intent, Pair, PairsId, PeerGroup, Peers, PortClass, Signature, SignatureId,
};
use netd_policy::interpret::Interpreter;
use proptest::prelude::*;

/// Pods 1 to 4 may be attached; 5 has a link and is never in an intent; 6 is on another node.
const LOCAL: u8 = 4;
const UNKNOWN: u8 = 5;

fn remote(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr("10.244.2.6"),
        IpFamily::V6 => addr("fd00:10:244:2::6"),
    }
}

fn outside(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr("192.0.2.77"),
        IpFamily::V6 => addr("2001:db8:5::77"),
    }
}

fn service_address(number: u8, family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr(&format!("10.96.0.{number}")),
        IpFamily::V6 => addr(&format!("fd00:10:96::{number}")),
    }
}

const TRANSPORTS: [Transport; 5] = [
    Transport::Port(Protocol::Tcp, 53),
    Transport::Port(Protocol::Tcp, 80),
    Transport::Port(Protocol::Tcp, 8080),
    Transport::Port(Protocol::Udp, 53),
    Transport::Other,
];

/// First packets between everyone and everyone.
fn packets() -> Vec<Packet> {
    let mut packets = Vec::new();
    for family in IpFamily::ALL {
        let own = facts();
        let own = own.family(family).expect("both families");
        let mut destinations: Vec<IpAddr> = (1..=UNKNOWN).map(|number| pod_address(number, family)).collect();
        let mut sources: Vec<(Origin, IpAddr)> = destinations
            .iter()
            .zip(1..)
            .map(|(address, number)| (Origin::Pod(link(&format!("p{number}"))), *address))
            .collect();
        sources.extend([remote(family), outside(family)].map(|address| (Origin::Uplink, address)));
        destinations.extend([
            remote(family),
            outside(family),
            service_address(20, family),
            service_address(21, family),
        ]);
        destinations.extend(own.node_addresses.iter().chain(&own.cluster_dns));
        for (origin, source) in &sources {
            for destination in &destinations {
                for transport in TRANSPORTS {
                    let mut packet = Packet::first(origin.clone(), *source, *destination, transport);
                    packet.icmp = (transport == Transport::Other).then_some(crate::sample::echo_request(family));
                    packets.push(packet);
                }
            }
        }
    }
    packets
}

fn walk(state: &State<'_>, packet: &Packet) -> Outcome {
    state.walk(packet, |address| route(address, UNKNOWN), |_, _| true)
}

/// The members of group `number`; its networks follow from the number, since they are a part of what a group's name says.
fn group(number: usize, members: &BTreeSet<u8>) -> PeerGroup {
    let pods = members.iter().flat_map(|member| {
        IpFamily::ALL.map(|family| if *member == 6 { remote(family) } else { pod_address(*member, family) })
    });
    let nets: &[&str] = match number {
        2 => &["192.0.2.0/24", "2001:db8:5::/64", "10.244.1.2/32"],
        // As an index makes it of `0.0.0.0/0` and `::/0`, without the cluster DNS.
        3 => &["0.0.0.0/5", "8.0.0.0/7", "11.0.0.0/8", "128.0.0.0/1", "2000::/3"],
        _ => &[],
    };
    PeerGroup { pods: pods.collect(), nets: nets.iter().map(|text| net(text)).collect() }
}

fn peers() -> impl Strategy<Value = Peers> {
    prop_oneof![
        1 => Just(Peers::Everyone),
        6 => (0..4_usize).prop_map(|number| Peers::Group(GroupId(format!("g{number}")))),
    ]
}

fn allowed() -> impl Strategy<Value = Allowed> {
    let many: Vec<(u16, u16)> =
        std::iter::once((80, 80)).chain((0..20).map(|n| (1000 + n * 10, 1001 + n * 10))).collect();
    let class = |protocol, ranges: Vec<(u16, u16)>| {
        peers().prop_map(move |peers| PortClass { protocol, ranges: ranges.clone(), peers })
    };
    let classes = (
        proptest::option::of(class(Protocol::Tcp, vec![(53, 53)])),
        proptest::option::of(class(Protocol::Tcp, many)),
        proptest::option::of(class(Protocol::Tcp, vec![(8000, 9000), (9100, 9100)])),
        proptest::option::of(class(Protocol::Udp, vec![(0, 65535)])),
    );
    (proptest::option::weighted(0.4, peers()), classes, any::<bool>()).prop_map(|(any_port, (a, b, c, d), named)| {
        Allowed {
            any_port,
            ports: [a, b, c, d].into_iter().flatten().collect(),
            named: if named { BTreeSet::from([PairsId("names".into())]) } else { BTreeSet::new() },
        }
    })
}

fn some_signature() -> impl Strategy<Value = Signature> {
    (proptest::option::weighted(0.7, allowed()), proptest::option::weighted(0.7, allowed()), any::<bool>()).prop_map(
        |(ingress, mut egress, _)| Signature {
            ingress: ingress.map(|mut allowed| {
                allowed.named.clear();
                allowed
            }),
            egress: egress.take(),
        },
    )
}

/// Signatures to choose from, so that two intents share some.
type Signatures = Vec<Signature>;

fn signatures() -> impl Strategy<Value = Signatures> {
    proptest::collection::vec(some_signature(), 4)
}

#[derive(Debug, Clone)]
struct Choice {
    pods: Vec<Option<usize>>,
    members: Vec<BTreeSet<u8>>,
    pairs: BTreeSet<u8>,
    endpoints: Vec<BTreeSet<u8>>,
    affinity: bool,
}

fn choice() -> impl Strategy<Value = Choice> {
    let members = proptest::collection::btree_set(1..=6_u8, 0..4);
    (
        proptest::collection::vec(proptest::option::weighted(0.8, 0..4_usize), LOCAL as usize),
        proptest::collection::vec(members, 4),
        proptest::collection::btree_set(1..=LOCAL, 0..3),
        proptest::collection::vec(proptest::collection::btree_set(1..=LOCAL, 0..3), 2),
        any::<bool>(),
    )
        .prop_map(|(pods, members, pairs, endpoints, affinity)| Choice {
            pods,
            members,
            pairs,
            endpoints,
            affinity,
        })
}

fn intent(signatures: &Signatures, choice: &Choice) -> Intent {
    let mut intent = Intent::default();
    for (number, index) in (1..).zip(&choice.pods) {
        let Some(index) = index else { continue };
        let signature = &signatures[*index];
        let id = format!("{signature:?}");
        add_pod(&mut intent, number, &id);
        intent.signatures.insert(SignatureId(id), signature.clone());
    }
    intent.cluster_dns = IpFamily::ALL.iter().filter_map(|family| facts().family(*family)?.cluster_dns).collect();
    for (number, members) in choice.members.iter().enumerate() {
        intent.groups.insert(GroupId(format!("g{number}")), group(number, members));
    }
    let pairs = choice.pairs.iter().flat_map(|number| {
        IpFamily::ALL.map(|family| Pair { address: pod_address(*number, family), protocol: Protocol::Tcp, port: 8080 })
    });
    intent.pairs.insert(PairsId("names".into()), pairs.collect());
    for family in IpFamily::ALL {
        for (number, endpoints) in (20..).zip(&choice.endpoints) {
            let endpoints: Vec<_> = endpoints.iter().map(|pod| (pod_address(*pod, family), 8080)).collect();
            let affinity = choice.affinity.then_some(60);
            service(&mut intent, &service_address(number, family).to_string(), 80, &endpoints, affinity);
        }
    }
    intent
}

/// The verdict that the documents ask for, from the intent and the facts.
fn expected(intent: &Intent, packet: &Packet) -> bool {
    let is_known = |address: IpAddr| intent.endpoints.values().any(|endpoint| endpoint.addresses.contains(&address));
    let own = |address: IpAddr| (1..=UNKNOWN).any(|n| IpFamily::ALL.iter().any(|f| pod_address(n, *f) == address));
    let family = IpFamily::of(packet.source);
    let facts = facts();
    let facts = facts.family(family).expect("both families");
    let mut judged =
        netd_policy::Packet { source: packet.source, destination: packet.destination, transport: packet.transport };
    if [20, 21].map(|number| service_address(number, family)).contains(&packet.destination) {
        let Transport::Port(protocol, port) = packet.transport else { return false };
        let frontend = netd_policy::intent::Frontend { address: packet.destination, protocol, port };
        let endpoint = intent.services.get(&frontend).and_then(|backends| backends.endpoints.first());
        let Some((address, port)) = endpoint else { return false };
        judged.destination = *address;
        judged.transport = Transport::Port(protocol, *port);
    }
    let from_pod = packet.origin != Origin::Uplink;
    let to_pod = own(judged.destination);
    if from_pod && !is_known(packet.source) || to_pod && !is_known(judged.destination) {
        return false;
    }
    if !from_pod && facts.cluster_dns == Some(packet.destination) {
        return false;
    }
    if !from_pod && !to_pod {
        return route(judged.destination, UNKNOWN) == Route::Local;
    }
    Interpreter::new(intent).allows(&judged)
}

fn spec_of(intent: &Intent) -> Spec {
    compile(intent, &facts(), &Indexes::default()).expect("compiles")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::sample::cases(48), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_rules_give_the_verdict_of_the_intent(signatures in signatures(), choice in choice()) {
        let intent = intent(&signatures, &choice);
        let spec = spec_of(&intent);
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
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::sample::cases(64), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_path_to_an_intent_gives_the_same_state(
        signatures in signatures(),
        first in choice(),
        changes in proptest::collection::vec((choice(), 0..4_u8), 1..6),
    ) {
        let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
        let mut now = first;
        dataplane.apply(&intent(&signatures, &now), &facts()).expect("applies");
        for (next, what) in changes {
            // Mostly one thing changes at a time.
            match what {
                0 => now.members = next.members,
                1 => now.pods[0] = next.pods[0],
                2 => now.pairs = next.pairs,
                _ => now = next,
            }
            let wanted = intent(&signatures, &now);
            dataplane.apply(&wanted, &facts()).expect("applies");
            let spec = spec_of(&wanted);
            let there = dataplane.kernel().observe().expect("observes");
            prop_assert_eq!(there, netd_dataplane::observed::Observed::of(&spec));
            prop_assert_eq!(dataplane.spec(), Some(&spec));
        }
    }
}

#[test]
fn pods_that_come_and_go_run_no_program() {
    let mut now = crate::sample::rich();
    let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
    dataplane.apply(&now, &facts()).expect("applies");
    let programs = dataplane.kernel().programs_run;
    add_pod(&mut now, 9, "web");
    crate::sample::group(&mut now, "foo", &[2, 3, 9], &[]);
    let changes = dataplane.apply(&now, &facts()).expect("applies");
    // In each family: the gate, the signature, the group.
    assert_eq!(changes.elements, 6);
    add_pod(&mut now, 9, "strict");
    let changes = dataplane.apply(&now, &facts()).expect("applies");
    assert_eq!(changes.elements, 2, "a move is one step");
    now.endpoints.remove(&link("p9"));
    dataplane.apply(&now, &facts()).expect("applies");
    assert_eq!(dataplane.kernel().programs_run, programs);
}

/// A plan as single changes: each element by itself.
fn single_changes(plan: &Plan) -> Vec<Step> {
    let mut steps = Vec::new();
    for step in plan.all() {
        match step {
            Step::Edit(edits) => {
                for edit in edits {
                    let singles: Vec<SetEdit> = match edit {
                        SetEdit::Remove(set, entries) => {
                            entries.iter().map(|entry| SetEdit::Remove(set.clone(), vec![entry.clone()])).collect()
                        }
                        SetEdit::Add(set, entries) => entries
                            .iter()
                            .map(|(entry, mark)| SetEdit::Add(set.clone(), BTreeMap::from([(entry.clone(), *mark)])))
                            .collect(),
                    };
                    steps.extend(singles.into_iter().map(|edit| Step::Edit(vec![edit])));
                }
            }
            Step::EnsureJumps(jumps) => {
                steps.extend(jumps.iter().map(|jump| Step::EnsureJumps(vec![jump.clone()])));
            }
            Step::Restore(tables) => {
                steps.extend(tables.iter().map(|table| Step::Restore(vec![table.clone()])));
            }
            other => steps.push(other.clone()),
        }
    }
    steps
}

/// Pairs of source and translated destination that get through, with what got through.
fn passing(kernel: &FakeKernel, packets: &[Packet]) -> Vec<Option<(IpAddr, Option<u16>)>> {
    let state = State::of_fake(kernel, MarkBits::default());
    packets
        .iter()
        .map(|packet| {
            let outcome = walk(&state, packet);
            outcome.arrives().then_some(outcome.destination)
        })
        .collect()
}

/// Whether the packet gets to `destination` in a state, translated or straight.
fn gets_to(kernel: &FakeKernel, packet: &Packet, destination: (IpAddr, Option<u16>)) -> bool {
    let straight = Packet {
        destination: destination.0,
        transport: match (packet.transport, destination.1) {
            (Transport::Port(protocol, _), Some(port)) => Transport::Port(protocol, port),
            (transport, _) => transport,
        },
        ..packet.clone()
    };
    let state = State::of_fake(kernel, MarkBits::default());
    [packet, &straight].into_iter().any(|packet| {
        let outcome = walk(&state, packet);
        outcome.arrives() && outcome.destination == destination
    })
}

fn plan_to(kernel: &mut FakeKernel, intent: &Intent, facts: &NodeFacts) -> (Plan, Spec) {
    let observed = kernel.observe().expect("observes");
    let spec = compile(intent, facts, &observed.indexes(facts.marks)).expect("compiles");
    (diff(&observed, &spec).expect("a plan"), spec)
}

/// Applies a plan and checks every state on the way.
fn check_prefixes(kernel: &mut FakeKernel, plan: &Plan, strict: bool) -> Result<(), TestCaseError> {
    let packets = packets();
    let old = kernel.clone();
    let mut new = kernel.clone();
    for step in plan.all() {
        execute_step(&mut new, step).expect("the plan can be applied");
    }
    let (old_passing, new_passing) = (passing(&old, &packets), passing(&new, &packets));
    for (number, step) in single_changes(plan).iter().enumerate() {
        execute_step(kernel, step).expect("the plan can be applied");
        let now = passing(kernel, &packets);
        for (index, packet) in packets.iter().enumerate() {
            if let Some(destination) = now[index] {
                let was = gets_to(&old, packet, destination) || gets_to(&new, packet, destination);
                prop_assert!(was, "step {number} {step:?} passes {packet:?} to {destination:?}");
            }
            let both = old_passing[index].is_some() && old_passing[index] == new_passing[index];
            if strict && both {
                prop_assert!(now[index].is_some(), "step {number} {step:?} stops {packet:?}");
            }
        }
    }
    prop_assert_eq!(kernel.observe().expect("observes"), new.observe().expect("observes"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::sample::cases(24), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_step_passes_what_neither_the_old_nor_the_new_state_allows(
        signatures in signatures(),
        choices in proptest::collection::vec(choice(), 3),
        interrupted_at in 0.0..1.0_f64,
    ) {
        let intents: Vec<Intent> = choices.iter().map(|choice| intent(&signatures, choice)).collect();
        let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
        dataplane.apply(&intents[0], &facts()).expect("applies");
        let mut kernel = dataplane.kernel().clone();

        let (plan, _) = plan_to(&mut kernel, &intents[1], &facts());
        let mut interrupted = kernel.clone();
        check_prefixes(&mut kernel, &plan, false)?;

        // A change that was interrupted anywhere, and then another.
        let steps = single_changes(&plan);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
        let done = (steps.len() as f64 * interrupted_at) as usize;
        for step in &steps[..done] {
            execute_step(&mut interrupted, step).expect("the plan can be applied");
        }
        let (plan, spec) = plan_to(&mut interrupted, &intents[2], &facts());
        check_prefixes(&mut interrupted, &plan, false)?;
        prop_assert_eq!(interrupted.observe().expect("observes"), netd_dataplane::observed::Observed::of(&spec));
    }

    #[test]
    fn pods_that_move_between_signatures_keep_what_both_allow(
        signatures in signatures(),
        choice in choice(),
        moved in proptest::collection::vec(0..4_usize, LOCAL as usize),
    ) {
        let pods = choice.pods.iter().zip(moved).map(|(pod, to)| pod.map(|_| to)).collect();
        let next = Choice { pods, ..choice.clone() };
        let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
        dataplane.apply(&intent(&signatures, &choice), &facts()).expect("applies");
        let mut kernel = dataplane.kernel().clone();
        let (plan, _) = plan_to(&mut kernel, &intent(&signatures, &next), &facts());
        check_prefixes(&mut kernel, &plan, true)?;
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
        let id = SignatureId(id);
        let group = GroupId(format!("g{n}"));
        let members = (0..pods).map(address).collect();
        intent.groups.insert(group.clone(), PeerGroup { pods: members, nets: BTreeSet::new() });
        let allowed = Allowed { any_port: Some(Peers::Group(group)), ..Allowed::default() };
        intent.signatures.insert(id.clone(), Signature { ingress: Some(allowed.clone()), egress: Some(allowed) });
        let endpoint = netd_policy::intent::Endpoint {
            pod: minipod_model::PodKey::new("default", format!("p{n}")),
            addresses: vec![address(n)],
            signature: id,
        };
        intent.endpoints.insert(link(&format!("p{n}")), endpoint);
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
    let spec = spec_of(&intent);
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
    // docs/datapath.md, "The bound": 40 and a tree of up to 16 leaves for each of service, egress and ingress; then of up to 4096.
    assert!(small <= 40 + 3 * 16 + 16, "{small}");
    assert!(large <= 40 + 3 * 48 + 24, "{large}");
}
