//! `apply --dry-run=policy`: what is said would change is what changes, and nothing changes by saying it.

use std::time::{Duration, Instant};

use integration::lab::{Iptables, Lab, Place};
use integration::packets::flow::{Flow, Kind};
use integration::wait::until;

const LIMIT: Duration = Duration::from_secs(20);
/// Retransmissions come at 0.2, 0.6 and 1.4 s.
const LATER: Duration = Duration::from_secs(2);

const FRIENDS: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: friend}}}]
";

integration::on_both_variants! {
    connections_that_are_said_to_be_cut_are_cut_and_no_others
}

fn ask(lab: &Lab, yaml: &str) -> String {
    lab.minipod_with_input(&["apply", "--dry-run=policy", "-f", "-"], yaml).expect_success()
}

fn cut_lines(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.starts_with("would be cut: ")).collect()
}

fn connections_that_are_said_to_be_cut_are_cut_and_no_others(iptables: Iptables) {
    let lab = Lab::started("n1", iptables).expect("a lab");
    for (name, labels) in [("server", "app=server"), ("friend", "app=friend"), ("stranger", "app=stranger")] {
        lab.pod(name, labels);
    }
    let [server, friend, stranger] = ["server", "friend", "stranger"].map(|pod| Place::of_pod(&lab, "default", pod));
    // One that is over is not told of.
    let _ = lab.wget("stranger", &format!("http://{}:8080", server.addresses[0])).expect_success();
    let open = |client: &Place| -> Vec<Flow> {
        let both = server.addresses.iter().flat_map(|address| [Kind::TcpBusy, Kind::Udp].map(|kind| (kind, *address)));
        both.map(|(kind, address)| Flow::open(kind, client, (&server, address))).collect()
    };
    let (kept, cut) = (open(&friend), open(&stranger));

    let mut said = String::new();
    until("the four connections to be told", LIMIT, || {
        said = ask(&lab, FRIENDS);
        (cut_lines(&said).len() == cut.len()).then_some(())
    })
    .unwrap_or_else(|error| unreachable!("{error}\n{said}"));
    for line in cut_lines(&said) {
        assert!(
            line.starts_with("would be cut: default/stranger (") && line.contains(" -> default/server ("),
            "{said}"
        );
        assert!(line.ends_with("TCP (ingress isolated by default/friends)") || line.contains(" UDP ("), "{said}");
    }
    let others: Vec<&str> = said.lines().filter(|line| !line.starts_with("would be cut: ")).collect();
    let expected = [
        "networkpolicy.networking.k8s.io/friends created (policy dry run)",
        "default/stranger -> default/server   every port   allowed -> denied (ingress isolated by default/friends)",
    ];
    assert_eq!(others, expected, "{said}");
    assert_eq!(lab.minipod(&["get", "networkpolicies", "-o", "name"]).stdout, "", "nothing was written");
    let asked = Instant::now();
    for flow in kept.iter().chain(&cut) {
        until("the flow to go on", LIMIT, || flow.last().filter(|last| *last > asked)).expect("alive");
    }

    lab.apply(FRIENDS);
    until("the connections to be cut", LIMIT, || {
        let quiet = |flow: &Flow| flow.last().is_none_or(|last| last.elapsed() > LATER);
        cut.iter().all(quiet).then_some(())
    })
    .expect("cut");
    let now = Instant::now();
    for flow in &kept {
        until("the flow to go on", LIMIT, || flow.last().filter(|last| *last > now)).expect("alive");
    }
    assert_eq!(
        ask(&lab, FRIENDS),
        "networkpolicy.networking.k8s.io/friends unchanged (policy dry run)\n\
         Between pods nothing would change.\n\
         No live connection of this node's pods would be cut.\n"
    );
}

#[test]
fn new_namespaces_with_all_that_is_in_them_are_judged_and_what_the_server_refuses_is_not() {
    let lab = Lab::with_lesson(Iptables::Nft);
    let shop = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: foo}}
spec: {containers: [{name: c, image: minipod.local/hello-app:1.0}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: sealed, namespace: shop}
spec: {podSelector: {}, policyTypes: [Egress]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";
    let said = ask(&lab, shop);
    for expected in [
        "namespace/shop created (policy dry run)\n",
        "pod/web created (policy dry run, not checked: its namespace is not there yet)\n",
        "default/foo -> shop/web         every port   not there -> allowed (not isolated)\n",
        "shop/web -> default/foo         every port   not there -> denied (egress isolated by shop/sealed)\n",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert!(!lab.minipod(&["get", "namespace", "shop"]).succeeded(), "nothing was written");

    let json = lab.minipod_with_input(
        &["apply", "--dry-run=policy", "-o", "json", "-f", "-"],
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: hello-allow-from-foo},
          spec: {podSelector: {matchLabels: {app: hello}}, ingress: [{from: [{podSelector: {matchLabels: {app: foo}}}], ports: [{port: 80}]}]}}",
    );
    let json: serde_json::Value = serde_json::from_str(&json.expect_success()).expect("JSON");
    assert_eq!(json["objects"][0]["outcome"], "configured", "{json}");
    let pair = &json["pairs"][0];
    assert_eq!((&pair["from"]["name"], &pair["to"]["name"]), (&"foo".into(), &"hello-web".into()), "{json}");
    assert_eq!((&pair["before"], &pair["after"]), (&"allowed".into(), &"denied".into()), "{json}");
    assert_eq!(pair["ports"][0], serde_json::json!({"protocol": "TCP", "first": 1, "last": 79}), "{json}");

    let wrong = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: {podSelektor: {}}}";
    let refused = lab.minipod_with_input(&["apply", "--dry-run=policy", "-f", "-"], wrong);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{refused}");
    assert!(refused.stderr.contains("unknown field \"spec.podSelektor\""), "{refused}");
}
