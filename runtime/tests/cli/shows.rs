//! `get`, `describe`, `policy`, `version`, and what is said when nobody answers.

use crate::node::Node;

#[test]
fn objects_are_shown_in_every_format() {
    let node = Node::start();
    node.ok("run web --image x -l app=hello");
    let table = node.ok("get pods");
    assert!(
        table.starts_with("NAME   READY   STATUS    RESTARTS   AGE\nweb    0/1     Pending   0          "),
        "{table}"
    );
    assert_eq!(node.ok("get po,svc -A -o name"), "pod/web\nservice/kube-dns\n");
    assert!(node.ok("get pod web -o yaml").starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n"));
    assert!(node.ok("get pods -o json").contains("\"kind\": \"List\""));
    let range = "get pods -o jsonpath={range+.items[*]}{.metadata.name}{\"\\n\"}{end}";
    assert_eq!(node.ok(range), "web\n");
    assert_eq!(node.ok("get pods --field-selector status.phase=Running -o name"), "");
    let ended = node.minipod("get netpol");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, "No resources found in default namespace.\n"));
    assert_eq!(node.fails("get pod x"), "Error from server (NotFound): pods \"x\" not found\n");
    assert!(
        node.fails("get ingress")
            .starts_with("error: the server doesn't have a resource type \"ingress\"; it has pods (po)")
    );
    assert!(node.fails("get pods -o xml").contains("allowed formats are: json,name,wide,yaml,jsonpath=TEMPLATE"));
}

#[test]
fn objects_are_described() {
    let node = Node::start();
    node.ok("run web --image x -l app=hello --port 80 --expose");
    let text = node.ok("describe pod web");
    assert!(text.starts_with("Name:         web\nNamespace:    default\n"), "{text}");
    assert!(text.ends_with("Events:  <none>\n"), "{text}");
    assert!(node.ok("describe svc/web").contains("TargetPort:               80/TCP\n"));
    assert!(node.ok("describe ns default").contains("kubernetes.io/metadata.name=default"));
}

#[test]
fn policies_are_told_with_their_pods() {
    let node = Node::start();
    node.ok("run web --image x -l app=hello");
    assert!(node.minipod("policy list").stderr.contains("all connections are allowed"));
    let policy =
        "{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {name: deny}, spec: {podSelector: {}}}";
    node.minipod_with_input("apply -f -", policy);
    let table = "NAME   POD-SELECTOR   ISOLATES   PODS\ndeny   <none>         Ingress    web\n";
    assert_eq!(node.ok("policy list"), table);
    let text = "Pod default/web (no address yet)\n  Ingress: isolated by deny\n    nothing may come in\n  Egress: not isolated, everything may go out\n";
    assert_eq!(node.ok("policy describe pod/web"), text);
    assert_eq!(node.ok("policy describe"), text);
    assert!(node.ok("policy describe deny").ends_with("  Policy Types: Ingress\nSelected pods: web\n"));
}

#[test]
fn both_versions_are_told() {
    let node = Node::start();
    let text = node.ok("version");
    assert!(text.starts_with(&format!("Client Version: v{}\nServer Version: v", env!("CARGO_PKG_VERSION"))), "{text}");
}

#[test]
fn nobody_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_minipod"))
        .args(["get", "pods", "--run-dir"])
        .arg(dir.path())
        .output()
        .expect("the program starts");
    let expected = format!(
        "error: no `minipod node` answers on {}/api.sock: start one with `sudo minipod node start`\n",
        dir.path().display()
    );
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(1), expected.as_str()));
}
