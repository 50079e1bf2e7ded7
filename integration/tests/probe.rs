//! `probe`: real connections from inside the pods do what the policies say, and it is told where they do not.

use std::time::Duration;

use integration::lab::{Iptables, Lab};
use integration::wait::until;

const LIMIT: Duration = Duration::from_secs(30);

const SERVICE_OF_BOTH_FAMILIES: &str = "
apiVersion: v1
kind: Service
metadata: {name: both}
spec: {ipFamilyPolicy: RequireDualStack, selector: {app: hello}, ports: [{port: 80, targetPort: 8080}]}
";

integration::on_both_variants! {
    a_rule_of_somebody_else_that_drops_what_policies_allow_is_told
}

#[test]
fn connections_that_do_what_the_policies_say_are_counted() {
    let lab = Lab::with_lesson(Iptables::Nft);
    // Three pods to two others each over both families, and to the service, which has an address of one.
    let ran = lab.minipod(&["probe"]);
    assert_eq!(ran.stdout, "15 connections tried, all as the policies say\n", "{ran}");
    assert_eq!(ran.code, Some(0), "{ran}");
    // Nobody listens on the second port: a refusal is an arrival.
    let ran = lab.minipod(&["probe", "--from", "foo", "--to", "hello-web", "--port", "81"]);
    assert_eq!(ran.stdout, "5 connections tried, all as the policies say\n", "{ran}");
    let ran =
        lab.minipod(&["probe", "-A", "--from", "other", "--to", "pod/hello-web", "--port", "9/udp", "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let found: Vec<String> = json["connections"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| format!("{} {} {} {}", one["protocol"], one["allowed"], one["connection"], one["agrees"]))
        .collect();
    let (tcp, udp) = ("\"TCP\" false \"no answer\" true", "\"UDP\" false \"no answer\" null");
    assert_eq!(found, [udp, tcp, udp, tcp], "{json}");
    lab.apply(SERVICE_OF_BOTH_FAMILIES);
    until("the service's endpoints", LIMIT, || {
        let ran = lab.minipod(&["probe", "--to", "service/both"]);
        (ran.stdout == "6 connections tried, all as the policies say\n").then_some(())
    })
    .expect("six connections");
    for (arguments, expected) in [
        (["--from", "nobody"], "error: --from `nobody`: no pod of that name runs on this node"),
        (["--to", "nobody"], "error: --to `nobody`: there is no pod with an address and a port"),
    ] {
        let ran = lab.minipod(&[&["probe"], &arguments[..]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran}");
        assert!(ran.stderr.starts_with(expected), "{ran}");
    }
}

#[test]
fn a_refusal_of_what_policies_deny_agrees_with_them_on_a_node_that_rejects() {
    let lab = Lab::with_lesson(Iptables::Nft);
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let _ = lab.minipod(&["node", "start", "--deny-action", "reject"]).expect_success();
    let json = until("what is denied to be refused", LIMIT, || {
        let ran = lab.minipod(&["probe", "--from", "other", "--to", "pod/hello-web", "-o", "json"]);
        let json: serde_json::Value = serde_json::from_str(&ran.stdout).ok()?;
        (json["connections"][0]["connection"] == "refused").then_some(json)
    });
    let json = json.expect("refused");
    assert_eq!(json["connections"][0]["agrees"], true, "{json}");
    let ran = lab.minipod(&["probe"]);
    assert_eq!(ran.stdout, "15 connections tried, all as the policies say\n", "{ran}");
}

fn a_rule_of_somebody_else_that_drops_what_policies_allow_is_told(iptables: Iptables) {
    let lab = Lab::with_lesson(iptables);
    let (from, to) = (lab.pod_ip("foo"), lab.pod_ip("hello-web"));
    let foreign = |verb: &str| {
        let rule = format!("iptables-{} -w -t mangle {verb} POSTROUTING -s {from} -d {to} -j DROP", iptables.as_str());
        let _ = lab.shell(&rule).expect_success();
    };
    foreign("-A");
    let ran = lab.minipod(&["probe", "--from", "foo"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    // At the pod's own address, and through its service; over IPv6 nobody drops anything.
    assert_eq!(lines.len(), 4, "{ran}");
    assert!(lines[1].starts_with("default/foo") && lines[1].contains(&format!("{to}:8080 TCP")), "{ran}");
    assert!(lines[2].contains("service default/hello-web"), "{ran}");
    for line in &lines[1..3] {
        let expected = "allowed (ingress allowed by default/hello-allow-from-foo rule 1)";
        assert!(line.contains(expected) && line.trim_end().ends_with("no answer"), "{ran}");
    }
    assert_eq!(lines[3], "5 connections tried, 2 not as the policies say", "{ran}");
    foreign("-D");
    until("connections to pass again", LIMIT, || lab.minipod(&["probe"]).succeeded().then_some(())).expect("agreement");
}
