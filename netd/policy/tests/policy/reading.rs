//! `docs/semantics.md`, "Reading the object", row by row.

#![expect(clippy::needless_pass_by_value, reason = "literals read better without a reference")]

use minipod_model::{Protocol, Selector};
use netd_policy::object::{Block, Peer, PeerNamespaces, Policy, PortNumbers, Rule, RulePeers, RulePort, RulePorts};
use netd_policy::read::unknown_fields;
use serde_json::{Value, json};

use crate::support::policy_of;

fn read(spec: Value) -> Policy {
    policy_of("x", "p", &spec)
}

/// Asserts which directions are isolated and how many rules are left in each.
#[track_caller]
fn check_directions(spec: Value, ingress: Option<usize>, egress: Option<usize>) {
    let policy = read(spec);
    assert_eq!(policy.problems, []);
    assert_eq!(policy.ingress.map(|rules| rules.len()), ingress);
    assert_eq!(policy.egress.map(|rules| rules.len()), egress);
}

/// Asserts how the only rule of a policy is read.
#[track_caller]
fn check_rule(rule: Value, peers: RulePeers, ports: RulePorts) {
    let policy = read(json!({"podSelector": {}, "ingress": [rule]}));
    assert_eq!(policy.problems, []);
    assert_eq!(policy.ingress, Some(vec![Rule { index: 0, peers, ports }]));
}

/// Asserts that a rule is not read, with the path and the words of the report, and that the rule beside it stays.
#[track_caller]
fn check_refused(rule: Value, path: &str, problem: &str) {
    let policy = read(json!({"podSelector": {}, "ingress": [{}, rule]}));
    let everything = Rule { index: 0, peers: RulePeers::Everyone, ports: RulePorts::Every };
    assert_eq!(policy.ingress, Some(vec![everything]));
    assert_eq!(policy.problems.len(), 1, "{:?}", policy.problems);
    assert_eq!(policy.problems[0].path, format!("spec.ingress[1].{path}"));
    assert!(policy.problems[0].problem.contains(problem), "{}", policy.problems[0]);
}

fn ports(ports: Vec<RulePort>) -> RulePorts {
    RulePorts::Listed(ports)
}

fn tcp(numbers: PortNumbers) -> RulePort {
    RulePort { protocol: Protocol::Tcp, numbers }
}

#[test]
fn a_missing_or_empty_pod_selector_selects_the_namespace() {
    for spec in [json!({}), json!({"podSelector": {}}), json!({"podSelector": null})] {
        assert!(read(spec).subjects.is_everything());
    }
}

#[test]
fn missing_policy_types_follow_from_the_egress_rules() {
    check_directions(json!({}), Some(0), None);
    check_directions(json!({"ingress": [{}]}), Some(1), None);
    check_directions(json!({"egress": [{}]}), Some(0), Some(1));
    check_directions(json!({"egress": []}), Some(0), None);
    check_directions(json!({"policyTypes": [], "egress": [{}]}), Some(0), Some(1));
}

#[test]
fn given_policy_types_decide_alone() {
    check_directions(json!({"policyTypes": ["Egress"], "ingress": [{}]}), None, Some(0));
    check_directions(json!({"policyTypes": ["Ingress"], "egress": [{}]}), Some(0), None);
    check_directions(json!({"policyTypes": ["Ingress", "Egress"]}), Some(0), Some(0));
}

#[test]
fn the_three_spellings_of_no_rules_are_alike() {
    for spec in [
        json!({"policyTypes": ["Egress"]}),
        json!({"policyTypes": ["Egress"], "egress": null}),
        json!({"policyTypes": ["Egress"], "egress": []}),
    ] {
        check_directions(spec, None, Some(0));
    }
}

#[test]
fn what_a_rule_leaves_out_is_not_restricted() {
    for rule in [json!({}), json!({"from": []}), json!({"ports": []}), json!({"from": null, "ports": null})] {
        check_rule(rule, RulePeers::Everyone, RulePorts::Every);
    }
}

