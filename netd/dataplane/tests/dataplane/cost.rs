//! What changes cost on a node with many pods, against the real kernel in a network namespace of its own. Needs root. The bounds are
//! loose: they fail when a cost grows with the node, not when the machine is busy.

#![expect(clippy::print_stderr, reason = "the figures are what a person wants to see")]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sample::{addr, any_port, facts, link, signature};
use minipod_kernel::iptables::Variant;
use minipod_kernel::netns::NetNs;
use minipod_model::PodKey;
use netd_dataplane::{Dataplane, LinuxKernel};
use netd_policy::intent::{Endpoint, GroupId, Intent, PeerGroup, Peers, SignatureId};

fn addresses(number: u32) -> Vec<IpAddr> {
    vec![addr(&format!("10.244.{}.{}", number / 250, number % 250 + 1)), addr(&format!("fd00:10:244:1::{number:x}"))]
}

fn attach(intent: &mut Intent, number: u32) {
    let name = format!("p{number}");
    let signature = SignatureId(format!("s{}", number % 20).into());
    let pod = PodKey::new("default", name.clone());
    let endpoint = Endpoint { pod, addresses: addresses(number), signature };
    Arc::make_mut(&mut intent.endpoints).insert(link(&name), Arc::new(endpoint));
    for group in [number % 20, (number + 7) % 20] {
        let groups = Arc::make_mut(&mut intent.groups);
        let group = groups.entry(GroupId(format!("g{group}").into())).or_default();
        group.pods.extend(addresses(number));
    }
}

fn node(pods: u32) -> Intent {
    let mut intent = Intent::default();
    for number in 0..20 {
        let id = GroupId(format!("g{number}").into());
        Arc::make_mut(&mut intent.groups).insert(id.clone(), PeerGroup::default());
        let allowed = any_port(Peers::Group(id));
        signature(&mut intent, &format!("s{number}"), Some(allowed.clone()), Some(allowed));
    }
    for number in 1..=pods {
        attach(&mut intent, number);
    }
    intent
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_pod_with_a_known_signature_costs_a_few_elements() {
    for variant in Variant::ALL {
        let netns = NetNs::create().expect("this test needs root: cannot make a network namespace");
        let (attaches, policy) = netns
            .run(|| {
                let kernel = LinuxKernel::open(Some(variant)).expect("iptables, ipset and root");
                let mut dataplane = Dataplane::adopt(kernel).expect("nothing is there");
                let mut intent = node(1000);
                let begin = Instant::now();
                dataplane.apply(&crate::sample::little(), &facts()).expect("applies");
                eprintln!("{variant}: first {:?}", begin.elapsed());
                let begin = Instant::now();
                dataplane.apply(&intent, &facts()).expect("applies");
                eprintln!("{variant}: 1000 pods {:?}", begin.elapsed());
                let begin = Instant::now();
                dataplane.repair().expect("repairs");
                eprintln!("{variant}: repair {:?}", begin.elapsed());
                let attaches = (1001..1052).map(|number| {
                    attach(&mut intent, number);
                    let begin = Instant::now();
                    let changes = dataplane.apply(&intent, &facts()).expect("applies");
                    assert_eq!((changes.elements, changes.chains), (8, 0));
                    begin.elapsed()
                });
                let attaches = median(attaches.collect());
                signature(&mut intent, "new", None, Some(any_port(Peers::Everyone)));
                let begin = Instant::now();
                dataplane.apply(&intent, &facts()).expect("applies");
                (attaches, begin.elapsed())
            })
            .expect("a namespace");
        eprintln!("{variant}: attach {attaches:?}, new signature {policy:?}");
        assert!(attaches < Duration::from_millis(5), "{variant}: {attaches:?}");
    }
}
