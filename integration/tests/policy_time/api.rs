//! Requests to the node's API server with the moment at which each was acknowledged.

use std::time::Instant;

use integration::api::{JSON, MERGE, request};
use integration::lab::Lab;
use serde_json::{Value, json};

/// Changes an object and says when that was acknowledged.
pub(crate) fn patch(lab: &Lab, path: &str, change: &Value) -> Instant {
    request(lab, "PATCH", path, MERGE, &change.to_string())
}

/// Creates a policy and says when that was acknowledged.
pub(crate) fn create_policy(lab: &Lab, name: &str, spec: &Value) -> Instant {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec,
    });
    let path = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    request(lab, "POST", path, JSON, &policy.to_string())
}

/// Deletes a policy and says when that was acknowledged.
pub(crate) fn delete_policy(lab: &Lab, name: &str) -> Instant {
    let path = format!("/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/{name}");
    request(lab, "DELETE", &path, JSON, "")
}