#[test]
fn ports_are_read_as_kubernetes_means_them() {
    let check =
        |item: Value, port: RulePort| check_rule(json!({"ports": [item]}), RulePeers::Everyone, ports(vec![port]));
    check(json!({}), tcp(PortNumbers::Every));
    check(json!({"protocol": "UDP"}), RulePort { protocol: Protocol::Udp, numbers: PortNumbers::Every });
    check(json!({"port": 80}), tcp(PortNumbers::Range(80, 80)));
    check(json!({"port": 80, "endPort": 80}), tcp(PortNumbers::Range(80, 80)));
    check(
        json!({"port": 80, "endPort": 90, "protocol": "SCTP"}),
        RulePort { protocol: Protocol::Sctp, numbers: PortNumbers::Range(80, 90) },
    );
    check(json!({"port": "http"}), tcp(PortNumbers::Named("http".into())));
}

#[test]
fn ports_that_make_no_sense_allow_nothing() {
    let check = |item: Value, path: &str, problem: &str| {
        check_refused(json!({"ports": [item]}), &format!("ports[0].{path}"), problem);
    };
    check(json!({"endPort": 90}), "endPort", "may not be specified when `port` is not specified");
    check(json!({"port": "http", "endPort": 90}), "endPort", "non-numeric");
    check(json!({"port": 80, "endPort": 79}), "endPort", "greater than or equal");
    check(json!({"port": 80, "endPort": 65536}), "endPort", "between 1 and 65535");
    check(json!({"port": 0}), "port", "between 1 and 65535");
    check(json!({"port": 65536}), "port", "between 1 and 65535");
    check(json!({"port": ""}), "port", "at least one letter");
    check(json!({"port": "much-too-long-a-name"}), "port", "15 characters");
    check(json!({"protocol": "ICMP"}), "protocol", "supported values");
    check(json!({"protocol": "tcp"}), "protocol", "supported values");
}

#[test]
fn peers_are_read_as_kubernetes_means_them() {
    let check = |item: Value, namespaces: PeerNamespaces, pods: Selector| {
        let peers = RulePeers::Listed(vec![Peer::Pods { namespaces, pods }]);
        check_rule(json!({"from": [item]}), peers, RulePorts::Every);
    };
    let everything = Selector::everything;
    check(json!({"podSelector": {}}), PeerNamespaces::Own, everything());
    check(json!({"podSelector": {"matchLabels": {"a": "b"}}}), PeerNamespaces::Own, Selector::equals("a", "b"));
    check(json!({"podSelector": {}, "namespaceSelector": null}), PeerNamespaces::Own, everything());
    check(json!({"namespaceSelector": {}}), PeerNamespaces::Selected(everything()), everything());
    check(
        json!({"namespaceSelector": {"matchLabels": {"n": "1"}}, "podSelector": {"matchLabels": {"a": "b"}}}),
        PeerNamespaces::Selected(Selector::equals("n", "1")),
        Selector::equals("a", "b"),
    );
}

#[test]
fn blocks_are_read_with_their_exceptions() {
    let check = |item: Value, cidr: &str, except: &[&str]| {
        let net = |text: &str| text.parse().expect("a prefix");
        let block = Block { cidr: net(cidr), except: except.iter().map(|text| net(text)).collect() };
        check_rule(json!({"from": [{"ipBlock": item}]}), RulePeers::Listed(vec![Peer::Block(block)]), RulePorts::Every);
    };
    check(json!({"cidr": "10.0.0.0/8"}), "10.0.0.0/8", &[]);
    check(
        json!({"cidr": "10.1.2.3/8", "except": ["10.1.0.0/16", "10.2.3.4/32"]}),
        "10.0.0.0/8",
        &["10.1.0.0/16", "10.2.3.4/32"],
    );
    check(json!({"cidr": "::/0", "except": ["fd00::/8"]}), "::/0", &["fd00::/8"]);
}

#[test]
fn peers_that_make_no_sense_allow_nothing() {
    let check = |item: Value, path: &str, problem: &str| {
        check_refused(json!({"from": [item]}), &format!("from[0]{path}"), problem);
    };
    check(json!({}), "", "must specify a peer");
    check(json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}), "", "both ipBlock and another peer");
    check(json!({"ipBlock": {"cidr": "10.0.0.0"}}), ".ipBlock.cidr", "valid CIDR");
    check(json!({"ipBlock": {"cidr": "::ffff:10.0.0.0/104"}}), ".ipBlock.cidr", "IPv4-mapped");
    for except in ["10.0.0.0/8", "11.0.0.0/16", "0.0.0.0/0", "fd00::/8"] {
        let block = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": [except]}});
        check(block, ".ipBlock.except[0]", "strict subset");
    }
    let expression = |operator: &str, values: Value| json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}});
    check(
        expression("Near", json!(["b"])),
        ".podSelector.matchExpressions[0].operator",
        "not a valid selector operator",
    );
    check(expression("In", json!([])), ".podSelector.matchExpressions[0].values", "must be specified");
    check(expression("NotIn", json!(null)), ".podSelector.matchExpressions[0].values", "must be specified");
    check(expression("Exists", json!(["b"])), ".podSelector.matchExpressions[0].values", "may not be specified");
}

