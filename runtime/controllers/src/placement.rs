//! Which node a pod runs on. Pure.

use crate::facts::{NodeFacts, PodFacts};

/// What to do with a pod that has no node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Placement {
    /// it runs there
    Bind(String),
    /// no node can run it now; the message for its condition `PodScheduled`, and for an event
    Wait(String),
}

/// `None`: nothing to do, or nothing new to tell. `preferred` is the node that this process runs on.
pub(crate) fn place<'a>(
    pod: &PodFacts,
    nodes: impl Iterator<Item = &'a NodeFacts>,
    preferred: &str,
) -> Option<Placement> {
    if pod.terminating || pod.finished {
        return None;
    }
    let nodes: Vec<_> = nodes.collect();
    if let Some(named) = &pod.node {
        // Whoever has addresses is run by somebody.
        let is_known = named == preferred || nodes.iter().any(|node| node.name == *named) || !pod.addresses.is_empty();
        let message = || {
            format!(
                "node \"{named}\" of `spec.nodeName` does not exist; delete the pod and create it with another or none"
            )
        };
        return if is_known { None } else { wait(pod, message()) };
    }
    let mut fit = nodes.iter().filter(|node| node.schedulable()).map(|node| node.name.as_str());
    if let Some(name) = fit.clone().find(|name| *name == preferred).or_else(|| fit.next()) {
        return Some(Placement::Bind(name.to_owned()));
    }
    wait(pod, why_not(&nodes))
}

/// Told once.
fn wait(pod: &PodFacts, message: String) -> Option<Placement> {
    (pod.unschedulable.as_deref() != Some(message.as_str())).then_some(Placement::Wait(message))
}

/// As Kubernetes' scheduler says it.
fn why_not(nodes: &[&NodeFacts]) -> String {
    if nodes.is_empty() {
        return "no nodes available to schedule pods".to_owned();
    }
    let unready = nodes.iter().filter(|node| !node.ready).count();
    let cordoned = nodes.len() - unready;
    let reasons = [(unready, "not ready"), (cordoned, "unschedulable")];
    let reasons: Vec<String> = reasons
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, why)| format!("{count} node(s) were {why}"))
        .collect();
    format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", "))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "what is expected is written where it is used")]

    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::{Value, json};

    use super::{Placement, place};
    use crate::facts::{NodeFacts, PodFacts};

    fn pod(more: &Value) -> PodFacts {
        let mut object = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"containers": []}, "status": {}});
        for (key, value) in more.as_object().into_iter().flatten() {
            for (field, value) in value.as_object().into_iter().flatten() {
                object[key][field] = value.clone();
            }
        }
        let pod: Pod = serde_json::from_value(object).expect("a pod");
        PodFacts::of(&pod).expect("facts")
    }

    fn node(name: &str, ready: &str, cordoned: bool) -> NodeFacts {
        let object = json!({"metadata": {"name": name}, "spec": {"unschedulable": cordoned},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let node: Node = serde_json::from_value(object).expect("a node");
        NodeFacts::of(&node).expect("facts")
    }

    #[track_caller]
    fn check(pod: &PodFacts, nodes: &[NodeFacts], expected: Option<Placement>) {
        assert_eq!(place(pod, nodes.iter(), "n2"), expected);
    }

    #[test]
    fn a_pod_goes_to_a_node_that_is_ready() {
        let unplaced = pod(&json!({}));
        let bind = |name: &str| Some(Placement::Bind(name.to_owned()));
        check(&unplaced, &[node("n1", "True", false)], bind("n1"));
        check(&unplaced, &[node("n1", "True", false), node("n2", "True", false)], bind("n2"));
        check(&unplaced, &[node("n1", "True", false), node("n2", "Unknown", false)], bind("n1"));
    }

    #[test]
    fn a_pod_waits_and_is_told_once() {
        let message = "0/2 nodes are available: 1 node(s) were not ready, 1 node(s) were unschedulable.";
        let nodes = [node("n1", "False", false), node("n2", "True", true)];
        check(&pod(&json!({})), &nodes, Some(Placement::Wait(message.to_owned())));
        let told = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}});
        check(&pod(&told), &nodes, None);
        let nobody = "no nodes available to schedule pods";
        check(&pod(&json!({})), &[], Some(Placement::Wait(nobody.to_owned())));
    }

    #[test]
    fn a_pod_of_a_node_that_does_not_exist_is_told_once() {
        let nodes = [node("n1", "True", false)];
        let message =
            "node \"ghost\" of `spec.nodeName` does not exist; delete the pod and create it with another or none";
        let mut lost = json!({"spec": {"nodeName": "ghost"}});
        check(&pod(&lost), &nodes, Some(Placement::Wait(message.to_owned())));
        lost["status"] = json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]});
        check(&pod(&lost), &nodes, None);
        let ran = json!({"spec": {"nodeName": "ghost"}, "status": {"podIPs": [{"ip": "10.244.9.2"}]}});
        check(&pod(&ran), &nodes, None);
        check(&pod(&json!({"spec": {"nodeName": "n2"}})), &nodes, None);
    }

    #[test]
    fn a_pod_with_a_node_or_an_end_stays() {
        let nodes = [node("n1", "False", false), node("n2", "True", false)];
        check(&pod(&json!({"spec": {"nodeName": "n1"}})), &nodes, None);
        check(&pod(&json!({"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}})), &nodes, None);
        check(&pod(&json!({"status": {"phase": "Failed"}})), &nodes, None);
    }
}
