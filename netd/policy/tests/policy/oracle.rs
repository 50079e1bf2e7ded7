//! Random clusters: the compiled intent, interpreted, gives the verdict of the reference evaluator for every packet between all
//! addresses that occur. The domains are small, so that things meet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use minipod_model::{Labels, LinkName, PodKey, Protocol, Selector};
use netd_policy::evaluate::verdict;
use netd_policy::intent::Intent;
use netd_policy::interpret::Interpreter;
use netd_policy::object::{
    Attachment, Block, NamedPort, Namespace, Node, ObjectKey, Peer, PeerNamespaces, Pod, Policy, PortNumbers, Rule,
    RulePeers, RulePort, RulePorts,
};
use netd_policy::{Change, Index, Packet, Transport, can_forbid};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{apply_all, cluster_dns, options};

const NODE_ADDRESS: &str = "10.0.0.14";

fn labels() -> impl Strategy<Value = Labels> {
    (option::of(select(vec!["a", "b"])), option::of(select(vec!["1", "2"]))).prop_map(|(app, tier)| {
        let labels = [("app", app), ("tier", tier)];
        labels.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect()
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    select(vec![
        "",
        "app=a",
        "app=b",
        "app in (a,b)",
        "app notin (a)",
        "tier",
        "!tier",
        "app=a,tier=1",
        "tier notin (1,2)",
    ])
    .prop_map(|text| Selector::parse(text).expect("a selector"))
}

/// Sixteen addresses of each family; some belong to pods, one to a node, the last two to nobody.
fn some_address() -> impl Strategy<Value = IpAddr> {
    (0_u8..14, any::<bool>()).prop_map(|(number, v4)| numbered(number, v4))
}

fn numbered(number: u8, v4: bool) -> IpAddr {
    if v4 { IpAddr::from([10, 0, 0, number]) } else { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]) }
}

fn block() -> impl Strategy<Value = Block> {
    let net = |number, v4, shorter: u8| {
        let address = numbered(number, v4);
        let length = if v4 { 32 } else { 128 } - shorter;
        IpNet::new(address, length).expect("a prefix").trunc()
    };
    (0_u8..16, any::<bool>(), 0_u8..5, vec((0_u8..16, 0_u8..3), 0..3), 0_u8..8).prop_map(
        move |(number, v4, shorter, except, widest)| {
            let cidr = if widest == 0 {
                if v4 { "0.0.0.0/0" } else { "::/0" }.parse().expect("a prefix")
            } else {
                net(number, v4, shorter)
            };
            let except = except.into_iter().map(|(number, shorter)| net(number, v4, shorter));
            Block { cidr, except: except.filter(|except| cidr.contains(except) && cidr != *except).collect() }
        },
    )
}

fn peer() -> impl Strategy<Value = Peer> {
    let namespaces = prop_oneof![
        Just(PeerNamespaces::Own),
        selector().prop_map(PeerNamespaces::Selected),
        Just(PeerNamespaces::Selected(Selector::equals("kubernetes.io/metadata.name", "kube-system"))),
    ];
    prop_oneof![
        2 => (namespaces, selector()).prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        1 => block().prop_map(Peer::Block),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp])
}

fn rule_port() -> impl Strategy<Value = RulePort> {
    let numbers = prop_oneof![
        1 => Just(PortNumbers::Every),
        3 => (79_u16..84, 0_u16..4).prop_map(|(first, more)| PortNumbers::Range(first, first + more)),
        2 => select(vec!["web", "dns", "none"]).prop_map(|name| PortNumbers::Named(name.to_owned())),
    ];
    (protocol(), numbers).prop_map(|(protocol, numbers)| RulePort { protocol, numbers })
}

fn rules() -> impl Strategy<Value = Option<Vec<Rule>>> {
    let peers = vec(peer(), 0..3)
        .prop_map(|peers| if peers.is_empty() { RulePeers::Everyone } else { RulePeers::Listed(peers) });
    let ports = vec(rule_port(), 0..3)
        .prop_map(|ports| if ports.is_empty() { RulePorts::Every } else { RulePorts::Listed(ports) });
    let rules = vec((peers, ports), 0..3).prop_map(|rules| {
        rules.into_iter().enumerate().map(|(index, (peers, ports))| Rule { index, peers, ports }).collect()
    });
    option::weighted(0.7, rules)
}

fn policy() -> impl Strategy<Value = Policy> {
    (select(vec!["x", "y"]), 0_u8..4, selector(), rules(), rules()).prop_map(
        |(namespace, number, subjects, ingress, egress)| Policy {
            key: ObjectKey::new(namespace, format!("p{number}")),
            subjects,
            ingress,
            egress,
            problems: Vec::new(),
        },
    )
}

fn key() -> impl Strategy<Value = PodKey> {
    (select(vec!["x", "y"]), 0_u8..5).prop_map(|(namespace, number)| PodKey::new(namespace, format!("pod{number}")))
}

