//! A small node to test with: its facts, pods and policies.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use minipod_model::{IpFamily, LinkName, PodKey, Protocol};
use netd_dataplane::interpret::Route;
use netd_dataplane::{DenyAction, FamilyFacts, MarkBits, NodeFacts, VxlanFacts};
use netd_policy::intent::{
    Allowed, Backends, Endpoint, Frontend, GroupId, Intent, Pair, PairsId, PeerGroup, Peers, PortClass, Signature,
    SignatureId,
};
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config as ProptestConfig, FileFailurePersistence};

pub(crate) fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

pub(crate) fn link(pod: &str) -> LinkName {
    LinkName::for_sandbox(pod, "eth0")
}

/// Both families, services and DNS, forwarding switched on by us.
pub(crate) fn facts() -> NodeFacts {
    let v4 = FamilyFacts {
        node_addresses: BTreeSet::from([addr("192.0.2.1")]),
        node_pod_cidr: Some(net("10.244.1.0/24")),
        cluster_pod_cidrs: BTreeSet::from([net("10.244.0.0/16")]),
        service_cidr: Some(net("10.96.0.0/16")),
        cluster_dns: Some(addr("10.96.0.10")),
        forwarding_switched_on: true,
    };
    let v6 = FamilyFacts {
        node_addresses: BTreeSet::from([addr("2001:db8::1")]),
        node_pod_cidr: Some(net("fd00:10:244:1::/64")),
        cluster_pod_cidrs: BTreeSet::from([net("fd00:10:244::/48")]),
        service_cidr: Some(net("fd00:10:96::/112")),
        cluster_dns: Some(addr("fd00:10:96::a")),
        forwarding_switched_on: true,
    };
    NodeFacts { v4: Some(v4), v6: Some(v6), ..NodeFacts::default() }
}

/// The same, where node 2 is reached by VXLAN and node 3 is not.
pub(crate) fn facts_with_vxlan() -> NodeFacts {
    let nodes = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2", "10.244.2.1", "fd00:10:244:2::1"];
    let vxlan = VxlanFacts {
        local: addr("192.0.2.1"),
        peers: BTreeSet::from([addr("192.0.2.2")]),
        ranges: BTreeSet::from([net("10.244.2.0/24"), net("fd00:10:244:2::/64")]),
    };
    NodeFacts { every_node: nodes.map(addr).into(), vxlan: Some(vxlan), ..facts() }
}

/// The same node, as its administrator may start it again: with either answer to what is denied, and with another connection mark.
pub(crate) fn facts_of_a_start() -> impl Strategy<Value = NodeFacts> {
    any::<[bool; 2]>().prop_map(|[rejects, other_bit]| {
        let deny_action = if rejects { DenyAction::Reject } else { DenyAction::Drop };
        let marks = if other_bit { MarkBits::new(0xffff_0000, 0x1000_0000) } else { Ok(MarkBits::default()) };
        NodeFacts { deny_action, marks: marks.expect("bits that can be used"), ..facts() }
    })
}

/// The pod's address in each family: `10.244.1.N` and `fd00:10:244:1::N`.
pub(crate) fn pod_address(number: u8, family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr(&format!("10.244.1.{number}")),
        IpFamily::V6 => addr(&format!("fd00:10:244:1::{number:x}")),
    }
}

pub(crate) fn add_pod(intent: &mut Intent, number: u8, signature: &str) {
    let endpoint = Endpoint {
        pod: PodKey::new("default", format!("p{number}")),
        addresses: IpFamily::ALL.map(|family| pod_address(number, family)).to_vec(),
        signature: SignatureId(signature.into()),
    };
    Arc::make_mut(&mut intent.endpoints).insert(link(&format!("p{number}")), Arc::new(endpoint));
}

pub(crate) fn group(intent: &mut Intent, id: &str, pods: &[u8], nets: &[&str]) -> Peers {
    let pods = pods.iter().flat_map(|number| IpFamily::ALL.map(|family| pod_address(*number, family)));
    let nets = Arc::new(nets.iter().map(|text| net(text)).collect());
    Arc::make_mut(&mut intent.groups).insert(GroupId(id.into()), PeerGroup { pods: pods.collect(), nets });
    Peers::Group(GroupId(id.into()))
}

pub(crate) fn signature(intent: &mut Intent, id: &str, ingress: Option<Allowed>, egress: Option<Allowed>) {
    Arc::make_mut(&mut intent.signatures).insert(SignatureId(id.into()), Arc::new(Signature { ingress, egress }));
}

pub(crate) fn any_port(peers: Peers) -> Allowed {
    Allowed { any_port: Some(peers), ..Allowed::default() }
}

pub(crate) fn port_class(protocol: Protocol, ranges: &[(u16, u16)], peers: Peers) -> PortClass {
    PortClass { protocol, ranges: ranges.to_vec(), peers }
}

pub(crate) fn service(
    intent: &mut Intent,
    address: &str,
    port: u16,
    endpoints: &[(IpAddr, u16)],
    affinity: Option<u32>,
) {
    let frontend = Frontend { address: addr(address), protocol: Protocol::Tcp, port };
    let name = format!("default/s{port}:http");
    let backends = Backends { name, endpoints: endpoints.to_vec(), affinity_seconds: affinity };
    Arc::make_mut(&mut intent.services).insert(frontend, backends);
}

