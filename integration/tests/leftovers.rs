//! Nothing is left behind: not after `node reset`, and not after a test that failed.

use std::path::Path;
use std::process::Command;

use integration::fixture::HELLO_ALLOW_FROM_FOO;
use integration::lab::{Iptables, Lab};
use integration::ran::Ran;
use integration::snapshot::{Snapshot, cgroups};

/// Set for the one test that is meant to fail.
const FORCED_FAILURE: &str = "MINIPOD_TEST_FORCED_FAILURE";

fn reset_restores_the_node(iptables: Iptables) {
    let lab = Lab::new("n1", iptables).expect("a lab");
    let before = Snapshot::of(&lab);
    lab.start_node().expect("a node");
    lab.pod("hello-web", "app=hello");
    lab.pod("foo", "app=foo");
    lab.apply(HELLO_ALLOW_FROM_FOO);
    let seen = before.differences(&Snapshot::of(&lab));
    for what in ["links:", "addresses:", "routes:", "sets:", "sysctls:", "cgroups:", "rules of the"] {
        assert!(seen.contains(what), "the comparison would not notice a leftover in {what}\n{seen}");
    }
    let _ = lab.minipod(&["node", "reset", "--yes"]).expect_success();
    let left = before.differences(&Snapshot::of(&lab));
    assert!(left.is_empty(), "left behind:\n{left}");
    let files = lab.shell("find /run/state /run/minipod 2>/dev/null || true").expect_success();
    assert_eq!(files.trim(), "/run/state", "files are still there");
}

#[test]
fn reset_restores_the_node_nft() {
    reset_restores_the_node(Iptables::Nft);
}

#[test]
fn reset_restores_the_node_legacy() {
    reset_restores_the_node(Iptables::Legacy);
}

/// Does something only when it is run by the test below: a lab with a running pod, and then a failure.
#[test]
#[expect(clippy::print_stdout, reason = "tells the test below where to look")]
fn forced_failure() {
    if std::env::var_os(FORCED_FAILURE).is_none() {
        return;
    }
    let lab = Lab::started("forced", Iptables::Nft).expect("a lab");
    lab.pod("web", "app=web");
    println!("\nlab {} {} {}", lab.directory().display(), lab.anchor(), lab.cgroup());
    assert!(!lab.directory().exists(), "forced");
}

#[test]
fn a_failing_test_leaves_nothing() {
    let test = std::env::current_exe().expect("this binary");
    let mut command = Command::new(test);
    command.args(["--exact", "forced_failure", "--nocapture"]).env(FORCED_FAILURE, "1");
    let ran = Ran::run(&mut command).expect("the failing test");
    assert!(!ran.succeeded(), "it was meant to fail:\n{ran}");
    let line = ran.stdout.lines().find(|l| l.starts_with("lab ")).unwrap_or_default().to_owned();
    let words: Vec<&str> = line.split(' ').collect();
    let [_, directory, anchor, cgroup] = words[..] else {
        unreachable!("it failed before it had a pod:\n{ran}");
    };
    assert!(!Path::new(directory).exists(), "directory {directory}");
    assert!(!Path::new("/proc").join(anchor).exists(), "anchor {anchor}");
    assert_eq!(cgroups(cgroup), "", "cgroups");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(directory), "mounts:\n{mounts}");
    let processes = Ran::run(Command::new("ps").args(["axww", "-o", "args"])).expect("ps").expect_success();
    assert!(!processes.contains(directory), "processes:\n{processes}");
}
