//! Live connections stop when they become forbidden, and only those (semantics, ruling 4).

use std::time::{Duration, Instant};

use integration::lab::{Iptables, Lab, Place};
use integration::wait::until;
use serde_json::{Value, json};

use crate::api;
use integration::packets::flow::{Flow, Kind, place_of_node};

/// Long after the change: retransmissions come at 0.2, 0.6 and 1.4 s.
const LATER: Duration = Duration::from_secs(2);
/// Nothing comes through any more this long after a change, on a machine as busy as tests make it. How quick it really is says
/// `./scripts/bench policy`.
const BOUND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(20);
const KINDS: [Kind; 5] = [Kind::TcpBusy, Kind::TcpIdle, Kind::TcpOneWay, Kind::Udp, Kind::Sctp];

integration::on_both_variants! {
    a_policy_cuts_what_it_forbids_and_nothing_else
    labels_of_a_pod_and_of_its_namespace_cut_what_they_allowed
    an_egress_policy_cuts_a_connection_to_the_node_in_both_directions
    what_was_let_in_while_no_daemon_ran_is_cut_by_the_next
    what_was_let_in_while_the_rules_were_gone_is_cut_with_their_repair
}

struct Scene {
    lab: Lab,
    server: Place,
    friend: Place,
    stranger: Place,
}

fn scene(iptables: Iptables) -> Scene {
    let lab = Lab::started("n1", iptables).expect("a lab");
    for (name, labels) in [("server", "app=server"), ("friend", "app=friend"), ("stranger", "app=stranger")] {
        lab.pod(name, labels);
    }
    let [server, friend, stranger] = ["server", "friend", "stranger"].map(|pod| Place::of_pod(&lab, "default", pod));
    Scene { lab, server, friend, stranger }
}

fn from_friends() -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
    })
}

fn flows(client: &Place, server: &Place) -> Vec<(Kind, Flow)> {
    let all = server.addresses.iter().flat_map(|address| KINDS.map(|kind| (kind, *address)));
    all.map(|(kind, address)| (kind, Flow::open(kind, client, (server, address)))).collect()
}

/// Nothing comes through after the bound, also what is sent only then.
#[track_caller]
fn assert_cut(flows: &[(Kind, Flow)], acknowledged: Instant) {
    let since = |flow: &Flow| flow.last().map(|last| last.saturating_duration_since(acknowledged));
    until("the bound to pass", LIMIT, || (acknowledged.elapsed() > BOUND).then_some(())).expect("time passes");
    for (_, flow) in flows {
        flow.speak();
    }
    until("a while to pass", LIMIT, || (acknowledged.elapsed() > BOUND + LATER).then_some(())).expect("time passes");
    for (kind, flow) in flows {
        assert!(
            since(flow).is_none_or(|since| since < BOUND),
            "{kind:?}: something came {:?} after the change",
            since(flow)
        );
    }
}

#[track_caller]
fn assert_alive(flows: &[(Kind, Flow)]) {
    for (_, flow) in flows {
        flow.speak();
    }
    let now = Instant::now();
    for (kind, flow) in flows {
        until("the flow to go on", LIMIT, || flow.last().filter(|last| *last > now))
            .unwrap_or_else(|error| unreachable!("{kind:?}: {error}"));
    }
}

fn a_policy_cuts_what_it_forbids_and_nothing_else(iptables: Iptables) {
    let Scene { lab, server, friend, stranger } = scene(iptables);
    let (kept, cut) = (flows(&friend, &server), flows(&stranger, &server));
    let acknowledged = api::create_policy(&lab, "friends", &from_friends());
    assert_cut(&cut, acknowledged);
    assert_alive(&kept);
    for (kind, flow) in kept {
        if kind == Kind::Udp {
            let (sent, reached, returned) = flow.finish();
            // What was on its way at the end is not lost.
            assert!(
                sent - reached <= 8 && reached - returned <= 8,
                "lost: {sent} sent, {reached} came, {returned} returned"
            );
        }
    }
    // Allowed again, a connection that still lives goes on.
    let _ = api::delete_policy(&lab, "friends");
    let now = Instant::now();
    for (kind, flow) in cut.iter().filter(|(kind, _)| *kind != Kind::TcpIdle) {
        until("the flow to go on", LIMIT, || flow.last().filter(|last| *last > now))
            .unwrap_or_else(|error| unreachable!("{kind:?}: {error}"));
    }
}

