//! The whole way from objects to rules: for random clusters and packets, the compiled rules walked in Rust give the verdict that the
//! reference evaluator reads off the objects.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::sample::{addr, facts, facts_with_vxlan, link, net, pod_address, route};
use minipod_model::defaults::VXLAN_PORT;
use minipod_model::{IpFamily, Labels, PodKey, Protocol, Selector};
use netd_dataplane::index::Indexes;
use netd_dataplane::interpret::{End, Origin, Packet, Route, State};
use netd_dataplane::spec::Table;
use netd_dataplane::{DenyAction, MarkBits, PodToNode, compile};
use netd_policy::evaluate::verdict;
use netd_policy::object::{
    Attachment, Block, NamedPort, Namespace, Node, ObjectKey, Peer, PeerNamespaces, Pod, Policy, PortNumbers, Rule,
    RulePeers, RulePort, RulePorts,
};
use netd_policy::{Change, Index, Options, Transport};
use proptest::prelude::*;

/// Pods 1 to 4 are on this node, 5 and 6 on another.
const LOCAL: u8 = 4;
const PODS: u8 = 6;

fn other_node(family: IpFamily) -> IpAddr {
    addr(if family == IpFamily::V4 { "192.0.2.2" } else { "2001:db8::2" })
}

fn at(number: u8, family: IpFamily) -> IpAddr {
    if number <= LOCAL {
        return pod_address(number, family);
    }
    match family {
        IpFamily::V4 => addr(&format!("10.244.2.{number}")),
        IpFamily::V6 => addr(&format!("fd00:10:244:2::{number}")),
    }
}

fn labels() -> impl Strategy<Value = Labels> {
    prop_oneof![Just(vec![]), Just(vec![("app", "a")]), Just(vec![("app", "b")]), Just(vec![("app", "a"), ("x", "1")])]
        .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        Just(""),
        Just("app=a"),
        Just("app in (a,b)"),
        Just("app notin (a)"),
        Just("x"),
        Just("!app"),
        Just("k8s-app=kube-dns"),
    ]
    .prop_map(|text| Selector::parse(text).expect("a selector"))
}

fn namespace_selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        Just(""),
        Just("team=red"),
        Just("team!=red"),
        Just("kubernetes.io/metadata.name=n1"),
        Just("kubernetes.io/metadata.name=kube-system"),
    ]
    .prop_map(|text| Selector::parse(text).expect("a selector"))
}

fn block() -> impl Strategy<Value = Block> {
    prop_oneof![
        Just(("0.0.0.0/0", vec![])),
        Just(("0.0.0.0/0", vec!["10.0.0.0/8"])),
        Just(("::/0", vec!["fd00:10:244:2::/64"])),
        Just(("10.244.0.0/16", vec!["10.244.1.2/32", "10.244.2.0/24"])),
        Just(("10.96.0.0/16", vec![])),
        Just(("192.0.2.0/24", vec![])),
        Just(("2001:db8:5::/64", vec![])),
        Just(("fd00:10:244:1::/64", vec![])),
    ]
    .prop_map(|(cidr, except)| Block { cidr: net(cidr), except: except.into_iter().map(net).collect() })
}

fn peer() -> impl Strategy<Value = Peer> {
    let namespaces = prop_oneof![Just(PeerNamespaces::Own), namespace_selector().prop_map(PeerNamespaces::Selected)];
    prop_oneof![
        2 => (namespaces, selector()).prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        1 => block().prop_map(Peer::Block),
    ]
}

fn rule_port() -> impl Strategy<Value = RulePort> {
    let protocol = prop_oneof![3 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp)];
    let numbers = prop_oneof![
        Just(PortNumbers::Every),
        Just(PortNumbers::Range(80, 80)),
        Just(PortNumbers::Range(53, 100)),
        Just(PortNumbers::Named("http".into())),
        Just(PortNumbers::Named("dns".into())),
    ];
    (protocol, numbers).prop_map(|(protocol, numbers)| RulePort { protocol, numbers })
}

