//! Requests to the node's API server with the moment at which each was acknowledged.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use integration::lab::Lab;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

/// Changes an object and says when that was acknowledged.
pub(crate) fn patch(lab: &Lab, path: &str, change: &Value) -> Instant {
    request(lab, "PATCH", path, "application/merge-patch+json", &change.to_string())
}

/// Creates a policy and says when that was acknowledged.
pub(crate) fn create_policy(lab: &Lab, name: &str, spec: &Value) -> Instant {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec,
    });
    let path = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    request(lab, "POST", path, "application/json", &policy.to_string())
}

/// Deletes a policy and says when that was acknowledged.
pub(crate) fn delete_policy(lab: &Lab, name: &str) -> Instant {
    let path = format!("/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/{name}");
    request(lab, "DELETE", &path, "application/json", "")
}

fn request(lab: &Lab, method: &str, path: &str, content: &str, body: &str) -> Instant {
    // The node's `/run` is another one than the machine's.
    let socket = format!("/proc/{}/root/run/minipod/api.sock", lab.anchor());
    let mut stream = UnixStream::connect(socket).expect("the API server's socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: minipod\r\nConnection: close\r\nContent-Type: {content}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("a request");
    let mut first = [0; 12];
    stream.read_exact(&mut first).expect("an answer");
    let acknowledged = Instant::now();
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest);
    assert!(first.starts_with(b"HTTP/1.1 2"), "{method} {path}: {}{rest}", String::from_utf8_lossy(&first));
    acknowledged
}
