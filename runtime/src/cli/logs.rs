//! `logs`: prints the log of a container, once or as it grows.

use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncReadExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, LogParams};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::args::{duration, switch};
use super::context::Context;
use super::exec::pod_name;
use super::{container, out};

/// Options of `logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pod: `web` or `pod/web`
    #[arg(value_name = "POD", required_unless_present = "selector", conflicts_with = "selector")]
    pod: Option<String>,

    /// The container [default: the first]
    #[arg(value_name = "CONTAINER", conflicts_with = "container")]
    container_name: Option<String>,

    /// The container [default: the first]
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,

    /// All pods with these labels, one after the other
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "follow")]
    selector: Option<String>,

    /// Go on with what is written from now on
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    follow: bool,

    /// The log of the container before its last restart
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    previous: bool,

    /// Only so many of the last lines; -1 for all
    #[arg(long, value_name = "LINES", default_value_t = -1, allow_negative_numbers = true)]
    tail: i64,

    /// Only what was written since, e.g. `5m`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,

    /// Begin each line with its time
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    timestamps: bool,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        anyhow::ensure!(self.tail >= -1, "--tail must be greater than or equal to -1");
        let pods: Api<Pod> = Api::namespaced(context.client().await?, context.namespace());
        if let Some(selector) = &self.selector {
            let list = pods.list(&ListParams::default().labels(selector)).await?;
            if list.items.is_empty() {
                out::say(&format!("No resources found in {} namespace.", context.namespace()));
            }
            for pod in list.items {
                self.print(&pods, &pod).await?;
            }
            return Ok(());
        }
        let pod = pods.get(pod_name(self.pod.as_deref().unwrap_or_default())?).await?;
        self.print(&pods, &pod).await
    }

    async fn print(&self, pods: &Api<Pod>, pod: &Pod) -> anyhow::Result<()> {
        let asked = self.container.as_deref().or(self.container_name.as_deref());
        let chosen = container::choose(pod, asked)?;
        chosen.note.iter().for_each(|note| out::say(note));
        let params = LogParams {
            container: Some(chosen.name),
            follow: self.follow,
            previous: self.previous,
            since_seconds: self.since.map(|since| i64::try_from(since.as_secs().max(1)).unwrap_or(i64::MAX)),
            tail_lines: (self.tail >= 0).then_some(self.tail),
            timestamps: self.timestamps,
            ..LogParams::default()
        };
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        copy(pods.log_stream(name, &params).await?, tokio::io::stdout()).await
    }
}

/// The daemon ended, or closed the connection.
#[derive(Debug, thiserror::Error)]
#[error(
    "the connection to the node ended before the log did, the container goes on: see `minipod node status`, start the node with \
     `minipod node start` if it has stopped, then ask again"
)]
struct Broken;

/// A log to an output, as it comes.
///
/// # Errors
/// The connection broke before the log ended, or the output.
pub(crate) async fn copy(log: impl AsyncBufRead, mut output: impl AsyncWrite + Unpin) -> anyhow::Result<()> {
    let mut log = std::pin::pin!(log);
    let mut buffer = vec![0; 32 * 1024];
    loop {
        // What broke it is always the same, and said in the words of three libraries.
        let count = log.read(&mut buffer).await.map_err(|_| Broken)?;
        if count == 0 {
            return Ok(());
        }
        out::ended(output.write_all(&buffer[..count]).await)?;
        out::ended(output.flush().await)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::stream;
    use futures::{StreamExt as _, TryStreamExt as _};

    use super::copy;
    use crate::cli::failure::report;

    #[tokio::test]
    async fn a_log_whose_connection_breaks_is_told_in_words_for_people() {
        let broken = io::Error::other("ServiceError: error reading a body from connection: unexpected end of file");
        let log = stream::iter([Ok("one\n"), Err(broken)]).boxed().into_async_read();
        let mut output = Vec::new();
        let error = copy(log, &mut output).await.expect_err("it broke");
        assert_eq!(output, b"one\n");
        let (said, code) = report(&error);
        assert_eq!(code, 1);
        assert!(said.contains("the connection to the node ended") && said.contains("`minipod node start`"), "{said}");
        assert!(!said.contains("ServiceError"), "{said}");
    }
}
