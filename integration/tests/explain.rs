//! `policy explain`: the verdict, who decides it, and whether the installed rules agree; `policy lint`: what is found in the objects;
//! `policy matrix`: who reaches whom.

use std::time::Duration;

use integration::lab::{HELLO_URL, Iptables, Lab};
use integration::wait::until;

const LIMIT: Duration = Duration::from_secs(30);

integration::on_both_variants! {
    a_kernel_that_does_otherwise_is_told_loudly
}

#[test]
fn who_decides_is_told_for_pods_services_and_addresses() {
    let lab = Lab::with_lesson(Iptables::Nft);
    let address = lab.pod_ip("hello-web");
    for (from, to, port, code, expected) in [
        ("foo", "hello-web", "8080", 0, "ingress: allowed by default/hello-allow-from-foo rule 1"),
        (
            "other",
            "hello-web",
            "8080",
            1,
            "ingress: denied: isolated by default/hello-allow-from-foo, and no rule allows it",
        ),
        ("other", "service/hello-web", "8080", 1, "through service default/hello-web port 8080: DENIED"),
        ("foo", address.as_str(), "8080", 0, "allowed by default/hello-allow-from-foo rule 1"),
        ("192.0.2.7", "hello-web", "8080", 1, "egress:  192.0.2.7 is no pod"),
        ("hello-web", "foo", "1", 0, "ingress: no policy isolates it"),
    ] {
        let ran = lab.minipod(&["policy", "explain", "--from", from, "--to", to, "--port", port]);
        assert_eq!(ran.code, Some(code), "{ran}");
        assert!(ran.stdout.contains(expected), "{expected}\n{ran}");
        assert!(ran.stdout.contains("kernel:  the installed rules agree"), "{ran}");
    }
    let icmp = lab.minipod(&["policy", "explain", "--from", "foo", "--to", "hello-web", "--protocol", "icmp"]);
    assert_eq!(icmp.code, Some(0), "the lesson's rule has no ports: {icmp}");
    let json = lab.minipod(&["policy", "explain", "--from", "other", "--to", "svc/hello-web", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["connections"][0]["allowed"], false);
    assert_eq!(json["connections"][0]["ingress"]["by"][0], "default/hello-allow-from-foo");
    assert_eq!(json["differences"], serde_json::json!([]));
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let lab = Lab::with_lesson(Iptables::Nft);
    for (arguments, expected) in [
        (
            &["--from", "foo", "--to", "nobody"][..],
            "error: there is no pod and no service \"nobody\" in namespace \"default\"",
        ),
        (
            &["--from", "svc/hello-web", "--to", "foo"],
            "error: --from `hello-web`: a service opens no connections; give a pod or an address",
        ),
        (
            &["--from", "foo", "--to", "svc/hello-web", "--port", "99"],
            "error: service \"default/hello-web\" has no TCP port `99`",
        ),
        (&["--from", "foo", "--to", "192.0.2.1"], "error: 192.0.2.1 declares no TCP port: give one with `--port`"),
        (&["--from", "nobody", "--to", "foo"], "Error from server (NotFound): pods \"nobody\" not found"),
    ] {
        let ran = lab.minipod(&[&["policy", "explain"], arguments].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran}");
        assert!(ran.stderr.starts_with(expected), "{expected}\n{ran}");
    }
}

#[test]
fn a_matrix_says_who_reaches_whom_as_real_requests_do() {
    let lab = Lab::with_lesson(Iptables::Nft);
    let ran = lab.minipod(&["policy", "matrix"]);
    let expected = "\
FROM \\ TO   foo   hello-web   other
foo         all   all         all
hello-web   all   all         all
other       all   -           all

all: every port that was asked for
-: none of them
";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected), "{ran}");
    for (from, reaches) in [("foo", true), ("other", false)] {
        assert_eq!(lab.wget(from, HELLO_URL).succeeded(), reaches, "{from}");
    }
    let ran = lab.minipod(&["policy", "matrix", "-A", "--port", "53/udp", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let is = |pair: &&serde_json::Value| pair["from"]["name"] == "other" && pair["to"]["name"] == "hello-web";
    let pair = json["pairs"].as_array().into_iter().flatten().find(is).expect("the pair");
    assert_eq!(
        pair["ports"][0],
        serde_json::json!({"port": 53, "protocol": "UDP", "allowed": {"IPv4": false, "IPv6": false}})
    );
    let ran = lab.minipod(&["policy", "matrix", "-o", "html"]);
    assert!(
        ran.stdout.starts_with("<!DOCTYPE html>") && ran.stdout.contains("<title>other to hello-web: -</title>"),
        "{ran}"
    );
}

#[test]
fn a_browser_draws_the_matrix_without_fetching_anything() {
    let lab = Lab::with_lesson(Iptables::Nft);
    // In the node's network nothing could be fetched, and the page forbids it.
    let script = "minipod policy matrix -o html > /run/matrix.html
        HOME=/run exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking \
            --disable-component-update --disable-sync --no-first-run --user-data-dir=/run/browser --window-size=1200,900 \
            --enable-logging=stderr --screenshot=/run/matrix.png --dump-dom file:///run/matrix.html";
    let ran = lab.shell(script);
    let count = |text: &str| ran.stdout.matches(text).count();
    assert!(ran.succeeded(), "{ran}");
    // Three pods: nine squares with what they say, and a table of nine cells.
    assert_eq!((count("<rect "), count("<title>other to hello-web: -</title>"), count("<td")), (9, 1, 9), "{ran}");
    let complains = |line: &&str| line.contains("CONSOLE") || line.contains("Refused");
    assert_eq!(ran.stderr.lines().find(complains), None, "{ran}");
    // A page that is not drawn is a white picture of a few thousand bytes.
    let size = lab.shell("head -c 8 /run/matrix.png | tail -c 7; stat -c ' %s' /run/matrix.png").stdout;
    let bytes: u64 = size.split_whitespace().last().and_then(|size| size.parse().ok()).expect("a size");
    assert!(size.contains("PNG") && bytes > 15_000, "{size}");
}

#[test]
fn lint_tells_what_probably_does_otherwise_than_was_meant_and_fails_on_warnings() {
    let lab = Lab::with_lesson(Iptables::Nft);
    let ran = lab.minipod(&["policy", "lint"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran}");
    lab.apply(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: wrong}
spec:
  podSelector: {matchLabels: {app: foo}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: hallo}}}]
  - to: [{podSelector: {matchLabels: {app: hello}}}]
    ports: [{port: web}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: needless}
spec:
  podSelector: {matchLabels: {app: hello}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: foo}}}]
    ports: [{port: 8080}]
