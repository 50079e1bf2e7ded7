//! Whether the daemon runs, and what it has.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;
use minipod_protocol::netd::{self, Request, Response};
use serde_json::Value;

use super::super::context::Context;
use super::super::failure::Exit;
use super::super::{container, out, version};
use super::start::require_root;
use crate::node::lock::running;

/// How long netd may take to say what it does.
const PATIENCE: Duration = Duration::from_secs(5);

/// `node status`: ends with 1 when no daemon answers.
pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    require_root("asking for the node's status")?;
    let directories = context.node_directories()?;
    let Some(daemon) = running(&directories) else {
        out::print(&format!("Node:    not running ({})\n", directories.run_dir.display()))?;
        return Err(Exit { code: 1, message: String::new() }.into());
    };
    let client = context.client().await?;
    let version = version::answered(&client).await?;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?.items;
    let pods = Api::<Pod>::all(client).list(&ListParams::default()).await?.items;
    let mut text = format!("Node:    running (process {}, {version})\n", daemon.pid);
    let _ = writeln!(text, "API:     {}", directories.api_socket().display());
    let _ = writeln!(text, "State:   {}", directories.state_dir.display());
    let _ = writeln!(text, "Log:     {}", directories.log_file().display());
    for node in &nodes {
        let _ = writeln!(text, "{}", node_line(node));
    }
    let report = report(&directories.netd_socket());
    for problem in report["unreached"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = writeln!(text, "Routes:  {problem}");
    }
    if let Some(times) = report["repairs"].as_u64().filter(|times| *times > 0) {
        let _ = writeln!(text, "Rules:   repaired {} after somebody else changed them: see the log", counted(times));
    }
    let running = pods.iter().filter(|pod| container::phase(pod) == "Running").count();
    let _ = writeln!(text, "Pods:    {} ({running} running)", pods.len());
    out::print(&text)
}

/// What netd tells of itself; nothing while it starts or stops.
fn report(socket: &Path) -> Value {
    match netd::ask(socket, Request::Report, PATIENCE) {
        Ok(Response::Report { report }) => report,
        _ => Value::Null,
    }
}

fn counted(times: u64) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times") }
}

/// Name, readiness, ranges.
fn node_line(node: &Node) -> String {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let mut ready = conditions.filter(|c| c.type_ == "Ready").map(|c| match c.status.as_str() {
        "True" => "Ready".to_owned(),
        _ => format!("NotReady: {}", c.message.as_deref().unwrap_or_default()),
    });
    let ranges = node.spec.as_ref().and_then(|s| s.pod_cidrs.clone()).unwrap_or_default();
    format!(
        "Name:    {} ({}; pods {})",
        node.metadata.name.as_deref().unwrap_or_default(),
        ready.next().unwrap_or_else(|| "Unknown".to_owned()),
        if ranges.is_empty() { "without a range".to_owned() } else { ranges.join(", ") }
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::node_line;

    #[test]
    fn a_node_is_one_line() {
        let node = serde_json::from_value(json!({
            "metadata": {"name": "n1"},
            "spec": {"podCIDRs": ["10.244.0.0/24", "fd00:10:244::/64"]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .expect("a node");
        assert_eq!(node_line(&node), "Name:    n1 (Ready; pods 10.244.0.0/24, fd00:10:244::/64)");
    }
}
