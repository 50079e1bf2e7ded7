//! Manifests and names that the server refuses.

use integration::fixture::HELLO_IMAGE;

use crate::{assert_manifests_refused, assert_refused, assert_says, started};

const LABEL_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const SUPPORTED_KINDS: &str = "supported are Pod (v1), Service (v1), Namespace (v1), Node (v1), Event (v1), NetworkPolicy (networking.k8s.io/v1), EndpointSlice (discovery.k8s.io/v1)";

fn pod(more: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n  - name: c\n    image: x\n{more}")
}

#[test]
fn unknown_fields_and_kinds_are_refused_at_their_place() {
    let lab = started();
    assert_manifests_refused(
        &lab,
        &[
            (
                &pod("    imagee: y\n"),
                "Error from server (BadRequest): error when creating \"STDIN:8:5\": Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.containers[0].imagee\"",
            ),
            (
                &pod("    ports: [{containerPort: http}]\n"),
                "Error from server (BadRequest): error when creating \"STDIN:8:14\": Pod in version \"v1\" cannot be handled as a Pod: spec.containers[0].ports[0].containerPort: invalid type: string \"http\", expected i32",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a, lables: {app: web}}\nspec: {containers: [{name: a, image: x}]}\n",
                "Error from server (BadRequest): error when creating \"STDIN:3:21\": Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"metadata.lables\"",
            ),
            (
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namspace: prod}\nspec: {podSelector: {}}\n",
                "Error from server (BadRequest): error when creating \"STDIN:3:21\": NetworkPolicy in version \"v1\" cannot be handled as a NetworkPolicy: strict decoding error: unknown field \"metadata.namspace\"",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {a: 1}}\nspec: {containers: [{name: a, image: x}]}\n",
                "Error from server (BadRequest): error when creating \"STDIN:3:30\": Pod in version \"v1\" cannot be handled as a Pod: metadata.labels.a: invalid type: integer `1`, expected a string",
            ),
            (&pod("    image: y\n"), "error: STDIN:8:5: the key `image` is given twice: remove one"),
            (
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n",
                &format!(
                    "error: STDIN:2:1: no matches for kind \"Deployment\" in version \"apps/v1\"; {SUPPORTED_KINDS}"
                ),
            ),
            (
                "apiVersion: v2\nkind: Pod\nmetadata: {name: a}\n",
                &format!("error: STDIN:2:1: no matches for kind \"Pod\" in version \"v2\"; {SUPPORTED_KINDS}"),
            ),
            ("apiVersion: v1\nmetadata: {name: a}\n", "error: STDIN:1:1: Object 'Kind' is missing: add `kind:`"),
            // A good document in front of a bad one is not applied either.
            (
                &format!("{}---\napiVersion: v1\nkind: Foo\nmetadata: {{name: b}}\n", pod("")),
                &format!("error: STDIN:10:1: no matches for kind \"Foo\" in version \"v1\"; {SUPPORTED_KINDS}"),
            ),
        ],
    );
}

#[test]
fn fields_that_nobody_carries_out_are_refused_by_name() {
    let lab = started();
    let unsupported = "Forbidden: the field is not supported by minipod; remove it";
    assert_manifests_refused(
        &lab,
        &[
            (
                &pod("    securityContext: {privileged: true}\n"),
                "error when creating \"STDIN:8:23\": Pod \"a\" is invalid: spec.containers[0].securityContext.privileged: Forbidden: the value true is not supported by minipod; use false or remove the field",
            ),
            (
                &pod("    livenessProbe: {tcpSocket: {port: 80}}\n"),
                &format!(
                    "error when creating \"STDIN:8:5\": Pod \"a\" is invalid: spec.containers[0].livenessProbe: {unsupported}"
                ),
            ),
            (
                &pod("  volumes: [{name: v, emptyDir: {}}]\n"),
                &format!("error when creating \"STDIN:8:3\": Pod \"a\" is invalid: spec.volumes: {unsupported}"),
            ),
            (
                &pod("    ports: [{containerPort: 80, hostPort: 80}]\n"),
                "error when creating \"STDIN:8:33\": Pod \"a\" is invalid: spec.containers[0].ports[0].hostPort: Forbidden: the field is not supported by minipod; remove it and reach the pod by its address or a service",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: NodePort\n  ports: [{port: 80}]\n",
                "error when creating \"STDIN:5:3\": Service \"a\" is invalid: spec.type: Forbidden: services of type NodePort are not supported by minipod; use ClusterIP",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a, ownerReferences: [{apiVersion: v1, kind: Pod, name: b, uid: c}]}\nspec: {containers: [{name: c, image: x}]}\n",
                "error when creating \"STDIN:3:21\": Pod \"a\" is invalid: metadata.ownerReferences: Forbidden: the field is not supported by minipod, which deletes no object for its owner; remove it",
            ),
            (
                "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec:\n  podSelector: {}\n  policyTypes: [Sideways]\n",
                "error when creating \"STDIN:6:17\": NetworkPolicy.networking.k8s.io \"a\" is invalid: spec.policyTypes[0]: Unsupported value: \"Sideways\": supported values: \"Egress\", \"Ingress\"",
            ),
        ],
    );
}

