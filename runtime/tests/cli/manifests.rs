//! `apply`, `create` and `delete -f`.

use crate::node::Node;

const POLICY: &str = "\
kind: NetworkPolicy
apiVersion: networking.k8s.io/v1
metadata:
  name: hello-allow-from-foo
spec:
  policyTypes:
  - Ingress
  podSelector:
    matchLabels:
      app: hello
  ingress:
  - from:
    - podSelector:
        matchLabels:
          app: foo
";

#[test]
fn an_object_is_created_unchanged_configured_and_deleted() {
    let node = Node::start();
    let name = "networkpolicy.networking.k8s.io/hello-allow-from-foo";
    let file = node.file("p.yaml", POLICY);
    assert_eq!(node.ok(&format!("apply -f {file} --dry-run=server")), format!("{name} created (server dry run)\n"));
    assert_eq!(node.ok(&format!("apply -f {file}")), format!("{name} created\n"));
    assert_eq!(node.ok(&format!("apply -f {file}")), format!("{name} unchanged\n"));
    node.file("p.yaml", &POLICY.replace("app: foo", "app: bar"));
    assert_eq!(node.ok(&format!("apply -f {file}")), format!("{name} configured\n"));
    let peer = "get netpol hello-allow-from-foo -o jsonpath={.spec.ingress[0].from[0].podSelector.matchLabels.app}";
    assert_eq!(node.ok(peer), "bar");
    node.file("p.yaml", POLICY.split("  ingress:").next().unwrap_or_default());
    assert_eq!(node.ok(&format!("apply -f {file}")), format!("{name} configured\n"));
    assert_eq!(node.ok("get netpol hello-allow-from-foo -o jsonpath={.spec.ingress}"), "");
    let deleted = "networkpolicy.networking.k8s.io \"hello-allow-from-foo\" deleted\n";
    assert_eq!(node.ok(&format!("delete -f {file}")), deleted);
    assert!(node.fails(&format!("delete -f {file}")).starts_with("Error from server (NotFound): "));
}

#[test]
fn several_documents_come_from_standard_input() {
    let node = Node::start();
    let text = format!(
        "{POLICY}---\nkind: List\napiVersion: v1\nitems:\n- kind: Namespace\n  apiVersion: v1\n  metadata: {{name: other}}\n"
    );
    let ended = node.minipod_with_input("apply -f -", &text);
    let expected = "networkpolicy.networking.k8s.io/hello-allow-from-foo created\nnamespace/other created\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (0, expected), "{ended:?}");
}

#[test]
fn mistakes_are_told_with_their_place_and_change_nothing() {
    let node = Node::start();
    let file = node.file("p.yaml", &POLICY.replace("- from:", "- form:"));
    assert_eq!(
        node.fails(&format!("apply -f {file}")),
        format!(
            "Error from server (BadRequest): error when creating \"{file}:12:5\": NetworkPolicy in version \"v1\" cannot be handled as a NetworkPolicy: strict decoding error: unknown field \"spec.ingress[0].form\"\n"
        )
    );
    let file =
        node.file("two.yaml", &format!("{POLICY}---\nkind: Deployment\napiVersion: apps/v1\nmetadata:\n  name: x\n"));
    let said = node.fails(&format!("apply -f {file}"));
    assert!(
        said.starts_with(&format!(
            "error: {file}:17:1: no matches for kind \"Deployment\" in version \"apps/v1\"; supported are "
        )),
        "{said}"
    );
    let file = node.file("twice.yaml", &POLICY.replace("  name:", "  name: a\n  name:"));
    let said = node.fails(&format!("apply -f {file}"));
    assert!(said.starts_with(&format!("error: {file}:5:3: ")), "{said}");
    assert_eq!(node.ok("get netpol -o name"), "");
    let said = node.fails("apply -f /no/such/file.yaml");
    assert_eq!(said, "error: the path \"/no/such/file.yaml\" does not exist\n");
}

#[test]
fn the_namespace_of_the_command_line_must_agree_with_the_manifest() {
    let node = Node::start();
    let file = node.file("p.yaml", &POLICY.replace("metadata:", "metadata:\n  namespace: default"));
    let said = node.fails(&format!("-n other apply -f {file}"));
    assert!(said.contains("does not match the namespace \"other\""), "{said}");
    assert_eq!(node.ok("create namespace other"), "namespace/other created\n");
    let file = node.file("q.yaml", POLICY);
    node.ok(&format!("-n other create -f {file}"));
    assert_eq!(node.ok("get netpol -A --no-headers").split_whitespace().next(), Some("other"));
}
