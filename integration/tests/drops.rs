//! `minipod drops`: what was dropped, whose it was, and why.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use integration::lab::{Iptables, Lab, Place};
use integration::on_both_variants;
use integration::wait::until;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 81;

on_both_variants! {
    a_dropped_packet_is_told_with_its_pods_ports_direction_and_policies
    what_a_pods_kernel_sends_by_itself_is_not_told
    who_follows_is_told_of_packets_as_they_come
    a_flood_is_told_by_samples_and_hides_no_other_pod
    metrics_count_each_denied_packet_by_the_policies_that_isolate
}

/// `server` takes packets from `friend` alone, and `mute` may send none.
struct Scene {
    lab: Lab,
    server: Place,
    friend: Place,
    stranger: Place,
    mute: Place,
}

impl Scene {
    fn new(iptables: Iptables) -> Self {
        let lab = Lab::started("n1", iptables).expect("a lab");
        for name in ["server", "friend", "stranger", "mute"] {
            lab.pod(name, &format!("app={name}"));
        }
        let [server, friend, stranger, mute] =
            ["server", "friend", "stranger", "mute"].map(|pod| Place::of_pod(&lab, "default", pod));
        let policy = |name: &str, spec: Value| {
            lab.apply(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}).to_string());
        };
        let app = |name: &str| json!({"matchLabels": {"app": name}});
        policy(
            "friends",
            json!({"podSelector": app("server"), "ingress": [{"from": [{"podSelector": app("friend")}]}]}),
        );
        policy("sealed", json!({"podSelector": app("mute"), "policyTypes": ["Egress"]}));
        // What is sent before is no dropped packet.
        let _ = lab.minipod(&["policy", "wait", "friends", "sealed"]).expect_success();
        Self { lab, server, friend, stranger, mute }
    }

    /// What is told now.
    fn told(&self) -> Vec<Value> {
        let said = self.lab.minipod(&["drops", "-o", "json"]).expect_success();
        said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Sends until that is told, which has to be told with all of this.
    #[track_caller]
    fn expect(&self, from: &Place, own: Option<IpAddr>, to: IpAddr, expected: &Value) {
        let seen = until("the packet to be told", LIMIT, || {
            send(from, own, SocketAddr::new(to, PORT));
            let is_it = |dropped: &Value| {
                expected.as_object().into_iter().flatten().all(|(key, value)| match value.as_object() {
                    Some(parts) => parts.iter().all(|(part, value)| dropped[key][part] == *value),
                    None => dropped[key] == *value,
                })
            };
            self.told().iter().any(is_it).then_some(())
        });
        assert!(seen.is_ok(), "{expected}\n{:#?}\n{}", self.told(), self.lab.node_log());
    }
}

/// One datagram, from this address.
fn send(from: &Place, own: Option<IpAddr>, to: SocketAddr) {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    from.run(|| {
        let socket = UdpSocket::bind((own.unwrap_or(any), 0)).expect("a socket");
        // Refused at once, where the node rejects.
        let _ = socket.send_to(b"x", to);
    });
}

fn a_dropped_packet_is_told_with_its_pods_ports_direction_and_policies(iptables: Iptables) {
    let scene = Scene::new(iptables);
    let Scene { lab, server, stranger, mute, .. } = &scene;
    let foreign: [IpAddr; 2] = [[10, 99, 0, 9].into(), "fd99::9".parse().expect("an address")];
    for address in foreign {
        let added =
            stranger.run(|| Command::new("ip").args(["address", "add", &address.to_string(), "dev", "lo"]).status());
        assert!(added.expect("ip").success());
    }
    for action in ["drop", "reject"] {
        let _ = lab.minipod(&["node", "stop"]).expect_success();
        let _ = lab.minipod(&["node", "start", "--deny-action", action]).expect_success();
        for (index, to) in server.addresses.iter().enumerate() {
            let destination = json!({"address": to, "port": PORT, "pod": "default/server"});
            let source = |place: &Place, pod: &str| json!({"address": place.addresses[index], "pod": pod});
            let told = json!({
                "reason": "ingress", "protocol": "UDP", "pod": "default/server", "policies": ["default/friends"],
                "source": source(stranger, "default/stranger"), "destination": destination,
            });
            scene.expect(stranger, None, *to, &told);
            let told = json!({
                "reason": "egress", "protocol": "UDP", "pod": "default/mute", "policies": ["default/sealed"],
                "source": source(mute, "default/mute"), "destination": destination,
            });
            scene.expect(mute, None, *to, &told);
            let told = json!({
                "reason": "spoofed", "protocol": "UDP", "pod": "default/stranger", "policies": [],
                "source": {"address": foreign[index], "pod": null}, "destination": destination,
            });
            scene.expect(stranger, Some(foreign[index]), *to, &told);
        }
        let said = lab.minipod(&["drops"]).expect_success();
        let sentence = format!(
            "-> default/server ({}:{PORT}): default/server is isolated by default/friends",
            server.addresses[0]
        );
        assert!(
            said.lines().any(|line| line.contains(" ingress UDP default/stranger (") && line.ends_with(&sentence)),
            "{said}"
        );
    }
}

