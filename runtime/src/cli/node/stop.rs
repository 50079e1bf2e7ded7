//! Stopping the daemon.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::{DeleteParams, ListParams};
use minipod_kernel::process::{PidFd, Signal};

use super::super::context::Context;
use super::super::kind::POD;
use super::super::{failure, out, wait};
use super::start::require_root;
use crate::node::lock::running;

/// `node stop`
pub(super) async fn run(context: &Context, pods: bool, timeout: Duration) -> anyhow::Result<()> {
    require_root("stopping the node")?;
    let Some(daemon) = running(&context.directories) else {
        return out::print("node is not running\n");
    };
    if pods {
        delete_pods(context, timeout).await?;
    }
    let pid = daemon.pid;
    let process = PidFd::open(pid).with_context(|| format!("cannot watch process {pid}"))?;
    // The number may have gone to another process between the two looks; the descriptor is of the one that is alive now.
    if let Some(process) = process.filter(|_| daemon.is_alive()) {
        process.signal(Signal::SIGTERM).with_context(|| format!("cannot stop process {pid}: use `sudo`"))?;
        let ended = tokio::task::spawn_blocking(move || process.wait(timeout)).await??;
        anyhow::ensure!(
            ended,
            "process {pid} has not ended {} s after SIGTERM: see its log {}",
            timeout.as_secs(),
            context.node_directories()?.log_file().display()
        );
    }
    out::print(&format!("node stopped (process {pid})\n"))
}

async fn delete_pods(context: &Context, timeout: Duration) -> anyhow::Result<()> {
    let client = context.client().await?;
    let mut waiting = Vec::new();
    for pod in POD.api(client.clone(), None).list(&ListParams::default()).await?.items {
        let api = POD.api(client.clone(), pod.metadata.namespace.as_deref());
        let name = pod.metadata.name.unwrap_or_default();
        match api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => waiting.push((api, name, pod.metadata.uid)),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut errors = Vec::new();
    for (api, name, uid) in waiting {
        match wait::gone(api, &name, uid, Some(timeout)).await {
            Ok(()) => out::print(&format!("pod \"{name}\" deleted\n"))?,
            Err(error) => errors.push(error),
        }
    }
    failure::all(errors)
}
