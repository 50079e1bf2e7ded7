//! `run`, `label`, `expose`, `delete`.

use crate::node::Node;

#[test]
fn a_pod_with_its_service_as_in_the_lesson() {
    let node = Node::start();
    let line = "run hello-web --labels app=hello --image=gcr.io/google-samples/hello-app:1.0 --port 8080 --expose";
    assert_eq!(node.ok(line), "service/hello-web created\npod/hello-web created\n");
    assert_eq!(node.ok("get pod hello-web -o jsonpath={.metadata.labels.app}"), "hello");
    assert_eq!(node.ok("get svc hello-web -o jsonpath={.spec.ports[0].port}-{.spec.selector.app}"), "8080-hello");
    assert_eq!(
        node.fails(line),
        "Error from server (AlreadyExists): pods \"hello-web\" already exists; choose another name, or delete it first\n"
    );
}

#[test]
fn a_pod_whose_service_is_refused_goes_again() {
    let node = Node::start();
    node.ok("run web --image x --port 80 --expose");
    node.ok("delete pod web --now");
    let said = node.fails("run web --image x --port 80 --expose");
    assert_eq!(
        said,
        "Error from server (AlreadyExists): services \"web\" already exists; choose another name, or delete it first\n"
    );
    assert_eq!(node.ok("get pods -o name"), "");
}

#[test]
fn labels_are_set_removed_and_protected() {
    let node = Node::start();
    node.ok("run web --image x");
    assert_eq!(node.ok("label pod web tier=a"), "pod/web labeled\n");
    assert_eq!(node.ok("label pod/web tier=a"), "pod/web not labeled\n");
    assert_eq!(node.fails("label pod web tier=b"), "error: 'tier' already has a value (a), and --overwrite is false\n");
    assert_eq!(node.ok("label pods --all tier=b --overwrite"), "pod/web labeled\n");
    assert_eq!(node.ok("get pods -l tier=b,run -o name"), "pod/web\n");
    assert_eq!(node.ok("label pod web tier-"), "pod/web unlabeled\n");
    assert_eq!(node.ok("get pods -l tier -o name"), "");
}

#[test]
fn a_pod_is_exposed() {
    let node = Node::start();
    node.ok("run web --image x --port 8080");
    assert_eq!(node.ok("expose pod web --port 80 --target-port 8080 --name front"), "service/front exposed\n");
    let ports = node.ok("get svc front -o jsonpath={.spec.ports[0].port}-{.spec.ports[0].targetPort}");
    assert_eq!(ports, "80-8080");
    assert_eq!(node.ok("expose pod/web"), "service/web exposed\n");
}

#[test]
fn objects_are_deleted_and_waited_for() {
    let node = Node::start();
    node.play_agent();
    for name in ["a", "b", "c"] {
        node.ok(&format!("run {name} --image x -l app={name}"));
    }
    assert_eq!(node.ok("delete pod a"), "pod \"a\" deleted\n");
    assert_eq!(node.ok("get pods -o name"), "pod/b\npod/c\n");
    assert_eq!(node.ok("delete pods -l app=b --now"), "pod \"b\" deleted\n");
    assert_eq!(node.ok("delete po/c --force"), "pod \"c\" force deleted\n");
    assert_eq!(node.fails("delete pod c"), "Error from server (NotFound): pods \"c\" not found\n");
    assert_eq!(node.ok("delete pod c --ignore-not-found"), "");
    assert!(node.fails("delete pods").starts_with("error: resource(s) were provided, but no name was specified"));
}

#[test]
fn objects_are_waited_for() {
    let node = Node::start();
    node.ok("run a --image x");
    assert_eq!(
        node.fails("wait pod/a --timeout 1s"),
        "error: timed out waiting for the condition on pods/a\n",
        "nobody starts it"
    );
    node.play_agent();
    assert_eq!(node.ok("wait pod a --for condition=podscheduled"), "pod/a condition met\n");
    assert_eq!(node.fails("wait pod/b"), "Error from server (NotFound): pods \"b\" not found\n");
    assert_eq!(node.ok("wait pod/b --for delete"), "pod/b condition met\n");
    assert!(node.fails("wait pods").starts_with("error: resource(s) were provided, but no name was specified"));
}
