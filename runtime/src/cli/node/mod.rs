//! `node`: the daemon's life, from outside: start, stop, status, reset.
//!
//! What the daemon does while it runs, and what a reset removes, is decided in [`crate::node`].

mod start;
mod status;
mod stop;

use std::time::Duration;

use clap::Subcommand;

use super::args::duration;
use super::context::Context;
use super::out;
use crate::node::Options;

pub(crate) use start::ensure_running;

/// Options of `node`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What is to happen to the daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon in the foreground
    #[command(hide = true)]
    Run(Options),

    /// Start the daemon in the background
    Start(Options),

    /// Stop the daemon; pods, policies and services stay as they are
    Stop {
        /// Delete all pods first
        #[arg(long)]
        pods: bool,

        /// How long to wait for the pods, and then for the daemon
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
        timeout: Duration,
    },

    /// Show whether the daemon runs, and what it has
    Status,

    /// Remove everything that was ever made on this machine: pods, network, rules, images, store
    Reset {
        /// Really
        #[arg(long)]
        yes: bool,

        #[command(flatten)]
        options: Options,
    },
}

impl Args {
    /// Does what must not run inside an async runtime. Gives back what is still to be done.
    pub(crate) fn run_blocking(self, context: &Context) -> anyhow::Result<Option<Self>> {
        match self.command {
            Command::Run(options) => crate::node::serve(&with_directories(options, context))?,
            Command::Reset { yes, options } => reset(yes, &with_directories(options, context))?,
            command => return Ok(Some(Self { command })),
        }
        Ok(None)
    }

    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self.command {
            Command::Start(options) => start::run(context, &with_directories(options, context)).await,
            Command::Stop { pods, timeout } => stop::run(context, pods, timeout).await,
            Command::Status => status::run(context).await,
            command @ (Command::Run(_) | Command::Reset { .. }) => {
                anyhow::bail!("{command:?} was to be done outside the async runtime")
            }
        }
    }
}

/// The directories may be given in front of `node` as well; there they have been read already.
fn with_directories(options: Options, context: &Context) -> Options {
    Options { directories: context.given.clone(), ..options }
}

fn reset(yes: bool, options: &Options) -> anyhow::Result<()> {
    anyhow::ensure!(
        yes,
        "`minipod node reset` removes all pods, their network and rules, and {} with images and objects: repeat it with `--yes`",
        options.complete()?.directories.or_default().state_dir.display()
    );
    let report = crate::node::reset(options)?;
    if report.removed.is_empty() && report.left.is_empty() {
        return out::print("nothing to remove\n");
    }
    let mut lines: Vec<String> = report.removed.iter().map(|line| format!("removed {line}\n")).collect();
    lines.extend(report.left.iter().map(|line| format!("left {line}\n")));
    out::print(&lines.concat())
}
