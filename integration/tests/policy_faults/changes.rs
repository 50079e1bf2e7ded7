//! Changes of objects: each kind of step of a plan occurs in one of them.

use integration::api::{JSON, MERGE};
use integration::lab::{Iptables, Lab};
use minipod_protocol::judge::{FirstPacket, Kernel};
use serde_json::{Value, json};

use crate::node;
use crate::scene::{Change, SERVICE, Scene, Verdict, ask, open, pod, service};
use crate::streams::Way;

integration::on_both_variants! {
    policies_that_come_change_and_go
    labels_of_pods_and_namespaces
    blocks_of_addresses
    services_and_pods
}

const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/x/networkpolicies";

fn is_server(pod: &str) -> bool {
    matches!(pod, "s1" | "s2")
}

fn servers_take_nothing_but_from(way: &Way, from: &str, port: Option<u16>) -> bool {
    open(way) && (!is_server(way.to) || way.from == from && port.is_none_or(|port| way.port == port))
}

fn friends_at_80(way: &Way) -> bool {
    servers_take_nothing_but_from(way, "friend", Some(80))
}

fn ports(ports: &[u16]) -> Value {
    let both = ports.iter().flat_map(|port| ["TCP", "UDP"].map(|p| json!({"protocol": p, "port": port})));
    both.collect::<Vec<_>>().into()
}

fn create<'a>(name: &'a str, passes: Verdict, policy: &'a str, spec: &'a Value) -> Change<'a> {
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": policy}, "spec": spec});
    Change::new(name, passes, move |lab| ask(lab, "POST", POLICIES, JSON, &object))
}

fn delete<'a>(name: &'a str, passes: Verdict, policy: &'a str) -> Change<'a> {
    Change::new(name, passes, move |lab| ask(lab, "DELETE", &format!("{POLICIES}/{policy}"), JSON, &json!({})))
}

fn respec<'a>(name: &'a str, passes: Verdict, policy: &'a str, spec: &'a Value) -> Change<'a> {
    let change = json!({"spec": spec});
    Change::new(name, passes, move |lab| ask(lab, "PATCH", &format!("{POLICIES}/{policy}"), MERGE, &change))
}

fn relabel<'a>(name: &'a str, passes: Verdict, path: &'a str, key: &'a str, value: &'a str) -> Change<'a> {
    let change = json!({"metadata": {"labels": {key: value}}});
    Change::new(name, passes, move |lab| ask(lab, "PATCH", path, MERGE, &change))
}

/// The policy of most changes: `app=server` takes `app=friend` at port 80.
fn for_friends() -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": ports(&[80])}],
    })
}

fn policies_that_come_change_and_go(iptables: Iptables) {
    let mut scene = Scene::new(iptables);
    let friends = for_friends();
    let made = create("a policy is made", friends_at_80, "web", &friends);
    scene.sweep(&made, &delete("a policy is deleted", open, "web"), true);

    let any_port = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": ports(&[80, 81])}],
    });
    let others_too = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [
            {"podSelector": {"matchLabels": {"app": "friend"}}},
            {"namespaceSelector": {"matchLabels": {"team": "y"}}},
        ], "ports": ports(&[80])}],
    });
    let first: Verdict = |way| servers_take_nothing_but_from(way, "friend", None);
    let second: Verdict = |way| friends_at_80(way) || servers_take_nothing_but_from(way, "other", Some(80));
    scene.make(&create("a policy is made", first, "web", &any_port));
    let there = respec("a policy lets others in and closes a port", second, "web", &others_too);
    scene.sweep(&there, &respec("a policy opens a port and shuts others out", first, "web", &any_port), false);

    let egress = json!({
        "podSelector": {"matchLabels": {"app": "friend"}}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "server"}}}]}],
    });
    let also: Verdict =
        |way| servers_take_nothing_but_from(way, "friend", None) && (way.from != "friend" || is_server(way.to));
    let there = create("a second policy is made, for the other direction", also, "out", &egress);
    scene.sweep(&there, &delete("the second policy is deleted", first, "out"), false);
}

fn labels_of_pods_and_namespaces(iptables: Iptables) {
    let mut scene = Scene::new(iptables);
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": ports(&[80])},
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "y"}}}]},
        ],
    });
    let passes: Verdict = |way| friends_at_80(way) || servers_take_nothing_but_from(way, "other", None);
    scene.make(&create("a policy is made", passes, "web", &spec));

    let friend = "/api/v1/namespaces/x/pods/friend";
    let others_only: Verdict = |way| servers_take_nothing_but_from(way, "other", None);
    let there = relabel("a peer loses its label", others_only, friend, "app", "none");
    scene.sweep(&there, &relabel("a peer gets its label", passes, friend, "app", "friend"), false);

    let there = relabel("a namespace loses its label", friends_at_80, "/api/v1/namespaces/y", "team", "z");
    scene.sweep(&there, &relabel("a namespace gets its label", passes, "/api/v1/namespaces/y", "team", "y"), false);

    let s2_is_free: Verdict =
        |way| open(way) && (way.to == "s2" || friends_at_80(way) || servers_take_nothing_but_from(way, "other", None));
    let s2 = "/api/v1/namespaces/x/pods/s2";
    let there = relabel("a pod is not selected any more", s2_is_free, s2, "app", "none");
    scene.sweep(&there, &relabel("a pod is selected", passes, s2, "app", "server"), false);
}

