//! The rulings of `docs/semantics.md` that need no kernel.

use std::net::IpAddr;

use minipod_model::{IpFamily, Protocol};
use netd_policy::evaluate::{Decision, verdict};
use netd_policy::intent::{Intent, PeerGroup, Peers};
use netd_policy::object::{Node, ObjectKey};
use netd_policy::shared::SharedSet;
use netd_policy::{Change, Index, Options, Packet, Transport};
use serde_json::{Value, json};

use crate::support::{
    ALL, HTTP, NAMES, PING, addresses, addresses_of, attachment, check_matrix, cluster_dns, key, namespace, options,
    passes, pod, pod_object, policy, policy_of, small_cluster, with_policies,
};

const DNS_UDP: Transport = Transport::Port(Protocol::Udp, 53);
const DNS_TCP: Transport = Transport::Port(Protocol::Tcp, 53);

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn egress(rules: &Value) -> Value {
    json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": rules})
}

/// A pod of another node with these addresses in its status.
fn remote(name: &str, uid: &str, labels: &Value, addresses: &[IpAddr]) -> Change {
    let key = key(name);
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
    Change::Pod(pod(json!({
        "metadata": {"namespace": key.namespace, "name": key.name, "uid": uid, "labels": labels},
        "spec": {"nodeName": "there", "containers": []},
        "status": {"phase": "Running", "podIPs": ips},
    })))
}

/// The only group of an intent.
fn only_group(intent: &Intent) -> &PeerGroup {
    assert_eq!(intent.groups.len(), 1, "{:?}", intent.groups);
    intent.groups.values().next().expect("a group")
}

#[test]
fn ruling_1_the_spread_of_rules_over_policies_does_not_matter() {
    let rule = |pod: &str, port: u16| json!({"from": [{"podSelector": {"matchLabels": {"pod": pod}}}], "ports": [{"port": port}]});
    let together = with_policies(&[("x", json!({"podSelector": {}, "ingress": [rule("a", 80), rule("b", 81)]}))]);
    let apart = with_policies(&[
        ("x", json!({"podSelector": {}, "ingress": [rule("b", 81)]})),
        ("x", json!({"podSelector": {}, "ingress": [rule("a", 80)]})),
    ]);
    assert_eq!(together.clone().intent(), apart.clone().intent());
}

#[test]
fn ruling_2_a_remote_end_is_judged_by_its_own_node() {
    let mut index = with_policies(&[("x", json!({"podSelector": {}}))]);
    let there = addresses_of(2, 1);
    index.apply(remote("x/far", "1", &json!({}), &there));
    let packet = Packet { source: addresses("y/a")[0], destination: there[0], transport: HTTP };
    assert!(!verdict(index.cluster(), &packet).ingress.is_allowed());
    let intent = index.clone().intent();
    let interpreter = netd_policy::interpret::Interpreter::new(&intent);
    assert_eq!(interpreter.ingress_allows(&packet), None);
    assert_eq!(interpreter.egress_allows(&packet), Some(true));
}

#[test]
fn ruling_5_rules_of_a_pod_are_ready_before_it_is_attached() {
    let mut index = Index::new(options());
    index.apply(Change::Namespace(namespace(json!({"metadata": {"name": "x"}}))));
    index.apply(Change::Policy(policy_of("x", "p", &json!({"podSelector": {}}))));
    index.apply(Change::Pod(pod(pod_object("x/a"))));
    let before = index.intent();
    assert!(before.endpoints.is_empty());
    index.apply(Change::Attached(attachment("x/a", &addresses("x/a"))));
    let after = index.intent();
    assert_eq!(before.signatures, after.signatures);
    assert_eq!(after.endpoints.len(), 1);
}

#[test]
fn ruling_5_an_interface_without_its_pod_passes_nothing() {
    let mut index = small_cluster();
    index.apply(Change::PodRemoved(key("x/a"), None));
    for transport in ALL {
        check_matrix(&index, transport, |from, to| from == to || (from != "x/a" && to != "x/a"));
    }
}

#[test]
fn ruling_5_another_uid_under_the_same_name_is_another_pod() {
    let mut index = small_cluster();
    let mut again = pod_object("x/a");
    again["metadata"]["uid"] = json!("another");
    index.apply(Change::Pod(pod(again)));
    check_matrix(&index, HTTP, |from, to| from == to || (from != "x/a" && to != "x/a"));
    // The late word of the first pod's end does not remove the second.
    index.apply(Change::PodRemoved(key("x/a"), Some("uid-x/a".into())));
    assert!(index.cluster().pods.contains_key(&key("x/a")));
    let mut attached = attachment("x/a", &addresses("x/a"));
    attached.uid = Some("another".into());
    index.apply(Change::Attached(attached));
    check_matrix(&index, HTTP, |_, _| true);
}

