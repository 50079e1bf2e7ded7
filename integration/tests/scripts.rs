//! What continuous integration relies on: `scripts/test` fails when one of its suites does. And what a person relies on who tries
//! `scripts/quickstart`: it removes nobody's node, and compares what it says that it compares.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use integration::lab::{Iptables, Lab, cgroup_roots};
use integration::ran::Ran;

/// Builds empty programs, and fails for the suite whose filter is given.
const CARGO: &str = r#"#!/bin/sh
case "$*" in
    *"nextest run"*"$FAILING"*) echo "     Summary 1 failed"; exit 100 ;;
    *"nextest run"*) echo "     Summary 1 passed" ;;
    "build --target"*)
        mkdir -p "$CARGO_TARGET_DIR/debug" "$CARGO_TARGET_DIR/$3/debug"
        touch "$CARGO_TARGET_DIR/$3/debug/minipod-hello" "$CARGO_TARGET_DIR/$3/debug/minipod-cni"
        ;;
esac
"#;

/// `scripts/test` with a `cargo` of the test's, which fails for filters with `failing` in them.
fn run(failing: &str, suites: &[&str]) -> Ran {
    let directory = tempfile::tempdir().expect("a directory");
    let cargo = directory.path().join("cargo");
    fs::write(&cargo, CARGO).expect("written");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").expect("PATH"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test");
    let mut command = Command::new(script);
    command.args(suites).env("PATH", path).env("FAILING", failing).env("CARGO_TARGET_DIR", directory.path());
    Ran::run(&mut command).expect("started")
}

#[test]
fn a_failing_suite_fails_the_run_and_is_named() {
    let ran = run("binary(survive)", &["lesson", "survive", "node"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stdout.ends_with("failed: survive\n"), "{ran}");
}

#[test]
fn suites_that_pass_make_a_run_that_passes() {
    let ran = run("nothing", &["lesson", "survive", "node"]);
    assert_eq!(ran.code, Some(0), "{ran}");
    for suite in ["lesson", "survive", "node"] {
        assert!(ran.stdout.lines().any(|line| line.starts_with(suite) && line.ends_with("1 passed")), "{ran}");
    }
}

#[test]
fn a_ruling_that_there_is_not_is_refused_by_name() {
    for wrong in ["99", "0", "22", "twelve", ""] {
        let ran = run("nothing", &["policy", "--ruling", wrong]);
        assert_eq!(ran.code, Some(2), "{ran}");
        let said =
            format!("scripts/test: --ruling `{wrong}`: give the number of a ruling of docs/semantics.md, 1 to 21\n");
        assert_eq!(ran.stderr, said);
    }
    assert_eq!(run("nothing", &["policy", "--ruling", "21"]).code, Some(0));
}

/// A script of the project, in the lab.
fn script(lab: &Lab, name: &str) -> Ran {
    let path = format!("{}/../scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    lab.shell(&format!("exec {path}"))
}

#[test]
fn quickstart_removes_nobodys_node() {
    let lab = Lab::new("n1", Iptables::Nft).expect("a lab");
    let refused = |place: &str, options: &str| {
        let said = format!(
            "scripts/quickstart: this machine already has a minipod node{place}, and quickstart would remove it at its end; remove it \
             yourself first: target/debug/minipod node reset --yes {options}\n"
        );
        assert_eq!(script(&lab, "quickstart").expect_failure(), said);
    };
    let elsewhere = (", in other directories than /run/minipod and /run/state", "--run-dir DIR --state-dir DIR");
    let other = ["--run-dir", "/run/other", "--state-dir", "/run/other-state"];
    let minipod = |args: &[&str]| lab.minipod(&[&other, args].concat());
    let _ = minipod(&["node", "start"]).expect_success();
    refused(elsewhere.0, elsewhere.1);
    let _ = minipod(&["run", "web", "--image", integration::fixture::HELLO_IMAGE]).expect_success();
    let _ = minipod(&["wait", "pod/web", "--for=condition=Ready", "--timeout=30s"]).expect_success();
    let _ = minipod(&["node", "stop"]).expect_success();
    refused(elsewhere.0, elsewhere.1);
    let _ = minipod(&["node", "reset", "--yes"]).expect_success();

    let _ = lab.shell("env -u MINIPOD_STATE_DIR minipod node start --state-dir /run/other").expect_success();
    refused(" in /run/minipod", "--run-dir /run/minipod");
    let _ =
        lab.shell("env -u MINIPOD_STATE_DIR minipod node reset --yes; touch /run/state/store.redb").expect_success();
    refused(" in /run/state", "--state-dir /run/state");
}

#[test]
fn quickstart_compares_mounts_cgroups_and_processes_also_on_a_host_without_ipv6() {
    let lab = Lab::new("n1", Iptables::Nft).expect("a lab");
    let _ = lab.shell("mount -t tmpfs none /proc/sys/net/ipv6").expect_success();
    let before = script(&lab, "machine-state").expect_success();
    assert!(before.contains("ip_forward"), "{before}");
    let root = cgroup_roots().swap_remove(0);
    let cgroup = format!("{}/{}", root.display(), lab.cgroup());
    for (leave, seen, remove) in [
        (
            "mkdir /run/left; mount -t tmpfs left /run/left",
            "mount left /run/left tmpfs",
            "umount /run/left; rmdir /run/left",
        ),
        (&format!("mkdir {cgroup}"), &format!("cgroup {cgroup}"), &format!("rmdir {cgroup}")),
        (
            "exec unshare -n sleep 79 > /dev/null 2>&1 & until pgrep -x -f 'sleep 79'; do :; done",
            "process in net:",
            "pkill -x -f 'sleep 79'; while pgrep -x -f 'sleep 79'; do :; done",
        ),
        ("touch /run/state/left", "file /run/state/left", "rm /run/state/left"),
    ] {
        let _ = lab.shell(leave).expect_success();
        let after = script(&lab, "machine-state").expect_success();
        let new = after.lines().filter(|line| !before.lines().any(|old| old == *line)).collect::<Vec<_>>();
        assert!(new.len() == 1 && new[0].starts_with(seen), "after `{leave}`: {new:?}");
        let _ = lab.shell(remove).expect_success();
        assert_eq!(script(&lab, "machine-state").expect_success(), before, "after `{remove}`");
    }
    let _ = lab.shell("umount /proc/sys/net/ipv6").expect_success();
}