fn rules() -> impl Strategy<Value = Option<Vec<Rule>>> {
    let peers = prop_oneof![
        1 => Just(RulePeers::Everyone),
        3 => proptest::collection::vec(peer(), 1..3).prop_map(RulePeers::Listed),
    ];
    let ports = prop_oneof![
        1 => Just(RulePorts::Every),
        2 => proptest::collection::vec(rule_port(), 1..3).prop_map(RulePorts::Listed),
    ];
    let rule = (peers, ports);
    proptest::option::weighted(0.6, proptest::collection::vec(rule, 0..3)).prop_map(|rules| {
        let rules = rules?.into_iter().enumerate();
        Some(rules.map(|(index, (peers, ports))| Rule { index, peers, ports }).collect())
    })
}

fn policy() -> impl Strategy<Value = (u8, Selector, Option<Vec<Rule>>, Option<Vec<Rule>>)> {
    (1..=2_u8, selector(), rules(), rules())
}

fn pod() -> impl Strategy<Value = (u8, Labels, Option<u16>)> {
    (1..=2_u8, labels(), proptest::option::of(prop_oneof![Just(80_u16), Just(8080)]))
}

type Policies = Vec<(u8, Selector, Option<Vec<Rule>>, Option<Vec<Rule>>)>;

fn index(pods: Vec<(u8, Labels, Option<u16>)>, policies: Policies, pod_to_node: bool) -> Index {
    let facts = facts();
    let families = IpFamily::ALL.map(|family| facts.family(family).expect("both families"));
    let mut options = Options::new("here");
    options.pod_to_node = pod_to_node;
    options.cluster_dns = families.iter().filter_map(|facts| facts.cluster_dns).collect();
    let mut index = Index::new(options);
    let addresses: BTreeSet<IpAddr> = families.iter().flat_map(|facts| facts.node_addresses.clone()).collect();
    index.apply(Change::Node(Node { name: "here".into(), addresses, ..Node::default() }));
    let addresses = IpFamily::ALL.map(other_node).into();
    index.apply(Change::Node(Node { name: "there".into(), addresses, ..Node::default() }));
    for (name, team) in [("n1", Some("red")), ("n2", None), ("kube-system", None)] {
        let mut labels = Labels::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]);
        labels.extend(team.map(|team| ("team".to_owned(), team.to_owned())));
        index.apply(Change::Namespace(Namespace { name: name.into(), labels }));
    }
    for (number, (namespace, labels, http)) in (1..=PODS).zip(pods) {
        let key = PodKey::new(format!("n{namespace}"), format!("p{number}"));
        let addresses = IpFamily::ALL.map(|family| at(number, family)).to_vec();
        let ports = http.map(|port| NamedPort { name: "http".into(), protocol: Protocol::Tcp, number: port });
        let node = if number <= LOCAL { "here" } else { "there" };
        index.apply(Change::Pod(Pod {
            key: key.clone(),
            uid: format!("u{number}"),
            static_uid: None,
            labels,
            node: Some(node.to_owned()),
            host_network: false,
            finished: false,
            addresses: addresses.clone(),
            ports: ports.into_iter().collect(),
        }));
        if number <= LOCAL {
            let link = link(&format!("p{number}"));
            index.apply(Change::Attached(Attachment { link, pod: key, uid: None, labels: None, addresses }));
        }
    }
    for (number, (namespace, subjects, ingress, egress)) in policies.into_iter().enumerate() {
        let key = ObjectKey::new(format!("n{namespace}"), format!("policy{number}"));
        index.apply(Change::Policy(Policy { key, subjects, ingress, egress, problems: Vec::new() }));
    }
    index
}