#[test]
fn ruling_5_a_static_pod_is_known_by_the_hash_of_its_configuration() {
    let mut index = small_cluster();
    let mut mirror = pod_object("x/a");
    mirror["metadata"]["uid"] = json!("the mirror's");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": "uid-x/a"});
    index.apply(Change::Pod(pod(mirror)));
    check_matrix(&index, HTTP, |_, _| true);
}

#[test]
fn ruling_5_labels_that_a_namespace_may_yet_get_select_nothing_by_absence() {
    let peer = |selector: Value| json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": selector}]}]});
    let check = |selector: Value, expected: bool| {
        let mut index = with_policies(&[("x", peer(selector))]);
        index.apply(Change::NamespaceRemoved("y".into()));
        assert_eq!(passes(&index, addresses("y/a")[0], addresses("x/a")[0], HTTP), expected);
    };
    check(json!({"matchExpressions": [{"key": "bad", "operator": "DoesNotExist"}]}), false);
    check(json!({"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["z"]}]}), false);
    check(
        json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["z"]}]}),
        true,
    );
    check(json!({"matchLabels": {"kubernetes.io/metadata.name": "y"}}), true);
    check(json!({}), true);
}

#[test]
fn ruling_7_and_8_node_addresses_are_matched_by_blocks_only() {
    let node = |name: &str, ip: &str| {
        Change::Node(Node { name: name.into(), addresses: [address(ip)].into(), ..Node::default() })
    };
    let by_selector = egress(&json!([{"to": [{"namespaceSelector": {}}]}]));
    let by_block = egress(&json!([{"to": [{"ipBlock": {"cidr": "192.0.2.2/32"}}]}]));
    for (spec, reaches) in [(by_selector, false), (by_block, true)] {
        let mut index = with_policies(&[("x", spec)]);
        index.apply(node("here", "192.0.2.1"));
        index.apply(node("there", "192.0.2.2"));
        // A pod that claims a node's address does not make it a peer.
        index.apply(remote("y/liar", "1", &json!({}), &[address("192.0.2.2")]));
        assert_eq!(passes(&index, addresses("x/a")[0], address("192.0.2.2"), HTTP), reaches);
        assert!(!passes(&index, addresses("x/a")[0], address("192.0.2.1"), HTTP));
    }
}

#[test]
fn ruling_8_the_own_node_can_be_let_off() {
    let mut index = Index::new(Options { pod_to_node: true, ..options() });
    for change in [
        Change::Pod(pod(pod_object("x/a"))),
        Change::Attached(attachment("x/a", &addresses("x/a"))),
        Change::Policy(policy_of("x", "p", &egress(&json!([])))),
        Change::Node(Node { name: "here".into(), addresses: [address("192.0.2.1")].into(), ..Node::default() }),
        Change::Node(Node { name: "there".into(), addresses: [address("192.0.2.2")].into(), ..Node::default() }),
    ] {
        index.apply(change);
    }
    let decide = |to: &str| {
        let packet = Packet { source: addresses("x/a")[0], destination: address(to), transport: HTTP };
        verdict(index.cluster(), &packet).egress
    };
    assert_eq!(decide("192.0.2.1"), Decision::OwnNode);
    assert_eq!(decide("192.0.2.2"), Decision::Denied { pod: key("x/a"), by: vec![ObjectKey::new("x", "p")] });
}

#[test]
fn ruling_9_pods_on_the_host_network_are_neither_subjects_nor_peers() {
    let mut index = with_policies(&[("x", egress(&json!([{"to": [{"namespaceSelector": {}}]}])))]);
    let mut host = pod_object("y/host");
    host["spec"]["hostNetwork"] = json!(true);
    host["spec"]["nodeName"] = json!("there");
    host["status"]["podIPs"] = json!([{"ip": "192.0.2.9"}]);
    let before = index.intent();
    index.apply(Change::Pod(pod(host.clone())));
    assert_eq!(index.intent(), before);
    assert!(!passes(&index, addresses("x/a")[0], address("192.0.2.9"), HTTP));
    host["spec"]["nodeName"] = json!("here");
    index.apply(Change::Pod(pod(host)));
    assert_eq!(index.intent(), before);
}

