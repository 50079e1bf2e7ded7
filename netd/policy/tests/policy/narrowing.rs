//! Which changes make netd judge live connections anew: those that can forbid one, and not a pod that comes or goes, which would cost every
//! attach and detach on the node a walk over the kernel's connections.

use minipod_model::LinkName;
use netd_policy::{Change, Index, can_forbid};
use serde_json::{Value, json};

use crate::support::{
    addresses, addresses_of, apply_all, attachment, namespace, options, pod, pod_object, policy_of, small_cluster,
};

/// Whether the changes, made one after the other in the small cluster after `before`, can forbid a connection that lives.
fn forbid(before: Vec<Change>, changes: Vec<Change>) -> bool {
    let mut index = small_cluster();
    apply_all(&mut index, before);
    let old = index.intent();
    apply_all(&mut index, changes);
    can_forbid(&old, &index.intent())
}

fn allows(namespace: &str, subject: &str, peer: &Value) -> Change {
    let spec = json!({"podSelector": {"matchLabels": {"pod": subject}}, "ingress": [{"from": [peer]}]});
    Change::Policy(policy_of(namespace, &format!("to-{subject}"), &spec))
}

fn pods_named(name: &str) -> Value {
    json!({"podSelector": {"matchLabels": {"pod": name}}})
}

fn detached(name: &str) -> Change {
    Change::Detached(LinkName::for_sandbox(name, "eth0"))
}

/// Pod `x/d` with the label `pod=d`.
fn newcomer() -> Vec<Change> {
    let mut object = pod_object("x/d");
    object["metadata"]["labels"] = json!({"pod": "d", "friend": "yes"});
    vec![Change::Pod(pod(object)), Change::Attached(attachment("x/d", &addresses_of(1, 40)))]
}

#[test]
fn a_pod_that_comes_forbids_nothing_even_with_a_policy_of_its_own() {
    assert!(!forbid(vec![], newcomer()));
    assert!(!forbid(vec![], [vec![allows("x", "d", &pods_named("a"))], newcomer()].concat()));
    // A peer of others.
    assert!(!forbid(vec![allows("x", "a", &json!({"podSelector": {"matchLabels": {"friend": "yes"}}}))], newcomer()));
}

#[test]
fn a_pod_that_goes_forbids_nothing() {
    let policies = vec![allows("x", "a", &pods_named("b")), allows("x", "b", &pods_named("a"))];
    assert!(!forbid(policies, vec![detached("x/b")]));
}

#[test]
fn an_address_that_goes_from_one_pod_to_another_is_no_end() {
    let mut heir = attachment("x/d", &addresses("x/b"));
    heir.uid = None;
    let [object, _] = newcomer().try_into().expect("two changes");
    assert!(forbid(vec![object], vec![detached("x/b"), Change::Attached(heir)]));
}

#[test]
fn a_policy_that_isolates_a_pod_can_forbid_and_one_that_goes_cannot() {
    assert!(forbid(vec![], vec![allows("x", "a", &pods_named("b"))]));
    let removed = Change::PolicyRemoved(netd_policy::object::ObjectKey::new("x", "to-a"));
    assert!(!forbid(vec![allows("x", "a", &pods_named("b"))], vec![removed]));
}

#[test]
fn a_peer_that_loses_its_label_can_forbid_and_one_that_gets_it_cannot() {
    let friends = json!({"podSelector": {"matchLabels": {"friend": "yes"}}});
    let mut friend = pod_object("x/b");
    friend["metadata"]["labels"]["friend"] = json!("yes");
    let (friend, stranger) = (Change::Pod(pod(friend)), Change::Pod(pod(pod_object("x/b"))));
    let policy = allows("x", "a", &friends);
    assert!(!forbid(vec![policy.clone()], vec![friend.clone()]));
    assert!(forbid(vec![policy, friend], vec![stranger]));
}

#[test]
fn a_namespace_that_loses_its_label_can_forbid() {
    let spaces = json!({"namespaceSelector": {"matchLabels": {"ns": "y"}}});
    let unlabelled = Change::Namespace(namespace(json!({"metadata": {"name": "y", "labels": {}}})));
    assert!(forbid(vec![allows("x", "a", &spaces)], vec![unlabelled]));
}

#[test]
fn a_pod_of_another_node_that_goes_can_forbid() {
    // Its connections are not deleted here.
    let mut object = pod_object("x/r");
    object["spec"]["nodeName"] = json!("there");
    object["status"]["podIPs"] = json!([{"ip": "10.244.2.1"}]);
    let remote = pod(object);
    let gone = Change::PodRemoved(remote.key.clone(), None);
    assert!(forbid(vec![allows("x", "a", &pods_named("r")), Change::Pod(remote)], vec![gone]));
}

#[test]
fn a_named_port_that_moves_can_forbid() {
    let spec = json!({"podSelector": {"matchLabels": {"pod": "a"}}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "http"}]}]});
    let mut moved = pod_object("x/b");
    moved["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(8080);
    assert!(forbid(vec![Change::Policy(policy_of("x", "by-name", &spec))], vec![Change::Pod(pod(moved))]));
}

#[test]
fn nothing_changes_nothing() {
    assert!(!forbid(vec![allows("x", "a", &pods_named("b"))], vec![]));
    let empty = Index::new(options()).intent();
    assert!(!can_forbid(&empty, &small_cluster().intent()));
}
