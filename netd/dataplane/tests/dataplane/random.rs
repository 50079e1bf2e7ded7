//! Random intents of a small node, and packets between everyone and everyone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::sample::link;
use crate::sample::{add_pod, addr, facts, net, pod_address, route, service};
use minipod_model::{IpFamily, Protocol};
use netd_dataplane::index::Indexes;
use netd_dataplane::interpret::{Origin, Outcome, Packet, Route, State};
use netd_dataplane::{NodeFacts, Spec, compile};
use netd_policy::Transport;
use netd_policy::intent::{
    Allowed, GroupId, Intent, Pair, PairsId, PeerGroup, Peers, PortClass, Signature, SignatureId,
};
use netd_policy::interpret::Interpreter;
use proptest::prelude::*;

/// Pods 1 to 4 may be attached; 5 has a link and is never in an intent; 6 is on another node.
pub(crate) const LOCAL: u8 = 4;
pub(crate) const UNKNOWN: u8 = 5;

pub(crate) fn remote(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr("10.244.2.6"),
        IpFamily::V6 => addr("fd00:10:244:2::6"),
    }
}

pub(crate) fn outside(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr("192.0.2.77"),
        IpFamily::V6 => addr("2001:db8:5::77"),
    }
}

pub(crate) fn service_address(number: u8, family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr(&format!("10.96.0.{number}")),
        IpFamily::V6 => addr(&format!("fd00:10:96::{number}")),
    }
}

pub(crate) const TRANSPORTS: [Transport; 5] = [
    Transport::Port(Protocol::Tcp, 53),
    Transport::Port(Protocol::Tcp, 80),
    Transport::Port(Protocol::Tcp, 8080),
    Transport::Port(Protocol::Udp, 53),
    Transport::Other,
];

/// First packets between everyone and everyone.
pub(crate) fn packets() -> Vec<Packet> {
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
                // What a pod sends to its own address never leaves it.
                for transport in TRANSPORTS.into_iter().filter(|_| source != destination) {
                    let mut packet = Packet::first(origin.clone(), *source, *destination, transport);
                    packet.icmp = (transport == Transport::Other).then_some(crate::sample::echo_request(family));
                    packets.push(packet);
                }
            }
        }
    }
    packets
}

pub(crate) fn walk(state: &State<'_>, packet: &Packet) -> Outcome {
    state.walk(packet, |address| route(address, UNKNOWN), |_, _| true)
}

/// The members of group `number`; its networks follow from the number, since they are a part of what a group's name says.
pub(crate) fn group(number: usize, members: &BTreeSet<u8>) -> PeerGroup {
    let pods = members.iter().flat_map(|member| {
        IpFamily::ALL.map(|family| if *member == 6 { remote(family) } else { pod_address(*member, family) })
    });
    let nets: &[&str] = match number {
        2 => &["192.0.2.0/24", "2001:db8:5::/64", "10.244.1.2/32"],
        // As an index makes it of `0.0.0.0/0` and `::/0`, without the cluster DNS.
        3 => &["0.0.0.0/5", "8.0.0.0/7", "11.0.0.0/8", "128.0.0.0/1", "2000::/3"],
        _ => &[],
    };
    PeerGroup { pods: pods.collect(), nets: Arc::new(nets.iter().map(|text| net(text)).collect()) }
}

pub(crate) fn peers() -> impl Strategy<Value = Peers> {
    prop_oneof![
        1 => Just(Peers::Everyone),
        6 => (0..4_usize).prop_map(|number| Peers::Group(GroupId(format!("g{number}").into()))),
    ]
}

pub(crate) fn allowed() -> impl Strategy<Value = Allowed> {
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

pub(crate) fn some_signature() -> impl Strategy<Value = Signature> {
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
pub(crate) type Signatures = Vec<Signature>;

pub(crate) fn signatures() -> impl Strategy<Value = Signatures> {
    proptest::collection::vec(some_signature(), 4)
}

#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) pods: Vec<Option<usize>>,
    pub(crate) members: Vec<BTreeSet<u8>>,
    pub(crate) pairs: BTreeSet<u8>,
    pub(crate) endpoints: Vec<BTreeSet<u8>>,
    pub(crate) affinity: bool,
}

pub(crate) fn choice() -> impl Strategy<Value = Choice> {
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

pub(crate) fn intent(signatures: &Signatures, choice: &Choice) -> Intent {
    let mut intent = Intent::default();
    for (number, index) in (1..).zip(&choice.pods) {
        let Some(index) = index else { continue };
        let signature = &signatures[*index];
        let id = format!("{signature:?}");
        add_pod(&mut intent, number, &id);
        Arc::make_mut(&mut intent.signatures).insert(SignatureId(id.into()), Arc::new(signature.clone()));
    }
    intent.cluster_dns = IpFamily::ALL.iter().filter_map(|family| facts().family(*family)?.cluster_dns).collect();
    for (number, members) in choice.members.iter().enumerate() {
        Arc::make_mut(&mut intent.groups).insert(GroupId(format!("g{number}").into()), group(number, members));
    }
    let pairs = choice.pairs.iter().flat_map(|number| {
        IpFamily::ALL.map(|family| Pair { address: pod_address(*number, family), protocol: Protocol::Tcp, port: 8080 })
    });
    Arc::make_mut(&mut intent.pairs).insert(PairsId("names".into()), pairs.collect());
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
pub(crate) fn expected(intent: &Intent, packet: &Packet) -> bool {
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

pub(crate) fn spec_of(intent: &Intent) -> Spec {
    spec_on(&facts(), intent)
}

pub(crate) fn spec_on(facts: &NodeFacts, intent: &Intent) -> Spec {
    compile(intent, facts, &Indexes::default()).expect("compiles")
}
