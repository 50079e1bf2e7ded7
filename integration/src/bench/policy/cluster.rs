//! The cluster that policies are measured in: many pods of another node, and sandboxes of this one.

use std::net::IpAddr;
use std::thread;

use anyhow::Result;
use serde_json::{Value, json};

use crate::api::{JSON, MERGE, request};
use crate::bench::attach;
use crate::fixture::HELLO_IMAGE;
use crate::lab::Lab;

/// Requests in flight at once.
const CALLERS: usize = 4;

const PODS: &str = "/api/v1/namespaces/default/pods";
const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";

/// The labels of pod `number` of the other node.
pub(super) type LabelsOf = fn(usize) -> Value;

/// Creates `count` pods of another node that have addresses.
pub(super) fn remote_pods(lab: &Lab, count: usize, labels: LabelsOf) {
    each(count, |number| {
        let name = format!("remote-{number}");
        request(lab, "POST", PODS, JSON, &pod(&name, &labels(number)));
        let v4 = format!("10.200.{}.{}", number / 250, number % 250 + 1);
        let v6 = format!("fd00:10:200::{number:x}");
        let status = json!({"status": {"phase": "Running", "podIP": v4, "podIPs": [{"ip": v4}, {"ip": v6}]}});
        request(lab, "PATCH", &format!("{PODS}/{name}/status"), MERGE, &status.to_string());
    });
}

/// Creates a pod object and attaches a sandbox for it, in a network namespace of its name. Its address.
pub(super) fn local_pod(lab: &Lab, name: &str, labels: &Value) -> Result<IpAddr> {
    request(lab, "POST", PODS, JSON, &pod(name, labels));
    attach::attach(lab, name).map(|(_, address)| address)
}

/// Replaces labels of a pod.
pub(super) fn label(lab: &Lab, name: &str, labels: &Value) {
    let change = json!({"metadata": {"labels": labels}});
    request(lab, "PATCH", &format!("{PODS}/{name}"), MERGE, &change.to_string());
}

/// Creates policies, `spec_of` each number.
pub(super) fn policies(
    lab: &Lab,
    prefix: &str,
    numbers: std::ops::Range<usize>,
    spec_of: impl Fn(usize) -> Value + Sync,
) {
    let first = numbers.start;
    each(numbers.len(), |number| policy(lab, &format!("{prefix}-{}", first + number), &spec_of(first + number)));
}

/// Creates one policy.
pub(super) fn policy(lab: &Lab, name: &str, spec: &Value) {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec,
    });
    request(lab, "POST", POLICIES, JSON, &policy.to_string());
}

/// Deletes one policy.
pub(super) fn delete_policy(lab: &Lab, name: &str) {
    request(lab, "DELETE", &format!("{POLICIES}/{name}"), JSON, "");
}

fn pod(name: &str, labels: &Value) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": "elsewhere", "containers": [{"name": "a", "image": HELLO_IMAGE}]},
    });
    pod.to_string()
}

fn each(count: usize, work: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let work = &work;
            scope.spawn(move || (caller..count).step_by(CALLERS).for_each(work));
        }
    });
}
