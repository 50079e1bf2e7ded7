//! Bad input is refused with a message that names the thing, the value and the next step, and leaves nothing half-made.
//!
//! Every message is compared as a whole: what a person reads is part of what is promised.

mod images;
mod machine;
mod objects;
mod ranges;
mod store;
mod words;

use std::time::Duration;

use integration::inventory::Inventory;
use integration::lab::{Iptables, Lab};
use integration::ran::Ran;
use integration::snapshot::Snapshot;
use integration::wait::until;

const LIMIT: Duration = Duration::from_secs(30);

fn started() -> Lab {
    Lab::started("n1", Iptables::Nft).expect("a lab")
}

/// A node on which nothing has ever run.
fn fresh() -> Lab {
    Lab::new("n1", Iptables::Nft).expect("a lab")
}

/// The command fails with code 1 and says this, and nothing on standard output.
#[track_caller]
fn assert_says(ran: &Ran, expected: &str) {
    let seen = (ran.code, ran.stdout.as_str(), ran.stderr.trim_end());
    assert_eq!(seen, (Some(1), "", expected), "{ran}");
}

/// Each command is refused in these words and leaves objects, files, processes and mounts as they were; after all of them the
/// kernel's things are as before.
#[track_caller]
fn assert_refused(lab: &Lab, cases: &[(&[&str], &str)]) {
    assert_nothing_left(lab, || {
        for (args, expected) in cases {
            assert_nothing_made(lab, || assert_says(&lab.minipod(args), expected), &args.join(" "));
        }
    });
}

/// The same for `apply` of a manifest.
#[track_caller]
fn assert_manifests_refused(lab: &Lab, cases: &[(&str, &str)]) {
    assert_nothing_left(lab, || {
        for (manifest, expected) in cases {
            let apply = || assert_says(&lab.minipod_with_input(&["apply", "-f", "-"], manifest), expected);
            assert_nothing_made(lab, apply, manifest);
        }
    });
}

#[track_caller]
fn assert_nothing_made(lab: &Lab, command: impl FnOnce(), what: &str) {
    let before = Inventory::of(lab);
    command();
    let left = before.differences(&Inventory::of(lab));
    assert!(left.is_empty(), "left by {what}:\n{left}");
}

#[track_caller]
fn assert_nothing_left(lab: &Lab, commands: impl FnOnce()) {
    let before = Snapshot::of(lab);
    commands();
    let left = before.differences(&Snapshot::of(lab));
    // Files are the inventory's, command by command.
    let left: Vec<&str> = left.lines().filter(|line| !line.starts_with("files:")).collect();
    assert!(left.is_empty(), "left in the kernel:\n{}", left.join("\n"));
}

/// Waits until no pod and nothing of one is left.
fn until_no_pod(lab: &Lab) {
    until("no pod", LIMIT, || {
        let pods = lab.minipod(&["get", "pods", "-o", "name"]);
        let left = lab.shell("pgrep -x minipod-shim; ip -o link | grep mpod; ls /run/minipod/pods; true").stdout;
        (pods.stdout.is_empty() && left.is_empty()).then_some(())
    })
    .expect("nothing is left");
}