/// Uses everything that an intent can say.
pub(crate) fn rich() -> Intent {
    let mut intent = Intent::default();
    signature(&mut intent, "open", None, None);
    let friends = group(&mut intent, "foo", &[2, 3], &[]);
    let world = group(&mut intent, "world", &[], &["0.0.0.0/0", "::/0"]);
    let some = group(&mut intent, "some", &[4], &["192.0.2.0/28", "2001:db8:5::/64"]);
    signature(&mut intent, "web", Some(any_port(friends.clone())), None);
    let many: Vec<(u16, u16)> = (0..20).map(|n| (1000 + n * 10, 1003 + n * 10)).collect();
    let egress = Allowed {
        any_port: Some(some),
        ports: vec![
            port_class(Protocol::Tcp, &[(53, 53)], Peers::Everyone),
            port_class(Protocol::Tcp, &[(80, 80), (443, 450)], world),
            port_class(Protocol::Udp, &[(53, 53)], Peers::Everyone),
            port_class(Protocol::Sctp, &many, friends),
        ],
        named: BTreeSet::from([PairsId("httpnames".into())]),
    };
    signature(&mut intent, "strict", Some(Allowed::default()), Some(egress));
    let pairs = IpFamily::ALL.map(|f| Pair { address: pod_address(1, f), protocol: Protocol::Tcp, port: 8080 });
    Arc::make_mut(&mut intent.pairs).insert(PairsId("httpnames".into()), pairs.into());
    add_pod(&mut intent, 1, "web");
    add_pod(&mut intent, 2, "open");
    add_pod(&mut intent, 3, "strict");
    let backends = |port| [1_u8, 2].map(|n| (pod_address(n, IpFamily::V4), port));
    service(&mut intent, "10.96.0.20", 80, &backends(8080), None);
    service(&mut intent, "10.96.0.21", 81, &backends(8081), Some(10800));
    service(&mut intent, "10.96.0.22", 82, &[], None);
    let many: Vec<(IpAddr, u16)> = (1..=30).map(|n| (pod_address(n, IpFamily::V6), 80)).collect();
    service(&mut intent, "fd00:10:96::20", 80, &many, None);
    intent
}

/// Another state that differs from [`rich`] in every respect.
pub(crate) fn changed() -> Intent {
    let mut intent = rich();
    signature(&mut intent, "other", Some(any_port(Peers::Everyone)), Some(Allowed::default()));
    Arc::make_mut(&mut intent.signatures).remove(&SignatureId("web".into()));
    add_pod(&mut intent, 1, "other");
    add_pod(&mut intent, 4, "open");
    Arc::make_mut(&mut intent.endpoints).remove(&link("p2"));
    group(&mut intent, "foo", &[3, 5], &[]);
    Arc::make_mut(&mut intent.groups).remove(&GroupId("some".into()));
    group(&mut intent, "more", &[1], &["198.51.100.0/24"]);
    Arc::make_mut(&mut intent.pairs).clear();
    if let Some(strict) = Arc::make_mut(&mut intent.signatures).get_mut(&SignatureId("strict".into()))
        && let Some(egress) = &mut Arc::make_mut(strict).egress
    {
        egress.any_port = None;
        egress.named = BTreeSet::new();
    }
    service(&mut intent, "10.96.0.20", 80, &[(pod_address(3, IpFamily::V4), 8080)], None);
    Arc::make_mut(&mut intent.services).remove(&Frontend {
        address: addr("10.96.0.21"),
        protocol: Protocol::Tcp,
        port: 81,
    });
    intent
}

/// Nothing but a signature.
pub(crate) fn little() -> Intent {
    let mut intent = Intent::default();
    signature(&mut intent, "open", None, None);
    intent
}

/// The type of an echo request (RFC 792, RFC 4443).
pub(crate) fn echo_request(family: IpFamily) -> u8 {
    if family == IpFamily::V4 { 8 } else { 128 }
}

/// Where the node sends a packet for `address`, with so many pods.
pub(crate) fn route(address: IpAddr, pods: u8) -> Route {
    let family = IpFamily::of(address);
    let facts = facts();
    let own = facts.family(family).expect("both families");
    if own.node_addresses.contains(&address) || own.cluster_dns == Some(address) {
        return Route::Local;
    }
    (1..=pods)
        .find(|number| pod_address(*number, family) == address)
        .map_or(Route::Uplink, |number| Route::Pod(link(&format!("p{number}"))))
}

/// The settings of random tests. `scripts/test --full` tries twenty times as many cases as usual.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let cases = if std::env::var_os("MINIPOD_TEST_FULL").is_some() { usual * 20 } else { usual };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The settings of the oracles: `scripts/test policy-oracle --cases N`. Failures are kept in `oracle-failures.txt` and tried first from then on.
pub(crate) fn oracle_cases() -> ProptestConfig {
    let cases = std::env::var("MINIPOD_TEST_CASES").ok().map(|number| number.parse().expect("a number of cases"));
    let failures = FileFailurePersistence::Direct("tests/dataplane/oracle-failures.txt");
    ProptestConfig {
        cases: cases.unwrap_or(100),
        failure_persistence: Some(Box::new(failures)),
        ..ProptestConfig::default()
    }
}
