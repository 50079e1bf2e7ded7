//! A damaged store is refused with what to do, and stays as it is: never repaired by guessing, never made anew.

use integration::lab::Lab;

use crate::{assert_nothing_left, assert_says, started};

const STORE: &str = "/run/state/store.redb";

fn refused(lab: &Lab, damage: &str, problem: &str) {
    let _ = lab.shell(&format!("cp --sparse=never /run/good {STORE}; {damage}")).expect_success();
    let digest = || lab.shell(&format!("sha256sum {STORE}; find /run/state -maxdepth 1 | sort")).expect_success();
    let before = digest();
    let said = format!(
        "error: `minipod node` did not start (exit status: 1):\nerror: the store `{STORE}` is damaged: {problem}; it was left as it is. Put a copy from a backup in its place, or remove everything with `minipod node reset --yes`"
    );
    assert_says(&lab.minipod(&["node", "start"]), &said);
    assert_eq!(digest(), before, "{damage}");
}

#[test]
fn a_damaged_store_is_refused_and_left_as_it_is() {
    let lab = started();
    lab.pod("web", "app=web");
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let _ = lab.shell(&format!("cp {STORE} /run/good")).expect_success();
    assert_nothing_left(&lab, || {
        refused(&lab, &format!(": > {STORE}"), "it is empty");
        refused(
            &lab,
            &format!("truncate -s 4096 {STORE}"),
            "DB corrupted: File truncated below the minimum layout: file_len=4096",
        );
        refused(&lab, &format!("echo hello > {STORE}"), "I/O error: Not a redb database: magic number mismatch");
        refused(
            &lab,
            &format!("dd if=/dev/zero of={STORE} bs=512 count=1 conv=notrunc 2>/dev/null"),
            "I/O error: Not a redb database: magic number mismatch",
        );
    });
    let _ = lab.shell(&format!("cp /run/good {STORE}")).expect_success();
    lab.start_node().expect("with the copy in its place it starts");
    lab.wait_ready("web");
}

#[test]
fn a_missing_store_whose_pods_are_here_is_refused() {
    let lab = started();
    lab.pod("web", "app=web");
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let _ = lab.shell(&format!("mv {STORE} /run/good")).expect_success();
    assert_nothing_left(&lab, || {
        let said = format!(
            "error: `minipod node` did not start (exit status: 1):\nerror: the store `{STORE}` is missing, but 1 of its pods are here: put it, \
             or a copy from a backup, back in its place, or remove everything with `minipod node reset --yes`"
        );
        assert_says(&lab.minipod(&["node", "start"]), &said);
    });
    let _ = lab.shell(&format!("mv /run/good {STORE}")).expect_success();
    lab.start_node().expect("with the store in its place it starts");
    assert!(lab.exec("web", &["true"]).succeeded(), "the pod has gone on");
}

#[test]
fn a_name_that_the_first_start_did_not_keep_is_refused() {
    let lab = started();
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let started = "error: `minipod node` did not start (exit status: 1):\nerror: ";
    for (written, said) in [
        (
            "a b",
            "`/run/state/node-name` says `a b`, which is not a name that a Node can have: write the node's name into it, which the \
             first start took from `--node-name` or the host name, or remove everything with `minipod node reset --yes`",
        ),
        (
            "other",
            "`/run/state/node-name` says that this is node `other`, but the store knows only `n1`: write that into the file, or remove \
             everything with `minipod node reset --yes`",
        ),
    ] {
        let _ = lab.shell(&format!("echo '{written}' > /run/state/node-name")).expect_success();
        assert_nothing_left(&lab, || assert_says(&lab.minipod(&["node", "start"]), &format!("{started}{said}")));
    }
    let _ = lab.shell("echo n1 > /run/state/node-name").expect_success();
    lab.start_node().expect("with its own name it starts");
    assert_eq!(lab.minipod(&["get", "nodes", "-o", "name"]).expect_success(), "node/n1\n");
}

#[test]
fn a_changed_byte_within_an_object_is_found() {
    let lab = started();
    lab.pod("web", "app=needle");
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    let file = lab.directory().join("state/store.redb");
    let good = std::fs::read(&file).expect("the store");
    let needle = b"needle";
    let places: Vec<usize> =
        good.windows(needle.len()).enumerate().filter(|(_, window)| window == needle).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "the object is in the file");
    let mut refusals = 0;
    for place in places {
        let mut bad = good.clone();
        bad[place] = b'N';
        std::fs::write(&file, &bad).expect("written");
        let ran = lab.minipod(&["node", "start"]);
        if ran.succeeded() {
            // A page that is no longer in use: what is shown is the truth.
            let labels = lab.minipod(&["get", "pod", "web", "-o", "jsonpath={.metadata.labels.app}"]).expect_success();
            assert_eq!(labels, "needle");
            let _ = lab.minipod(&["node", "stop"]).expect_success();
        } else {
            assert!(ran.stderr.contains("is damaged: ") && ran.stderr.contains("it was left as it is"), "{ran}");
            assert!(std::fs::read(&file).expect("the store") == bad, "left as it is");
            refusals += 1;
        }
    }
    assert!(refusals > 0, "no byte that was in use was changed");
}