",
    );
    let ran = lab.minipod(&["policy", "lint"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    let found: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .skip(1)
        .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).take(4).map(str::trim).collect())
        .collect();
    let expected = [
        [
            "note",
            "default/needless",
            "ingress[0]",
            "ingress[0] of policy hello-allow-from-foo allows all that it allows",
        ],
        ["warning", "default/wrong", "egress[0].to[0]", "matches no pod: none in namespace default with app=hallo"],
        [
            "warning",
            "default/wrong",
            "egress[1].ports[0]",
            "no pod among the peers has a TCP port `web`: allows nothing",
        ],
        [
            "warning",
            "default/wrong",
            "egress",
            "foo may not reach the cluster DNS: no rule allows port 53 over UDP and TCP",
        ],
    ];
    assert_eq!(found, expected, "{ran}");
    let ran = lab.minipod(&["policy", "lint", "needless", "-o", "json"]);
    assert_eq!(ran.code, Some(0), "a note is no failure: {ran}");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let finding = &json["findings"][0];
    assert_eq!((&finding["level"], &finding["check"]), (&"note".into(), &"shadowed".into()), "{json}");
    let ran = lab.minipod(&["policy", "lint", "nobody"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.starts_with("error: there is no network policy \"nobody\" in namespace \"default\""), "{ran}");
}

fn a_kernel_that_does_otherwise_is_told_loudly(iptables: Iptables) {
    let lab = Lab::with_lesson(iptables);
    let address = lab.pod_ip("hello-web");
    let question = ["policy", "explain", "--from", "other", "--to", "hello-web", "--port", "8080"];
    // The same signature as a pod that nothing isolates has: the policy is gone from the kernel, and only there.
    let open = lab.shell(&format!("ipset list mp-sig4 | grep {}", lab.pod_ip("other"))).expect_success();
    let mark = open.split_whitespace().nth(2).expect("a mark");
    let changes = [
        (
            format!("ipset add -exist mp-sig4 {address} skbmark {mark}"),
            "kernel:  DISAGREES: the installed rules let it pass",
        ),
        (
            format!("iptables-{} -t mangle -F MP-FORWARD", iptables.as_str()),
            "! chain MP-FORWARD (V4, Mangle) is missing or not as installed",
        ),
    ];
    for (change, expected) in changes {
        // netd repairs it when it next looks, which may be before the question.
        let told = until("the difference to be seen", LIMIT, || {
            let _ = lab.shell(&change).expect_success();
            let ran = lab.minipod(&question);
            (ran.code == Some(3)).then_some(ran)
        });
        let told = told.expect("told");
        assert!(
            told.stdout.contains(expected) && told.stderr.starts_with("error: the rules that are installed"),
            "{told}"
        );
        until("netd to repair it", LIMIT, || (lab.minipod(&question).code == Some(1)).then_some(())).expect("repaired");
    }
}