#[test]
fn ruling_11_a_pod_reaches_itself() {
    let index = with_policies(&[("x", json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))]);
    for transport in ALL {
        for name in NAMES {
            for own in addresses(name) {
                assert!(passes(&index, own, own, transport));
            }
        }
    }
}

#[test]
fn ruling_12_a_named_egress_port_goes_with_a_block_too() {
    let spec = egress(&json!([{"to": [{"ipBlock": {"cidr": "10.244.1.0/24"}}], "ports": [{"port": "http"}]}]));
    let index = with_policies(&[("x", spec)]);
    assert!(passes(&index, addresses("x/a")[0], addresses("y/a")[0], HTTP));
    assert!(!passes(&index, addresses("x/a")[0], address("10.244.1.200"), HTTP));
    assert!(!passes(&index, addresses("x/a")[1], addresses("y/a")[1], HTTP));
}

#[test]
fn ruling_12_the_first_container_with_the_name_counts() {
    let mut index = with_policies(&[("x", json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}))]);
    let mut object = pod_object("x/a");
    object["spec"]["containers"] = json!([
        {"name": "one", "ports": [{"name": "http", "containerPort": 53, "protocol": "UDP"}]},
        {"name": "two", "ports": [{"name": "http", "containerPort": 8080}]},
        {"name": "three", "ports": [{"name": "http", "containerPort": 80}]},
    ]);
    object["spec"]["initContainers"] = json!([{"name": "zero", "ports": [{"name": "http", "containerPort": 81}]}]);
    index.apply(Change::Pod(pod(object)));
    let open: Vec<u16> = [53, 80, 81, 8080]
        .into_iter()
        .filter(|port| passes(&index, addresses("x/b")[0], addresses("x/a")[0], Transport::Port(Protocol::Tcp, *port)))
        .collect();
    assert_eq!(open, [8080]);
}

#[test]
fn ruling_13_icmp_needs_a_rule_without_ports() {
    for (ports, open) in [(json!([]), true), (json!([{}]), false), (json!([{"port": 1, "endPort": 65535}]), false)] {
        let index = with_policies(&[("x", json!({"podSelector": {}, "ingress": [{"ports": ports}]}))]);
        check_matrix(&index, PING, |from, to| from == to || !to.starts_with("x/") || open);
    }
}

#[test]
fn ruling_15_the_whole_of_one_family_is_nothing_of_the_other() {
    for (cidr, v4, v6) in [("0.0.0.0/0", true, false), ("::/0", false, true)] {
        let index = with_policies(&[("x", egress(&json!([{"to": [{"ipBlock": {"cidr": cidr}}]}])))]);
        let [own4, own6] = addresses("x/a");
        assert_eq!(passes(&index, own4, address("192.0.2.1"), HTTP), v4);
        assert_eq!(passes(&index, own6, address("2001:db8::1"), HTTP), v6);
    }
}

#[test]
fn ruling_15_a_node_of_one_family_has_nothing_of_the_other_in_its_intent() {
    let mut index = Index::new(Options { families: [IpFamily::V4].into(), ..options() });
    for name in ["x/a", "x/b"] {
        index.apply(Change::Pod(pod(pod_object(name))));
        index.apply(Change::Attached(attachment(name, &addresses(name))));
    }
    let rule = json!([{"to": [{"podSelector": {}}, {"ipBlock": {"cidr": "::/0"}}]}, {"ports": [{"port": "http"}]}]);
    index.apply(Change::Policy(policy_of("x", "p", &egress(&rule))));
    let intent = index.clone().intent();
    assert!(intent.endpoints.values().all(|endpoint| endpoint.addresses.iter().all(IpAddr::is_ipv4)));
    assert!(intent.pairs.values().flat_map(SharedSet::iter).all(|pair| pair.address.is_ipv4()));
    let group = only_group(&intent);
    assert_eq!(group.pods, [addresses("x/a")[0], addresses("x/b")[0]].into());
    assert!(group.nets.is_empty());
}

#[test]
fn ruling_16_pods_without_an_address_and_bad_objects_block_nobody() {
    let mut index = with_policies(&[("x", json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}))]);
    index.apply(remote("x/new", "1", &json!({}), &[]));
    index.apply(Change::Policy(policy(json!({
        "metadata": {"namespace": "x", "name": "bad"},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "nonsense"}}]}]},
    }))));
    check_matrix(&index, HTTP, |from, to| !to.starts_with("x/") || from.starts_with("x/"));
    let reported: Vec<String> =
        index.problems().map(|(policy, problem)| format!("{policy} {}", problem.path)).collect();
    assert_eq!(reported, ["x/bad spec.ingress[0].from[0].ipBlock.cidr"]);
}