fn pod() -> impl Strategy<Value = Pod> {
    let ports = vec((select(vec!["web", "dns"]), protocol(), 79_u16..84), 0..3).prop_map(|ports| {
        let mut named: Vec<NamedPort> = Vec::new();
        for (name, protocol, number) in ports {
            if !named.iter().any(|known| known.name == name && known.protocol == protocol) {
                named.push(NamedPort { name: name.to_owned(), protocol, number });
            }
        }
        named
    });
    let node = option::of(select(vec!["here", "there", "there"]));
    let flags = (proptest::bool::weighted(0.1), proptest::bool::weighted(0.1));
    (key(), select(vec!["1", "2"]), labels(), node, flags, vec(some_address(), 0..3), ports).prop_map(
        |(key, uid, labels, node, (host_network, finished), addresses, ports)| Pod {
            key,
            uid: uid.to_owned(),
            static_uid: None,
            labels,
            node: node.map(str::to_owned),
            host_network,
            finished,
            addresses,
            ports,
        },
    )
}

/// Interfaces of this node; no two have an address in common, which the allocation of addresses sees to.
fn attachments() -> impl Strategy<Value = Vec<Attachment>> {
    let one =
        (key(), option::of(select(vec!["1", "2"])), option::weighted(0.3, labels()), some_address(), some_address());
    vec(one, 0..5).prop_map(|all| {
        let mut taken = BTreeSet::new();
        let mut attachments = Vec::new();
        for (number, (pod, uid, labels, one, two)) in all.into_iter().enumerate() {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in [one, two] {
                let family_free = addresses.iter().all(|other| other.is_ipv4() != address.is_ipv4());
                if family_free && taken.insert(address) {
                    addresses.push(address);
                }
            }
            let link = LinkName::for_sandbox(&number.to_string(), "eth0");
            attachments.push(Attachment { link, pod, uid: uid.map(str::to_owned), labels, addresses });
        }
        attachments
    })
}

fn namespaces() -> impl Strategy<Value = Vec<Namespace>> {
    let one = |name: &'static str| {
        option::weighted(0.8, labels()).prop_map(move |labels| {
            let mut labels = labels?;
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
            Some(Namespace { name: name.to_owned(), labels })
        })
    };
    (one("x"), one("y"), one("kube-system")).prop_map(|(x, y, system)| [x, y, system].into_iter().flatten().collect())
}

prop_compose! {
    fn cluster()(
        namespaces in namespaces(),
        pods in vec(pod(), 0..7),
        attachments in attachments(),
        policies in vec(policy(), 0..5),
    ) -> Index {
        let mut index = Index::new(options());
        let node = Node { name: "there".to_owned(), addresses: [NODE_ADDRESS.parse().expect("an address")].into(), ..Node::default() };
        index.apply(Change::Node(node));
        apply_all(&mut index, namespaces.into_iter().map(Change::Namespace));
        apply_all(&mut index, pods.into_iter().map(Change::Pod));
        apply_all(&mut index, attachments.into_iter().map(Change::Attached));
        apply_all(&mut index, policies.into_iter().map(Change::Policy));
        index
    }
}

/// Remote addresses that several pods claim. For them the intent may allow less: a set holds such an address only if it selects all
/// claimants, even where one set allows the one and another set the other (ruling 17).
fn contested(index: &Index) -> BTreeSet<IpAddr> {
    let mut seen = BTreeSet::new();
    let remote = index.cluster().pods.values().filter(|pod| pod.node.as_deref() != Some("here"));
    remote.flat_map(|pod| pod.addresses.iter().copied().collect::<BTreeSet<_>>()).filter(|a| !seen.insert(*a)).collect()
}

/// Of how many packets one is tried in each case: more clusters find more than more packets of one.
const SHARE: usize = 4;

/// Between all addresses that occur, to all ports that occur and some that do not: every fourth, of which `first` is the first.
fn packets(first: usize) -> impl Iterator<Item = Packet> {
    let transports = (79..85)
        .chain([53, 1000])
        .flat_map(|port| [Protocol::Tcp, Protocol::Udp].map(|protocol| Transport::Port(protocol, port)))
        .chain([Transport::Other]);
    let transports: Vec<Transport> = transports.collect();
    let all = [true, false].into_iter().flat_map(move |v4| {
        let dns = cluster_dns().into_iter().filter(|dns| dns.is_ipv4() == v4);
        let addresses: Vec<IpAddr> = (0..16).map(|number| numbered(number, v4)).chain(dns).collect();
        let pairs: Vec<_> = addresses.iter().flat_map(|s| addresses.iter().map(move |d| (*s, *d))).collect();
        let transports = transports.clone();
        pairs.into_iter().flat_map(move |(source, destination)| {
            transports.clone().into_iter().map(move |transport| Packet { source, destination, transport })
        })
    });
    all.skip(first).step_by(SHARE)
}