#[test]
fn one_bad_item_takes_its_whole_rule_and_is_reported_with_the_others() {
    let policy = read(json!({"ingress": [{"from": [{"podSelector": {}}, {}], "ports": [{"port": 0}]}]}));
    assert_eq!(policy.ingress, Some(vec![]));
    let paths: Vec<&str> = policy.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["spec.ingress[0].from[1]", "spec.ingress[0].ports[0].port"]);
}

#[test]
fn an_unreadable_pod_selector_selects_no_fewer_pods_and_allows_them_nothing() {
    let policy = read(json!({
        "podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "Near", "values": ["a"]}]},
        "ingress": [{}],
    }));
    assert_eq!(policy.subjects, Selector::equals("app", "web"));
    assert_eq!(policy.ingress, Some(vec![]));
    assert_eq!(policy.problems[0].path, "spec.podSelector.matchExpressions[0].operator");
}

#[test]
fn an_unknown_policy_type_is_reported_and_the_known_ones_hold() {
    let policy = read(json!({"policyTypes": ["Ingress", "Sideways"], "ingress": [{}]}));
    assert_eq!(policy.ingress.map(|rules| rules.len()), Some(1));
    assert_eq!(policy.egress, None);
    assert_eq!(policy.problems[0].path, "spec.policyTypes[1]");
}

/// Asserts the unknown paths of a spec, and the places of the ingress and egress rules that are left.
#[track_caller]
fn check_unknown(spec: Value, paths: &[&str], ingress: &[usize], egress: &[usize]) {
    let unknown = unknown_fields(&json!({"metadata": {"other": 1}, "spec": spec}));
    assert_eq!(unknown.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), paths);
    let policy = read(spec).distrusting(unknown);
    assert_eq!(policy.problems.len(), paths.len());
    let places = |rules: Option<Vec<Rule>>| rules.expect("isolated").iter().map(|rule| rule.index).collect::<Vec<_>>();
    assert_eq!(places(policy.ingress), ingress);
    assert_eq!(places(policy.egress), egress);
}

#[test]
fn a_rule_around_an_unknown_field_allows_nothing() {
    let spec = |rule: Value| json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{}, rule], "egress": [{}, {}]});
    check_unknown(spec(json!({"from": [], "ports": []})), &[], &[0, 1], &[0, 1]);
    check_unknown(spec(json!({"via": []})), &["spec.ingress[1].via"], &[0], &[0, 1]);
    check_unknown(
        spec(json!({"from": [{"nodeSelector": {}, "podSelector": {}}]})),
        &["spec.ingress[1].from[0].nodeSelector"],
        &[0],
        &[0, 1],
    );
    check_unknown(
        spec(json!({"from": [{"podSelector": {"matchNames": {}}}]})),
        &["spec.ingress[1].from[0].podSelector.matchNames"],
        &[0],
        &[0, 1],
    );
    check_unknown(
        spec(json!({"ports": [{"port": 80, "startPort": 1}]})),
        &["spec.ingress[1].ports[0].startPort"],
        &[0],
        &[0, 1],
    );
    check_unknown(
        json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}, {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "x": 1}}]}]}),
        &["spec.egress[1].to[0].ipBlock.x"],
        &[0],
        &[0],
    );
}

#[test]
fn an_unknown_field_beside_the_rules_takes_them_all() {
    let both =
        |extra: &str| json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}], extra: true});
    check_unknown(both("priority"), &["spec.priority"], &[], &[]);
    let selector =
        json!({"policyTypes": ["Ingress", "Egress"], "podSelector": {"x": 1}, "ingress": [{}], "egress": [{}]});
    check_unknown(selector, &["spec.podSelector.x"], &[], &[]);
}
