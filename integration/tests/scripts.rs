//! What continuous integration relies on: `scripts/test` fails when one of its suites does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

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
