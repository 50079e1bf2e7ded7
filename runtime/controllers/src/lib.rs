//! The reconcilers of a standalone node: pure decisions, conditional writes.

use kube::Client;
use tokio_util::sync::CancellationToken;

/// Runs all controllers for the node `node_name` until `stop`.
pub async fn run(_client: Client, _node_name: String, stop: CancellationToken) {
    stop.cancelled().await;
}