fn blocks_of_addresses(iptables: Iptables) {
    let mut scene = Scene::new(iptables);
    let all_but = |pod: &str| {
        let blocks = [("10.244.0.0/24", false, 32), ("fd00:10:244::/120", true, 128)].map(|(cidr, v6, bits)| {
            json!({"ipBlock": {"cidr": cidr, "except": [format!("{}/{bits}", scene.address(pod, v6))]}})
        });
        json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": blocks}]})
    };
    let (without_friend, without_other) = (all_but("friend"), all_but("other"));
    let first: Verdict = |way| open(way) && (!is_server(way.to) || way.from != "friend");
    let second: Verdict = |way| open(way) && (!is_server(way.to) || way.from != "other");
    scene.make(&create("a policy is made", first, "web", &without_friend));
    let there = respec("a block gets another exception", second, "web", &without_other);
    scene.sweep(&there, &respec("a block gets its exception back", first, "web", &without_friend), false);
}

fn services_and_pods(iptables: Iptables) {
    let mut scene = Scene::new(iptables);
    let (services, own) = ("/api/v1/namespaces/x/services", format!("/api/v1/namespaces/x/services/{SERVICE}"));
    let served: Verdict = |_| true;
    let s1 = service(&json!({"pod": "s1"}));
    let mut made = Change::new("a service is made", served, |lab| ask(lab, "POST", services, JSON, &s1));
    let mut gone = Change::new("a service is deleted", open, |lab| ask(lab, "DELETE", &own, JSON, &json!({})));
    made.is_done = Box::new(|lab| leads_to(lab, "s1"));
    gone.is_done = Box::new(|lab| translations(lab).is_empty());
    scene.sweep(&made, &gone, false);

    scene.make(&made);
    let select = |pod: &str| json!({"spec": {"selector": {"pod": pod}}});
    let (first, second) = (select("s1"), select("s2"));
    let mut there =
        Change::new("a service gets another endpoint", served, |lab| ask(lab, "PATCH", &own, MERGE, &second));
    there.is_done = Box::new(|lab| leads_to(lab, "s2"));
    let mut back =
        Change::new("a service gets its endpoint back", served, |lab| ask(lab, "PATCH", &own, MERGE, &first));
    back.is_done = Box::new(|lab| leads_to(lab, "s1"));
    scene.sweep(&there, &back, false);

    let friends = for_friends();
    let with_service: Verdict = |way| match way.to {
        SERVICE => way.from == "friend",
        _ => friends_at_80(way),
    };
    scene.make(&create("a policy is made", with_service, "web", &friends));
    let listening = scene.address("s1", false);
    let is_attached = move |lab: &Lab| {
        let path = [
            "get",
            "-n",
            "x",
            "pod",
            "late",
            "-o",
            r#"jsonpath={.status.podIP} {.status.conditions[?(@.type=="Ready")].status}"#,
        ];
        let said = lab.minipod(&path).stdout;
        let Some((address, "True")) = said.trim().split_once(' ') else { return false };
        let packet = |port| FirstPacket {
            source: address.parse().expect("an address"),
            destination: listening,
            protocol: Some("TCP".to_owned()),
            port: Some(port),
        };
        let judged = node::judge(lab, vec![packet(80), packet(81)]);
        judged.is_some_and(|(judgements, differences)| {
            let as_wanted =
                judgements.iter().map(|j| (j.allowed, j.kernel)).eq([(true, Kernel::Agrees), (false, Kernel::Agrees)]);
            differences.is_empty() && as_wanted
        })
    };
    let late = pod("x", "late", "friend");
    let mut there =
        Change::new("a pod is made", with_service, |lab| ask(lab, "POST", "/api/v1/namespaces/x/pods", JSON, &late));
    there.is_done = Box::new(is_attached);
    let mut back = Change::new("a pod is deleted", with_service, |lab| {
        ask(lab, "DELETE", "/api/v1/namespaces/x/pods/late", JSON, &json!({"gracePeriodSeconds": 0}));
    });
    back.is_done = Box::new(|lab| {
        let attachments = node::try_report(lab).map(|report| report["attachments"].as_array().map(Vec::len));
        attachments == Some(Some(4)) && !lab.minipod(&["get", "-n", "x", "pod", "late"]).succeeded()
    });
    scene.sweep(&there, &back, false);
}

/// Whether the rules translate to that pod alone.
fn leads_to(lab: &Lab, pod: &str) -> bool {
    let address = lab.minipod(&["get", "-n", "x", "pod", pod, "-o", "jsonpath={.status.podIP}"]).stdout;
    let rules = translations(lab);
    !rules.is_empty() && rules.iter().all(|rule| rule.ends_with(&format!(" {}:80", address.trim())))
}

/// The rules that lead to an endpoint of the service.
fn translations(lab: &Lab) -> Vec<String> {
    let rules = lab.shell("iptables-$MINIPOD_IPTABLES-save -t nat").expect_success();
    rules.lines().filter(|rule| rule.contains("--to-destination") && rule.ends_with(":80")).map(str::to_owned).collect()
}
