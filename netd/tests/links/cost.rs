//! What an attach costs without policy; printed, not judged: a busy machine is no defect.

use std::time::Instant;

use crate::node::{Pod, now, on_a_node};
use minipod_protocol::netd::Dns;
use netd::ipam::Taken;

#[test]
#[ignore = "a measurement, for `--run-ignored only --no-capture`"]
#[expect(clippy::print_stdout, reason = "a measurement is printed")]
fn attach_and_detach() {
    on_a_node(|node| {
        let (mut attacher, _) = node.open();
        let (mut prepares, mut connects, mut detaches) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..100 {
            let pod = Pod::new(&format!("pod{n}"));
            let start = Instant::now();
            let prepared = attacher.prepare(&pod.request(), &Taken::new(), now()).expect("prepared");
            prepares.push(start.elapsed());
            let start = Instant::now();
            attacher.connect(prepared, Dns::default(), now()).expect("connected");
            connects.push(start.elapsed());
            if n % 2 == 0 {
                let start = Instant::now();
                attacher.detach(&pod.sandbox(), now()).expect("detached");
                detaches.push(start.elapsed());
                attacher.finish_deletions();
            } else {
                std::mem::forget(pod);
            }
        }
        for (what, mut times) in [("prepare", prepares), ("connect", connects), ("detach", detaches)] {
            times.sort_unstable();
            let (least, median, slow) = (times[0], times[times.len() / 2], times[times.len() * 95 / 100]);
            println!("{what}: least {least:?}, median {median:?}, 95% {slow:?}");
        }
    });
}