#[test]
fn ruling_17_a_finished_pod_of_another_node_is_no_peer() {
    let mut index = with_policies(&[(
        "x",
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]}]}),
    )]);
    let there = addresses_of(2, 1);
    let mut far = pod_object("y/far");
    far["spec"]["nodeName"] = json!("there");
    far["status"]["podIPs"] = json!([{"ip": there[0].to_string()}]);
    for (phase, open) in [("Running", true), ("Succeeded", false), ("Failed", false)] {
        far["status"]["phase"] = json!(phase);
        index.apply(Change::Pod(pod(far.clone())));
        assert_eq!(passes(&index, there[0], addresses("x/a")[0], HTTP), open, "{phase}");
    }
}

#[test]
fn ruling_17_a_finished_pod_of_this_node_keeps_network_and_policy_until_it_is_detached() {
    let mut index = with_policies(&[(
        "x",
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]}]}),
    )]);
    let mut done = pod_object("y/a");
    done["status"]["phase"] = json!("Succeeded");
    index.apply(Change::Pod(pod(done)));
    assert!(passes(&index, addresses("y/a")[0], addresses("x/a")[0], HTTP));
    index.apply(Change::Detached(attachment("y/a", &[]).link));
    assert!(!passes(&index, addresses("y/a")[0], addresses("x/a")[0], HTTP));
}

#[test]
fn ruling_17_a_remote_address_with_two_claimants_is_only_in_what_selects_both() {
    let rule = json!({"podSelector": {}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "one"}}}], "ports": [{"port": 80}]},
        {"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}], "ports": [{"port": 81}]},
    ]});
    let mut index = with_policies(&[("x", rule)]);
    let there = addresses_of(2, 1);
    index.apply(remote("x/one", "1", &json!({"app": "one"}), &there));
    assert!(passes(&index, there[0], addresses("x/a")[0], HTTP));
    index.apply(remote("x/two", "2", &json!({"app": "two"}), &there));
    assert!(!passes(&index, there[0], addresses("x/a")[0], HTTP));
    assert!(passes(&index, there[0], addresses("x/a")[0], Transport::Port(Protocol::Tcp, 81)));
    index.apply(Change::PodRemoved(key("x/two"), None));
    assert!(passes(&index, there[0], addresses("x/a")[0], HTTP));
}

#[test]
fn ruling_17_an_address_whose_claimants_are_allowed_by_different_rules_is_allowed() {
    let spec = json!({"podSelector": {}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "one"}}}], "ports": [{"port": 80}]},
        {"from": [{"podSelector": {"matchLabels": {"app": "two"}}}], "ports": [{"port": 80}]},
    ]});
    let mut index = with_policies(&[("x", spec)]);
    let shared = address("10.244.2.7");
    index.apply(remote("x/one", "1", &json!({"app": "one"}), &[shared]));
    index.apply(remote("x/two", "2", &json!({"app": "two"}), &[shared]));
    assert!(passes(&index, shared, addresses("x/a")[0], HTTP));
    index.apply(remote("x/two", "2", &json!({"app": "three"}), &[shared]));
    assert!(!passes(&index, shared, addresses("x/a")[0], HTTP));
}

#[test]
fn ruling_17_an_interface_of_this_node_is_believed_before_any_status() {
    let mut index = with_policies(&[(
        "x",
        json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}]}),
    )]);
    index.apply(remote("x/liar", "1", &json!({"app": "friend"}), &addresses("y/a")));
    check_matrix(&index, HTTP, |from, to| from == to || !to.starts_with("x/"));
}

#[test]
fn ruling_17_an_address_is_reused_by_another_pod() {
    let mut index = with_policies(&[(
        "x",
        json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "b"}}}]}]}),
    )]);
    let there = addresses_of(2, 1);
    index.apply(remote("x/b-far", "1", &json!({"pod": "b"}), &there));
    assert!(passes(&index, there[0], addresses("x/a")[0], HTTP));
    index.apply(Change::PodRemoved(key("x/b-far"), Some("1".into())));
    index.apply(remote("x/c-far", "2", &json!({"pod": "c"}), &there));
    assert!(!passes(&index, there[0], addresses("x/a")[0], HTTP));
}

