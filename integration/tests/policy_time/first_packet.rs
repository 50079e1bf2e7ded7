//! No packet passes before the policy is in force (semantics, ruling 5): many pods send with their first instruction.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use integration::fixture::HELLO_IMAGE;
use integration::lab::{Iptables, Lab, Place};
use integration::wait::until;
use serde_json::json;

use crate::api;

/// Alive at once.
const CROWD: usize = 100;
const PORT: u16 = 9999;
const LIMIT: Duration = Duration::from_secs(90);

integration::on_both_variants! {
    of_many_pods_no_first_packet_passes_that_is_denied
}

/// A socket in the server's network that notes the text of every datagram that comes.
struct Ear {
    heard: Arc<Mutex<BTreeSet<String>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    fn of(place: &Place) -> Self {
        let socket = place.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT)).expect("a socket"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        let (heard, over) = (Arc::<Mutex<BTreeSet<String>>>::default(), Arc::<AtomicBool>::default());
        let (notes, end) = (Arc::clone(&heard), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !end.load(Ordering::Relaxed) {
                if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    notes.lock().expect("no panic").insert(text);
                    let _ = socket.send_to(b"heard", peer);
                }
            }
        });
        Self { heard, over, thread: Some(thread) }
    }

    fn heard(&self) -> BTreeSet<String> {
        self.heard.lock().expect("no panic").clone()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One in ten may speak; of the others half are stopped by their own policy, half by the server's.
fn role(number: usize) -> &'static str {
    match number {
        number if number.is_multiple_of(10) => "friend",
        number if number.is_multiple_of(2) => "mute",
        _ => "stranger",
    }
}

fn of_many_pods_no_first_packet_passes_that_is_denied(iptables: Iptables) {
    let lab = Lab::started("n1", iptables).expect("a lab");
    lab.pod("server", "app=server");
    let server = Place::of_pod(&lab, "default", "server");
    let ear = Ear::of(&server);
    let _ = api::create_policy(
        &lab,
        "mute",
        &json!({"podSelector": {"matchLabels": {"app": "mute"}}, "policyTypes": ["Egress"]}),
    );
    let friends = json!([{"podSelector": {"matchLabels": {"app": "friend"}}}]);
    let _ = api::create_policy(
        &lab,
        "friends",
        &json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": friends}]}),
    );
    let pods = if std::env::var_os("MINIPOD_TEST_FULL").is_some() { 1000 } else { 200 };
    let numbers: Vec<usize> = (0..pods).collect();
    for crowd in numbers.chunks(CROWD) {
        let documents = crowd.iter().map(|number| {
            // Ten neighbours use one family, the next ten the other.
            let address = server.addresses[number / 10 % 2].to_string();
            let name = format!("p{number}");
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": role(*number), "crowd": "yes"}},
                "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [{
                    "name": "a", "image": HELLO_IMAGE, "command": ["udp", "send", "-T", "1", address, PORT.to_string(), name],
                }]},
            })
            .to_string()
        });
        lab.apply(&documents.collect::<Vec<_>>().join("\n---\n"));
        until("every pod to have sent and waited for an answer", LIMIT, || {
            let path = "jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[0].state.terminated.exitCode} {end}";
            let said = lab.minipod(&["get", "pods", "-l", "crowd=yes", "-o", path]).expect_success();
            let ended: BTreeSet<&str> = said.split_whitespace().filter(|word| !word.ends_with('=')).collect();
            // 3: sent, and no answer in time.
            let expected = crowd.iter().map(|n| format!("p{n}={}", if role(*n) == "friend" { 0 } else { 3 }));
            expected.into_iter().all(|word| ended.contains(word.as_str())).then_some(())
        })
        .unwrap_or_else(|error| unreachable!("{error}\n{}", lab.minipod(&["get", "pods", "-o", "wide"]).stdout));
        let _ = lab.minipod(&["delete", "pod", "-l", "crowd=yes", "--grace-period=0"]).expect_success();
        until("the pods to be gone", LIMIT, || {
            lab.minipod(&["get", "pods", "-l", "crowd=yes", "-o", "name"]).expect_success().is_empty().then_some(())
        })
        .unwrap_or_else(|error| unreachable!("{error}"));
    }
    let expected: BTreeSet<String> =
        (0..pods).filter(|number| role(*number) == "friend").map(|number| format!("p{number}")).collect();
    assert_eq!(ear.heard(), expected, "who was heard, and who may be");
}