fn change() -> impl Strategy<Value = Change> {
    let names = (select(vec!["x", "y"]), 0_u8..4);
    let link = |number: u8| LinkName::for_sandbox(&number.to_string(), "eth0");
    prop_oneof![
        2 => pod().prop_map(Change::Pod),
        1 => key().prop_map(|key| Change::PodRemoved(key, None)),
        1 => policy().prop_map(Change::Policy),
        2 => names.prop_map(|(namespace, number)| Change::PolicyRemoved(ObjectKey::new(namespace, format!("p{number}")))),
        2 => (0_u8..5).prop_map(move |number| Change::Detached(link(number))),
        1 => namespaces().prop_map(|namespaces| {
            namespaces.into_iter().next().map_or(Change::NamespaceRemoved("y".to_owned()), Change::Namespace)
        }),
        1 => option::of(some_address()).prop_map(|address| {
            Change::Node(Node { name: "there".to_owned(), addresses: address.into_iter().collect(), ..Node::default() })
        }),
        2 => (5_u8..9, key(), option::of(select(vec!["1", "2"])), option::weighted(0.3, labels()), some_address()).prop_map(
            move |(number, pod, uid, labels, address)| {
                let uid = uid.map(str::to_owned);
                Change::Attached(Attachment { link: link(number), pod, uid, labels, addresses: vec![address] })
            },
        ),
    ]
}

proptest! {
    #![proptest_config(crate::support::oracle_cases())]

    #[test]
    fn the_intent_gives_the_verdict_of_the_evaluator((mut index, first) in (cluster(), 0..SHARE)) {
        let intent = index.intent();
        let interpreter = Interpreter::new(&intent);
        let contested = contested(&index);
        for packet in packets(first) {
            let by_claim = contested.contains(&packet.source) || contested.contains(&packet.destination);
            let expected = verdict(index.cluster(), &packet);
            for (by_intent, by_objects) in [
                (interpreter.egress_allows(&packet), &expected.egress),
                (interpreter.ingress_allows(&packet), &expected.ingress),
            ] {
                let Some(by_intent) = by_intent else { continue };
                let agree = by_intent == by_objects.is_allowed() || (by_claim && !by_intent);
                prop_assert!(agree, "{:?}: intent {}, objects {:?}", packet, by_intent, by_objects);
            }
        }
    }

    #[test]
    fn what_a_change_is_said_not_to_forbid_it_does_not_forbid((mut index, changes, first) in (cluster(), vec(change(), 1..3), 0..SHARE)) {
        let old = index.intent();
        apply_all(&mut index, changes);
        let new = index.intent();
        prop_assert_eq!(&new, &index.intent_from_nothing());
        if can_forbid(&old, &new) {
            return Ok(());
        }
        let (before, after) = (Interpreter::new(&old), Interpreter::new(&new));
        let only_in = |one: &Intent, other: &Intent| -> BTreeSet<IpAddr> {
            let only = one.endpoints.iter().filter(|(link, _)| !other.endpoints.contains_key(*link));
            only.flat_map(|(_, endpoint)| endpoint.addresses.clone()).collect()
        };
        // Those that came have no connection yet, of those that left they are deleted.
        let (came, left) = (only_in(&new, &old), only_in(&old, &new));
        let can_have_one = |address: &IpAddr| !came.contains(address) && !left.contains(address);
        for packet in packets(first).filter(|packet| can_have_one(&packet.source) && can_have_one(&packet.destination)) {
            prop_assert!(!before.allows(&packet) || after.allows(&packet), "{:?} is forbidden now", packet);
        }
    }

    #[test]
    fn groups_hold_disjoint_prefixes_and_every_name_is_there(mut index in cluster()) {
        let intent = index.intent();
        for group in intent.groups.values() {
            for net in group.nets.iter() {
                prop_assert!(!group.nets.iter().any(|other| other != net && other.contains(net)));
                prop_assert!(!cluster_dns().iter().any(|dns| net.contains(dns)));
            }
        }
        for endpoint in intent.endpoints.values() {
            prop_assert!(intent.signatures.contains_key(&endpoint.signature));
        }
        let allowed = intent.signatures.values().flat_map(|signature| signature.ingress.iter().chain(&signature.egress));
        for allowed in allowed {
            for protocol in Protocol::ALL {
                let ranges: Vec<_> = allowed.ports.iter().filter(|c| c.protocol == protocol).flat_map(|c| &c.ranges).collect();
                for (place, one) in ranges.iter().enumerate() {
                    prop_assert!(ranges[place + 1..].iter().all(|other| one.1 < other.0 || other.1 < one.0));
                }
            }
            let peers = allowed.any_port.iter().chain(allowed.ports.iter().map(|class| &class.peers));
            for peers in peers {
                if let netd_policy::intent::Peers::Group(id) = peers {
                    prop_assert!(intent.groups.contains_key(id));
                }
            }
            prop_assert!(allowed.named.iter().all(|id| intent.pairs.contains_key(id)));
        }
    }
}
