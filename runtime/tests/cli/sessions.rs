//! `logs`, `exec`, `attach` and `run -i`.

use std::io::Read as _;

use crate::node::Node;

fn with_pod() -> Node {
    let node = Node::start();
    node.play_agent();
    node.ok("run web --image x -l app=foo");
    // The session's own wait is what is tested elsewhere; here the pod has to run.
    while node.ok("get pod web -o jsonpath={.status.phase}") != "Running" {}
    node
}

#[test]
fn a_log_is_printed() {
    let node = with_pod();
    assert_eq!(node.ok("logs web"), "web now\ntwo\nthree\n");
    assert_eq!(node.ok("logs -f pod/web --tail=1"), "three\n");
    assert_eq!(node.ok("logs web -p --tail 3"), "web before\ntwo\nthree\n");
    assert!(node.fails("logs web -c other").starts_with("error: container other not found in pod web; it has web"));
    assert_eq!(node.fails("logs none"), "Error from server (NotFound): pods \"none\" not found\n");
}

#[test]
fn a_command_gets_input_and_gives_outputs_and_its_exit_code() {
    let node = with_pod();
    let ended = node.minipod("exec web -- some words");
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (0, "some words\n", "some words\n"));
    let ended = node.minipod("exec web -- exit 42");
    assert_eq!((ended.code, ended.stderr.as_str()), (42, "command terminated with exit code 42\n"));
    for length in [0, 10, 300_000, 10_000_000] {
        let input = "x".repeat(length);
        let ended = node.minipod_with_input("exec -i web -- cat", &input);
        assert_eq!((ended.code, ended.stdout.len(), ended.stderr.as_str()), (0, length, ""));
    }
    let ended = node.minipod_with_input("exec web -- cat", "input without `-i` is not passed on");
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""));
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_session() {
    let node = with_pod();
    let mut child = node.spawn("exec -i web -- yes");
    let mut first = [0; 4];
    child.stdout.take().expect("a pipe").read_exact(&mut first).expect("output");
    assert_eq!(&first, b"y\ny\n");
    // Standard input stays open meanwhile.
    let _stdin = child.stdin.take();
    assert_eq!(child.wait().expect("it ends").code(), Some(141));
}

#[test]
fn what_is_typed_reaches_the_container() {
    let node = with_pod();
    let pod =
        "{kind: Pod, apiVersion: v1, metadata: {name: shell}, spec: {containers: [{name: c, image: x, stdin: true}]}}";
    node.minipod_with_input("apply -f -", pod);
    while node.ok("get pod shell -o jsonpath={.status.phase}") != "Running" {}
    let ended = node.minipod_with_input("attach -i shell", "hello\n");
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (0, "HELLO\n", ""));
    let ended = node.minipod_with_input("attach -i web", "hello\n");
    assert!(ended.stderr.starts_with("Unable to use standard input - container web was not given one\n"), "{ended:?}");
}

#[test]
fn isolated_egress_without_dns_is_told_before_the_command() {
    let node = with_pod();
    let policy = "{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {name: deny}, spec: {podSelector: {}, policyTypes: [Egress]}}";
    node.minipod_with_input("apply -f -", policy);
    let said = node.minipod("exec web -- true").stderr;
    assert!(
        said.starts_with(
            "note: names do not resolve in pod \"web\": its egress is isolated by network policy \"deny\""
        ),
        "{said}"
    );
    assert!(!node.minipod("exec -q web -- true").stderr.contains("note:"));
}

#[test]
fn a_session_ends_with_the_code_of_its_container_and_leaves_nothing() {
    let node = Node::start();
    node.play_agent();
    let ended = node.minipod_with_input("run t --image x --rm -i --restart=Never --annotations exit=3", "");
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stdout.ends_with("pod \"t\" deleted\n"), "{ended:?}");
    assert!(ended.stderr.ends_with("pod default/t terminated (Error)\n"), "{ended:?}");
    let ended = node.minipod("run t --image x --rm --attach --restart=Never --annotations exit=0");
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "t now\ntwo\nthree\npod \"t\" deleted\n"), "{ended:?}");
    assert_eq!(ended.stderr, "complaint\n", "its standard error is kept apart");
    assert_eq!(node.ok("get pods -o name"), "");
}