proptest! {
    #![proptest_config(crate::sample::oracle_cases())]

    #[test]
    fn the_kernel_gives_the_verdict_of_the_evaluator(
        pods in proptest::collection::vec(pod(), PODS as usize),
        policies in proptest::collection::vec(policy(), 0..4),
        pod_to_node: bool,
        rejects: bool,
        vxlan: bool,
    ) {
        let mut index = index(pods, policies, pod_to_node);
        let mut node = facts();
        node.pod_to_node = if pod_to_node { PodToNode::Allow } else { PodToNode::Enforce };
        if vxlan {
            index.apply(Change::OtherNodes(true));
            node.every_node = facts_with_vxlan().every_node;
            node.vxlan = facts_with_vxlan().vxlan.filter(|_| !pod_to_node);
        }
        node.deny_action = if rejects { DenyAction::Reject } else { DenyAction::Drop };
        let spec = compile(&index.intent(), &node, &Indexes::default()).expect("compiles");
        let state = State::of_spec(&spec, MarkBits::default());
        let filter_accepts = state.clone().accepting_in(Table::Filter);
        let transports = [53, 80, 8080]
            .map(|port| Transport::Port(Protocol::Tcp, port))
            .into_iter()
            .chain([53, VXLAN_PORT].map(|port| Transport::Port(Protocol::Udp, port)))
            .chain([Transport::Other]);
        let transports: Vec<Transport> = transports.collect();
        for family in IpFamily::ALL {
            let outside = addr(if family == IpFamily::V4 { "192.0.2.77" } else { "2001:db8:5::77" });
            let own = node.family(family).expect("both families");
            let everyone: Vec<IpAddr> = (1..=PODS).map(|number| at(number, family)).chain([outside]).collect();
            for source in &everyone {
                let origin = match route(*source, LOCAL) {
                    Route::Pod(link) => Origin::Pod(link),
                    _ => Origin::Uplink,
                };
                let nodes = own.node_addresses.iter().copied().chain([other_node(family)]);
                for destination in everyone.iter().copied().chain(nodes).chain(own.cluster_dns) {
                    let destination = &destination;
                    let forwarded_for_others = origin == Origin::Uplink && !matches!(route(*destination, LOCAL), Route::Pod(_));
                    for transport in &transports {
                        let judged = netd_policy::Packet { source: *source, destination: *destination, transport: *transport };
                        // What is not a pod's is no policy's matter, and what a pod sends to its own address never leaves it.
                        if forwarded_for_others || source == destination {
                            continue;
                        }
                        let to_dns = own.cluster_dns == Some(*destination);
                        let to_dns_unjudged = pod_to_node && to_dns && transport.reaches_dns();
                        let expected = to_dns_unjudged || verdict(index.cluster(), &judged).is_allowed();
                        // The other end's rules hold on the other end's node.
                        let remote = |address: &IpAddr| (LOCAL + 1..=PODS).any(|number| at(number, family) == *address);
                        let expected = expected
                            || remote(source) && verdict(index.cluster(), &judged).ingress.is_allowed()
                            || remote(destination) && verdict(index.cluster(), &judged).egress.is_allowed();
                        let mut packet = Packet::first(origin.clone(), *source, *destination, *transport);
                        if to_dns && *transport == Transport::Other {
                            let silent = state.walk(&packet, |address| route(address, LOCAL), |_, _| true);
                            prop_assert!(!silent.arrives(), "neither port nor ICMP: {:?}", judged);
                            packet.icmp = Some(crate::sample::echo_request(family));
                        }
                        let outcome = state.walk(&packet, |address| route(address, LOCAL), |_, _| true);
                        prop_assert_eq!(outcome.arrives(), expected, "{:?} {:?}", judged, verdict(index.cluster(), &judged));
                        // What asks the cluster DNS from outside, or at another port, is dropped whatever policy says.
                        let is_question = origin != Origin::Uplink && (transport.reaches_dns() || packet.icmp.is_some());
                        // So is VXLAN from pods to nodes.
                        let is_vxlan = vxlan && *transport == Transport::Port(Protocol::Udp, VXLAN_PORT);
                        let is_nodes_own = is_vxlan && (own.node_addresses.contains(destination) || *destination == other_node(family));
                        if !expected && !is_nodes_own && (!to_dns || is_question) {
                            let is_rejected = matches!(outcome.end, End::Rejected(Table::Filter, _));
                            prop_assert_eq!(is_rejected, rejects, "{:?} {:?}", judged, outcome);
                        }
                        if rejects {
                            let outcome = filter_accepts.walk(&packet, |address| route(address, LOCAL), |_, _| true);
                            prop_assert_eq!(outcome.arrives(), expected, "{:?} {:?}", judged, outcome);
                        }
                    }
                }
            }
        }
    }
}