#[test]
fn ruling_18_no_pod_speaks_vxlan_to_a_node_where_there_are_others() {
    let mut index = small_cluster();
    let node = address("192.0.2.9");
    index.apply(Change::Node(Node { name: "there".into(), addresses: [node].into(), ..Node::default() }));
    let pod = addresses("x/a")[0];
    let asked = |index: &Index, destination, port| {
        let transport = Transport::Port(Protocol::Udp, port);
        verdict(index.cluster(), &Packet { source: pod, destination, transport }).egress
    };
    assert!(asked(&index, node, 4789).is_allowed());
    assert!(index.apply(Change::OtherNodes(true)));
    assert_eq!(asked(&index, node, 4789), Decision::NotANode { pod: key("x/a") });
    assert!(asked(&index, node, 4790).is_allowed());
    assert!(asked(&index, addresses("y/a")[0], 4789).is_allowed());
}

#[test]
fn ruling_18_at_the_address_of_the_cluster_dns_nothing_answers_but_the_cluster_dns() {
    let to_dns = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}});
    let limited = with_policies(&[("x", egress(&json!([{"to": [to_dns]}])))]);
    for index in [limited, with_policies(&[])] {
        for (own, dns) in addresses("x/a").into_iter().zip(cluster_dns()) {
            for transport in [DNS_UDP, DNS_TCP, PING] {
                assert!(passes(&index, own, dns, transport), "{transport:?}");
            }
            for transport in [HTTP, Transport::Port(Protocol::Udp, 2222), Transport::Port(Protocol::Sctp, 53)] {
                assert!(!passes(&index, own, dns, transport), "{transport:?}");
            }
        }
    }
}

#[test]
fn ruling_19_the_cluster_dns_is_a_pod_by_label_and_nothing_by_address() {
    let to_dns = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}});
    let check = |rules: Value, transport: Transport, expected: bool| {
        let index = with_policies(&[("x", egress(&rules))]);
        for (own, dns) in addresses("x/a").into_iter().zip(cluster_dns()) {
            assert_eq!(passes(&index, own, dns, transport), expected, "{rules}");
        }
    };
    check(json!([]), DNS_UDP, false);
    check(json!([{"to": [to_dns.clone()]}]), DNS_UDP, true);
    check(json!([{"to": [to_dns.clone()], "ports": [{"port": 53, "protocol": "UDP"}]}]), DNS_TCP, false);
    check(json!([{"to": [to_dns], "ports": [{"port": "dns-tcp"}]}]), DNS_TCP, true);
    check(json!([{"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]}]), DNS_TCP, true);
    check(json!([{"to": [{"namespaceSelector": {}}]}]), DNS_UDP, true);
    check(json!([{"to": [{"podSelector": {}}]}]), DNS_UDP, false);
    check(json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]}]), DNS_UDP, false);
    check(
        json!([{"to": [{"ipBlock": {"cidr": "10.96.0.10/32"}}, {"ipBlock": {"cidr": "fd00:10:96::a/128"}}]}]),
        DNS_UDP,
        false,
    );
}

#[test]
fn ruling_20_deleting_the_last_policy_opens_and_one_of_several_does_not() {
    let mut index = with_policies(&[
        ("x", json!({"podSelector": {}})),
        ("x", json!({"podSelector": {"matchLabels": {"pod": "a"}}})),
    ]);
    index.apply(Change::PolicyRemoved(ObjectKey::new("x", "policy-0")));
    check_matrix(&index, HTTP, |from, to| from == to || to != "x/a");
    index.apply(Change::PolicyRemoved(ObjectKey::new("x", "policy-1")));
    check_matrix(&index, HTTP, |_, _| true);
}

#[test]
fn a_container_without_an_api_object_is_a_pod_by_its_own_labels() {
    let mut index = with_policies(&[(
        "x",
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]}),
    )]);
    let [web, db] = [addresses_of(1, 101), addresses_of(1, 102)];
    for (name, addresses) in [("web", web), ("db", db)] {
        let mut attached = attachment(&format!("x/{name}"), &addresses);
        attached.uid = None;
        attached.labels = Some([("app".to_owned(), name.to_owned())].into());
        index.apply(Change::Attached(attached));
    }
    assert!(passes(&index, web[0], db[0], HTTP));
    assert!(!passes(&index, addresses("x/a")[0], db[0], HTTP));
    assert!(passes(&index, db[0], web[0], HTTP));
}

