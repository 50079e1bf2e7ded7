//! Pods of nodes that are gone: no kubelet and no agent will ever confirm their end, so that their deletion is finished here, as
//! Kubernetes' pod garbage collector does (`pkg/controller/podgc`). Pure.

use crate::facts::{NodeFacts, PodFacts};

/// Whether the pod waits for a node that does not exist to end it. `own`: the node that this process runs on, whose agent
/// confirms ends itself, whatever became of its Node object.
pub(crate) fn is_orphan<'a>(pod: &PodFacts, mut nodes: impl Iterator<Item = &'a NodeFacts>, own: &str) -> bool {
    let Some(node) = pod.node.as_deref().filter(|_| pod.terminating) else { return false };
    node != own && nodes.all(|known| known.name != node)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::is_orphan;
    use crate::facts::{NodeFacts, PodFacts};

    #[test]
    fn only_a_pod_that_is_going_and_whose_node_does_not_exist_is_an_orphan() {
        let check = |deleted: Option<&str>, node: Option<&str>| {
            let pod: Value = json!({"metadata": {"name": "a", "namespace": "b", "deletionTimestamp": deleted},
                "spec": {"containers": [], "nodeName": node}});
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            let nodes = [NodeFacts { name: "n1".to_owned(), ready: true, cordoned: false }];
            is_orphan(&PodFacts::of(&pod).expect("facts"), nodes.iter(), "own")
        };
        let deleted = Some("2030-01-01T00:00:00Z");
        assert!(check(deleted, Some("ghost")));
        assert!(!check(None, Some("ghost")));
        assert!(!check(deleted, Some("n1")));
        assert!(!check(deleted, Some("own")));
        assert!(!check(deleted, None));
    }
}