fn labels_of_a_pod_and_of_its_namespace_cut_what_they_allowed(iptables: Iptables) {
    let Scene { lab, server, friend, .. } = scene(iptables);
    let _ = api::create_policy(&lab, "friends", &from_friends());
    let cut = flows(&friend, &server);
    let label = |value: &str| json!({"metadata": {"labels": {"app": value}}});
    assert_cut(&cut, api::patch(&lab, "/api/v1/namespaces/default/pods/friend", &label("none")));
    drop(cut);

    let _ = api::patch(&lab, "/api/v1/namespaces/default", &json!({"metadata": {"labels": {"team": "a"}}}));
    let of_team = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]}],
    });
    let _ = api::create_policy(&lab, "team", &of_team);
    let probe = format!("http://{}:8080", server.addresses[0]);
    until("the team to be let in", LIMIT, || lab.wget("friend", &probe).succeeded().then_some(())).expect("allowed");
    let cut = flows(&friend, &server);
    assert_cut(&cut, api::patch(&lab, "/api/v1/namespaces/default", &json!({"metadata": {"labels": {"team": "b"}}})));
}

fn an_egress_policy_cuts_a_connection_to_the_node_in_both_directions(iptables: Iptables) {
    let Scene { lab, server, .. } = scene(iptables);
    let node = place_of_node(&lab);
    let cut = flows(&server, &node);
    let spec = json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Egress"]});
    assert_cut(&cut, api::create_policy(&lab, "sealed", &spec));
    let kept = flows(&node, &server);
    assert_alive(&kept);
}

fn what_was_let_in_while_no_daemon_ran_is_cut_by_the_next(iptables: Iptables) {
    let Scene { lab, server, friend, stranger } = scene(iptables);
    let _ = api::create_policy(&lab, "friends", &from_friends());
    let url = format!("http://{}:8080", server.addresses[0]);
    until("the policy", LIMIT, || (!lab.wget("stranger", &url).succeeded()).then_some(())).expect("denied");
    let kept = flows(&friend, &server);
    let stop = r#"kill -KILL $(sed 's/.*"pid":\([0-9]*\).*/\1/' /run/minipod/node.pid)"#;
    let _ = lab.shell(stop).expect_success();
    // Somebody else's rule stands before ours for a while.
    let past_ours = |change: &str| {
        let tables = ["iptables", "ip6tables"]
            .map(|program| format!("{program}-{} -t mangle {change} FORWARD -j ACCEPT", iptables.as_str()));
        let _ = lab.shell(&tables.join("; ")).expect_success();
    };
    past_ours("-I");
    let (idle, busy): (Vec<_>, Vec<_>) =
        flows(&stranger, &server).into_iter().partition(|(kind, _)| *kind == Kind::TcpIdle);
    past_ours("-D");
    assert_alive(&busy);
    lab.start_node().expect("a new daemon");
    let started = Instant::now();
    assert_cut(&busy, started);
    assert_cut(&idle, started);
    assert_alive(&kept);
}

fn what_was_let_in_while_the_rules_were_gone_is_cut_with_their_repair(iptables: Iptables) {
    let Scene { lab, server, friend, stranger } = scene(iptables);
    let _ = api::create_policy(&lab, "friends", &from_friends());
    let url = format!("http://{}:8080", server.addresses[0]);
    until("the policy", LIMIT, || (!lab.wget("stranger", &url).succeeded()).then_some(())).expect("denied");
    let kept = flows(&friend, &server);
    let flush = format!("iptables-{} -t mangle -F FORWARD", iptables.as_str());
    // They are back within a second or two: a connection that comes in between has to be quick.
    let cut = until("a connection to come in", LIMIT, || {
        let _ = lab.shell(&flush).expect_success();
        Flow::try_open(&stranger, &server, server.addresses[0])
    });
    let cut = [(Kind::TcpBusy, cut.expect("let in"))];
    until("the repair to cut it", LIMIT, || {
        let last = cut[0].1.last()?;
        (last.elapsed() > BOUND).then_some(())
    })
    .expect("cut");
    assert_cut(&cut, Instant::now());
    assert_alive(&kept);
}