#[test]
fn pods_of_one_policy_set_share_a_signature_unless_their_port_numbers_differ() {
    let mut index = with_policies(&[("x", json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]}))]);
    let signature =
        |index: &Index, name: &str| index.clone().intent().endpoints[&attachment(name, &[]).link].signature.clone();
    assert_eq!(signature(&index, "x/a"), signature(&index, "x/b"));
    assert_eq!(signature(&index, "y/a"), signature(&index, "z/a"));
    assert_ne!(signature(&index, "x/a"), signature(&index, "y/a"));
    let mut other = pod_object("x/b");
    other["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 81}]);
    index.apply(Change::Pod(pod(other)));
    assert_ne!(signature(&index, "x/a"), signature(&index, "x/b"));
}

#[test]
fn a_pod_coming_or_going_changes_members_and_no_name() {
    let mut index = with_policies(&[(
        "x",
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]}]}),
    )]);
    let before = index.intent();
    index.apply(remote("y/far", "1", &json!({}), &addresses_of(2, 1)));
    let after = index.intent();
    assert_eq!(before.signatures, after.signatures);
    assert_eq!(before.endpoints, after.endpoints);
    assert_eq!(only_group(&after).pods.len(), only_group(&before).pods.len() + 2);
}

#[test]
fn port_classes_are_disjoint_with_their_peers_united() {
    let rule = |pod: &str, first: u16, last: u16| json!({"from": [{"podSelector": {"matchLabels": {"pod": pod}}}], "ports": [{"port": first, "endPort": last}]});
    let spec = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [rule("b", 10, 20), rule("c", 15, 30), rule("b", 40, 50), rule("b", 51, 60)]});
    let index = with_policies(&[("x", spec)]);
    let intent = index.clone().intent();
    let ingress = intent.signatures[&intent.endpoints[&attachment("x/a", &[]).link].signature].ingress.clone();
    let classes = ingress.expect("isolated").ports;
    let ranges: Vec<_> = classes.iter().map(|class| class.ranges.clone()).collect();
    assert_eq!(ranges, [vec![(10, 14), (40, 60)], vec![(15, 20)], vec![(21, 30)]]);
}

#[test]
fn peers_that_may_use_every_port_are_not_repeated() {
    let of = |pod: &str| json!({"podSelector": {"matchLabels": {"pod": pod}}});
    let spec = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [
        {"from": [of("b"), {"ipBlock": {"cidr": "192.0.2.0/24"}}]},
        {"from": [of("b"), {"ipBlock": {"cidr": "192.0.2.0/25"}}], "ports": [{"port": 80}]},
    ]});
    let everyone = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "ingress": [{}, {"from": [of("b")], "ports": [{"port": 80}]}]});
    for (spec, peers) in [(spec, None), (everyone, Some(Peers::Everyone))] {
        let index = with_policies(&[("x", spec)]);
        let intent = index.clone().intent();
        let ingress = intent.signatures[&intent.endpoints[&attachment("x/a", &[]).link].signature].ingress.clone();
        let allowed = ingress.expect("isolated");
        assert!(allowed.ports.is_empty() && allowed.named.is_empty());
        assert!(allowed.any_port.is_some());
        if peers.is_some() {
            assert_eq!(allowed.any_port, peers);
            assert!(intent.groups.is_empty(), "everyone needs no set");
        }
    }
}

#[test]
fn a_verdict_names_what_decided() {
    let index = with_policies(&[
        ("x", json!({"podSelector": {}, "ingress": [{"ports": [{"port": 81}]}, {"ports": [{"port": 80}]}]})),
        ("x", json!({"podSelector": {}, "ingress": []})),
    ]);
    let packet = Packet { source: addresses("y/a")[0], destination: addresses("x/a")[0], transport: HTTP };
    let decided = verdict(index.cluster(), &packet);
    assert_eq!(decided.egress, Decision::NotIsolated { pod: key("y/a") });
    assert_eq!(decided.ingress, Decision::Allowed { pod: key("x/a"), by: vec![(ObjectKey::new("x", "policy-0"), 1)] });
    let denied = verdict(index.cluster(), &Packet { transport: PING, ..packet });
    let both = vec![ObjectKey::new("x", "policy-0"), ObjectKey::new("x", "policy-1")];
    assert_eq!(denied.ingress, Decision::Denied { pod: key("x/a"), by: both });
    let outside = verdict(index.cluster(), &Packet { source: address("192.0.2.1"), ..packet });
    assert_eq!(outside.egress, Decision::NoPod);
}
