//! Nodes.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::api::DynamicObject;

use super::super::age;
use super::{Columns, Row, or_none, typed};

pub(super) const COLUMNS: Columns = Columns {
    headers: &["NAME", "STATUS", "ROLES", "AGE", "VERSION"],
    wide: &["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"],
    row,
};

const ROLE: &str = "node-role.kubernetes.io/";

fn row(object: &DynamicObject, now: Timestamp) -> Option<Row> {
    let node: Node = typed(object)?;
    let status = node.status.clone().unwrap_or_default();
    let info = status.node_info.clone().unwrap_or_default();
    let roles: Vec<&str> =
        node.metadata.labels.iter().flatten().filter_map(|(key, _)| key.strip_prefix(ROLE)).collect();
    let or_unknown = |text: &str| if text.is_empty() { "<unknown>".to_owned() } else { text.to_owned() };
    Some(Row {
        cells: vec![
            super::name(object),
            status_word(&node, &status),
            or_none(Some(&roles.join(","))),
            age::age(node.metadata.creation_timestamp.as_ref(), now),
            info.kubelet_version.clone(),
        ],
        wide: vec![
            or_none(address(&status, "InternalIP")),
            or_none(address(&status, "ExternalIP")),
            or_unknown(&info.os_image),
            or_unknown(&info.kernel_version),
            or_unknown(&info.container_runtime_version),
        ],
    })
}

fn status_word(node: &Node, status: &NodeStatus) -> String {
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    let word = match ready.map(|c| c.status.as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let unschedulable = node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false);
    if unschedulable { format!("{word},SchedulingDisabled") } else { word.to_owned() }
}

fn address<'a>(status: &'a NodeStatus, kind: &str) -> Option<&'a str> {
    status.addresses.iter().flatten().find(|a| a.type_ == kind).map(|a| a.address.as_str())
}
