//! Namespaces and nodes in words.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod};

use super::text::Text;
use super::{events, labels, time};

/// A namespace.
pub(super) fn namespace(namespace: &Namespace) -> String {
    let mut text = Text::default();
    text.field(0, "Name", namespace.metadata.name.as_deref().unwrap_or_default());
    text.list(0, "Labels", labels(namespace.metadata.labels.as_ref()));
    text.list(0, "Annotations", super::annotations(&namespace.metadata));
    let phase = namespace.status.as_ref().and_then(|s| s.phase.clone());
    text.field(0, "Status", phase.as_deref().unwrap_or("Active"));
    text.render()
}

/// A node; the pods are those that run on it.
pub(super) fn node(node: &Node, pods: &[Pod], happened: &[Event], now: Timestamp) -> String {
    let (spec, status) = (node.spec.clone().unwrap_or_default(), node.status.clone().unwrap_or_default());
    let mut text = Text::default();
    text.field(0, "Name", node.metadata.name.as_deref().unwrap_or_default());
    text.list(0, "Labels", labels(node.metadata.labels.as_ref()));
    text.list(0, "Annotations", super::annotations(&node.metadata));
    text.field(0, "CreationTimestamp", time(node.metadata.creation_timestamp.as_ref()));
    text.line("Conditions:");
    text.line("  Type\tStatus\tReason\tMessage");
    text.line("  ----\t------\t------\t-------");
    for condition in status.conditions.iter().flatten() {
        text.line(format!(
            "  {}\t{}\t{}\t{}",
            condition.type_,
            condition.status,
            condition.reason.as_deref().unwrap_or_default(),
            condition.message.as_deref().unwrap_or_default()
        ));
    }
    text.line("Addresses:");
    for address in status.addresses.iter().flatten() {
        text.field(2, &address.type_, &address.address);
    }
    if let Some(info) = &status.node_info {
        text.line("System Info:");
        for (name, value) in [
            ("Machine ID", &info.machine_id),
            ("Boot ID", &info.boot_id),
            ("Kernel Version", &info.kernel_version),
            ("OS Image", &info.os_image),
            ("Operating System", &info.operating_system),
            ("Architecture", &info.architecture),
            ("Container Runtime Version", &info.container_runtime_version),
            ("Kubelet Version", &info.kubelet_version),
        ] {
            text.field(2, name, value);
        }
    }
    text.field(0, "PodCIDR", spec.pod_cidr.as_deref().unwrap_or_default());
    text.field(0, "PodCIDRs", spec.pod_cidrs.unwrap_or_default().join(","));
    text.line(format!("Non-terminated Pods:  ({} in total)", pods.len()));
    if !pods.is_empty() {
        text.line("  Namespace\tName\tAge");
        text.line("  ---------\t----\t---");
        for pod in pods {
            let metadata = &pod.metadata;
            text.line(format!(
                "  {}\t{}\t{}",
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.name.as_deref().unwrap_or_default(),
                super::super::age::age(metadata.creation_timestamp.as_ref(), now)
            ));
        }
    }
    text.render() + &events::section(happened, now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{namespace, node};

    #[test]
    fn a_namespace() {
        let object = serde_json::from_value(json!({
            "metadata": {"name": "default", "labels": {"kubernetes.io/metadata.name": "default"}}, "status": {"phase": "Active"},
        }))
        .expect("a namespace");
        let expected = "Name:         default\nLabels:       kubernetes.io/metadata.name=default\nAnnotations:  <none>\nStatus:       Active\n";
        assert_eq!(namespace(&object), expected);
    }

    #[test]
    fn a_node_with_its_pods() {
        let object = serde_json::from_value(json!({
            "metadata": {"name": "n1", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
            "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Ok", "message": "fine"}],
                       "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
        }))
        .expect("a node");
        let pod = serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"}}),
        )
        .expect("a pod");
        let expected = "\
Name:               n1
Labels:             <none>
Annotations:        <none>
CreationTimestamp:  2026-01-01 00:00:00 +0000 UTC
Conditions:
  Type   Status  Reason  Message
  ----   ------  ------  -------
  Ready  True    Ok      fine
Addresses:
  InternalIP:  192.0.2.1
PodCIDR:       10.244.0.0/24
PodCIDRs:      10.244.0.0/24
Non-terminated Pods:  (1 in total)
  Namespace  Name  Age
  ---------  ----  ---
  default    web   60s
Events:  <none>
";
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        assert_eq!(node(&object, &[pod], &[], now), expected);
    }
}
