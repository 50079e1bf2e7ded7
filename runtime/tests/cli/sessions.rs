//! `logs`, `exec`, `attach` and `run -i`.

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
    assert_eq!(node.ok("get pods -o name"), "");
}