fn what_a_pods_kernel_sends_by_itself_is_not_told(iptables: Iptables) {
    let scene = Scene::new(iptables);
    let Scene { server, stranger, .. } = &scene;
    let reported = || std::fs::read_to_string("/proc/thread-self/net/snmp6").expect("counters of the pod's network");
    until("the kernel of the pod to report its groups", LIMIT, || {
        let counters = stranger.run(reported);
        let sent = counters.lines().find_map(|line| line.strip_prefix("Icmp6OutMLDv2Reports")).expect("a counter");
        (sent.trim() != "0").then_some(())
    })
    .expect("reports");
    // Packets are told in their order: what the kernel sent before this would have been told before it.
    scene.expect(stranger, None, server.addresses[1], &json!({"reason": "ingress", "protocol": "UDP"}));
    let told = scene.told();
    assert!(told.iter().all(|dropped| dropped["protocol"] == "UDP"), "{told:#?}");
}

fn who_follows_is_told_of_packets_as_they_come(iptables: Iptables) {
    let Scene { lab, server, friend, stranger, .. } = Scene::new(iptables);
    let mut follower = lab.command("minipod");
    follower.args(["drops", "-f", "-o", "json"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut follower = follower.spawn().expect("minipod starts");
    let lines = BufReader::new(follower.stdout.take().expect("its output")).lines();
    let (tell, told) = mpsc::channel::<Value>();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if tell.send(serde_json::from_str(&line).expect("JSON")).is_err() {
                return;
            }
        }
    });
    for (number, address) in server.addresses.iter().enumerate() {
        send(&friend, None, SocketAddr::new(*address, PORT));
        let begin = Instant::now();
        let next = until("the packet", LIMIT, || {
            send(&stranger, None, SocketAddr::new(*address, PORT));
            told.try_iter().find(|dropped| dropped["destination"]["address"] == json!(address))
        });
        let next = next.unwrap_or_else(|error| unreachable!("{number}: {error}"));
        assert_eq!(next["source"]["pod"], "default/stranger", "what is allowed is not told");
        assert!(begin.elapsed() < Duration::from_secs(5), "told after {:?}", begin.elapsed());
    }
    follower.kill().expect("killed");
    follower.wait().expect("ended");
    drop(told);
    // The program in the lab's process namespace ends with the lab.
    drop(lab);
    reader.join().expect("no panic");
}

fn a_flood_is_told_by_samples_and_hides_no_other_pod(iptables: Iptables) {
    let scene = Scene::new(iptables);
    let Scene { server, stranger, mute, .. } = &scene;
    let to = SocketAddr::new(server.addresses[0], PORT);
    let begin = Instant::now();
    let flood = stranger.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        (0..20_000).filter(|_| socket.send_to(b"x", to).is_ok()).count()
    });
    assert!(flood > 10_000, "{flood}");
    scene.expect(mute, None, to.ip(), &json!({"reason": "egress", "source": {"pod": "default/mute"}}));
    let told = scene.told().iter().filter(|dropped| dropped["source"]["pod"] == "default/stranger").count();
    // Twenty at once and ten a second (docs/datapath.md, "Dropped packets").
    let most = 20 + 10 * (begin.elapsed().as_secs() + 1);
    let told = u64::try_from(told).expect("a count");
    assert!((1..=most).contains(&told), "{told} of {flood} were told, at most {most} may be");
}

fn metrics_count_each_denied_packet_by_the_policies_that_isolate(iptables: Iptables) {
    let Scene { lab, server, friend, stranger, mute } = Scene::new(iptables);
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let _ = lab.minipod(&["node", "start", "--metrics-address", "127.0.0.1:9475"]).expect_success();
    for address in &server.addresses {
        let to = SocketAddr::new(*address, PORT);
        (0..30).for_each(|_| send(&stranger, None, to));
        (0..7).for_each(|_| send(&mute, None, to));
        send(&friend, None, to);
    }
    let fetch = "minipod-hello wget -qO- --timeout=5 http://127.0.0.1:9475/metrics";
    let metrics = lab.shell(fetch).expect_success();
    let value = |name: &str, labels: &[&str]| {
        let mut lines = metrics.lines().filter_map(|line| line.rsplit_once(' '));
        let line = lines
            .find(|(key, _)| key.split('{').next() == Some(name) && labels.iter().all(|label| key.contains(label)));
        line.map(|(_, value)| value.parse::<f64>().expect("a number"))
    };
    // Both families, each packet.
    let denied = |direction, policy| value("minipod_denied_packets_total", &[direction, policy]);
    assert_eq!(denied(r#"direction="ingress""#, r#"policies="default/friends""#), Some(60.0), "{metrics}");
    assert_eq!(denied(r#"direction="egress""#, r#"policies="default/sealed""#), Some(14.0), "{metrics}");
    for (name, expected) in [("minipod_enforcing", 1.0), ("minipod_pods", 4.0), ("minipod_policies", 2.0)] {
        assert_eq!(value(name, &[]), Some(expected), "{metrics}");
    }
    let told = value("minipod_drops_told_total", &[r#"pod="server""#, r#"reason="ingress""#]);
    assert!(told.is_some_and(|told| (1.0..=60.0).contains(&told)), "{metrics}");
    assert!(
        value("minipod_set_elements", &[]) > Some(8.0) && value("minipod_signatures", &[]) >= Some(3.0),
        "{metrics}"
    );
}