#[test]
fn names_and_labels_that_are_none_are_refused() {
    let lab = started();
    let run = |name, labels| ["run", name, "--image", HELLO_IMAGE, "--labels", labels];
    assert_refused(
        &lab,
        &[
            (
                &run("web", "app=he llo"),
                &format!("The Pod \"web\" is invalid: metadata.labels: Invalid value: \"he llo\": {LABEL_RULE}"),
            ),
            (&run("web", "app"), "error: unexpected label `app`: give `key=value`"),
            (
                &run("web.a", "app=a"),
                "The Pod \"web.a\" is invalid: spec.containers[0].name: Invalid value: \"web.a\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (
                &["create", "namespace", "Foo"],
                "The Namespace \"Foo\" is invalid: metadata.name: Invalid value: \"Foo\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (
                &["run", "web", "--image", HELLO_IMAGE, "-n", "nowhere"],
                "Error from server (NotFound): namespaces \"nowhere\" not found",
            ),
            (
                &["run", "web", "--image", ""],
                "error: invalid image reference ``: it is empty; write a name such as `alpine:3.20`",
            ),
            // What would end the path of a URL means no other object.
            (
                &["delete", "pod", "a", "-n", "default#"],
                "error: invalid namespace \"default#\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (
                &["label", "pod", "a?b", "c=d"],
                "error: invalid resource name \"a?b\": names hold lower case letters, digits, `-` and `.`",
            ),
            (&["get", "pod", ""], "error: a resource name may not be empty: give one"),
            (
                &["logs", "a#"],
                "error: invalid resource name \"a#\": names hold lower case letters, digits, `-` and `.`",
            ),
            (
                &["policy", "describe", "a/../b"],
                "error: arguments in resource/name form have exactly one slash and a name behind it: `a/../b`",
            ),
            (&["delete", "pod", "nosuch"], "Error from server (NotFound): pods \"nosuch\" not found"),
            (&["exec", "nosuch", "--", "true"], "Error from server (NotFound): pods \"nosuch\" not found"),
        ],
    );
}

#[test]
fn a_manifest_whose_name_would_mean_another_object_is_refused_at_its_place() {
    let lab = started();
    assert_manifests_refused(
        &lab,
        &[
            (
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: 'default#'\n",
                "error: STDIN:5:3: invalid namespace \"default#\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: ../pods/a\n",
                "error: STDIN:4:3: invalid resource name \"../pods/a\": names hold lower case letters, digits, `-` and `.`",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata:\n  name: 1\n",
                "error: STDIN:4:3: `metadata.name` is a text: put `1` in quotes",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata: a\n",
                "error: STDIN:3:1: `metadata` holds fields: write `metadata: {name: NAME}`",
            ),
        ],
    );
}

#[test]
fn a_name_that_is_taken_is_refused_and_what_was_made_for_it_goes_again() {
    let lab = started();
    let run = ["run", "web", "--image", HELLO_IMAGE, "--port", "8080", "--expose"];
    let _ = lab.minipod(&run).expect_success();
    lab.wait_ready("web");
    let taken =
        "Error from server (AlreadyExists): pods \"web\" already exists; choose another name, or delete it first";
    assert_refused(&lab, &[(&run, taken), (&["run", "web", "--image", HELLO_IMAGE, "--rm", "-i"], taken)]);
    assert_eq!(lab.shell("pgrep -c -x minipod-shim").expect_success().trim(), "1", "the first one still runs");

    let _ = lab.minipod(&["delete", "pod", "web"]).expect_success();
    assert_says(
        &lab.minipod(&run),
        "Error from server (AlreadyExists): services \"web\" already exists; choose another name, or delete it first",
    );
    crate::until_no_pod(&lab);
}
