//! `version`: of this program and of the daemon.

use kube::Client;

use super::context::Context;
use super::out;

/// Options of `version`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of this program: no daemon is asked
    #[arg(long)]
    client: bool,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        out::print(&format!("Client Version: v{}\n", env!("CARGO_PKG_VERSION")))?;
        if self.client {
            return Ok(());
        }
        let version = answered(&context.client().await?).await?;
        out::print(&format!("Server Version: {version}\n"))
    }
}

/// The daemon's version: it answers.
pub(crate) async fn answered(client: &Client) -> anyhow::Result<String> {
    Ok(client.apiserver_version().await?.git_version)
}
