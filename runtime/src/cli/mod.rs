//! The command line: kubectl's commands for pods, services and policies, and a few of its own for images and the node.
//!
//! Every command is a Kubernetes client of the node daemon, over its unix socket. What is printed is decided by pure functions
//! over objects; this module only chooses the command and turns its end into an exit code.

mod age;
mod apply;
mod args;
mod attach;
mod client;
mod cluster;
mod columns;
mod container;
mod context;
mod create;
mod delete;
mod describe;
mod dns_hint;
mod drops;
mod exec;
mod expose;
mod failure;
mod get;
mod hints;
mod image;
mod jsonpath;
mod kind;
mod label;
mod logs;
mod manifest;
mod merge;
mod names;
mod node;
mod out;
mod output;
mod policy;
mod preview;
mod probe;
mod run;
mod session;
mod signals;
mod sorted;
mod table;
mod target;
mod verdict;
mod version;
mod wait;
mod wait_for;
mod yaml;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::node::GivenDirectories;
use context::Context;

/// Pods with their own addresses and Kubernetes network policies on any Linux machine.
#[derive(Debug, Parser)]
#[command(name = "minipod", version, disable_help_subcommand = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    directories: GivenDirectories,

    /// Namespace of the objects [default: default]
    #[arg(short, long, global = true, env = "MINIPOD_NAMESPACE", value_name = "NAMESPACE")]
    namespace: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an image in a pod
    Run(run::Args),
    /// Make objects agree with manifests
    Apply(apply::Args),
    /// Create the objects of manifests
    Create(create::Args),
    /// Show objects
    Get(get::Args),
    /// Tell about objects and what happened to them
    Describe(describe::Args),
    /// Print the log of a container
    Logs(logs::Args),
    /// Run a command in a container
    Exec(exec::Args),
    /// Join the standard streams of a container
    Attach(attach::Args),
    /// Delete objects
    Delete(delete::Args),
    /// Wait until objects have come to a state
    Wait(wait_for::Args),
    /// Set or remove labels
    Label(label::Args),
    /// Give a pod a service
    Expose(expose::Args),
    /// Fetch, bring in, list and remove images
    #[command(visible_alias = "images")]
    Image(image::Args),
    /// Show which policies select which pods
    Policy(policy::Args),
    /// Try real connections from inside the pods of this node, and compare them with what the policies say
    ///
    /// The exit code is 1 when a connection does otherwise than the policies say.
    Probe(probe::Args),
    /// Show dropped packets, with their pods and the policies that isolated them
    Drops(drops::Args),
    /// Start, stop or reset the node daemon
    Node(node::Args),
    /// Print the versions of this program and of the daemon
    Version(version::Args),
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // kubectl ends with 1 on a bad option as on any other failure.
            let failed = error.use_stderr();
            match hints::instead(&error) {
                Some(message) => out::say(&message),
                None => drop(error.print()),
            }
            return if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (message, code) = failure::report(&error);
            if !message.is_empty() {
                out::say(&message);
            }
            ExitCode::from(code)
        }
    }
}

impl Cli {
    fn run(self) -> anyhow::Result<()> {
        let context = Context::new(self.directories, self.namespace)?;
        // The daemon and its removal bring their own runtime.
        let command = match self.command {
            Command::Node(args) => match args.run_blocking(&context)? {
                None => return Ok(()),
                Some(args) => Command::Node(args),
            },
            other => other,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(command.run(&context));
        // A read of standard input may hang in a thread of the runtime for ever.
        runtime.shutdown_background();
        result
    }
}

impl Command {
    async fn run(self, context: &Context) -> anyhow::Result<()> {
        match self {
            Self::Run(args) => Box::pin(args.run(context)).await,
            Self::Apply(args) => args.run(context).await,
            Self::Create(args) => args.run(context).await,
            Self::Get(args) => args.run(context).await,
            Self::Describe(args) => args.run(context).await,
            Self::Logs(args) => args.run(context).await,
            Self::Exec(args) => args.run(context).await,
            Self::Attach(args) => args.run(context).await,
            Self::Delete(args) => args.run(context).await,
            Self::Wait(args) => args.run(context).await,
            Self::Label(args) => args.run(context).await,
            Self::Expose(args) => args.run(context).await,
            Self::Image(args) => args.run(context).await,
            Self::Policy(args) => args.run(context).await,
            Self::Probe(args) => args.run(context).await,
            Self::Drops(args) => args.run(context),
            Self::Node(args) => args.run(context).await,
            Self::Version(args) => args.run(context).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }
}
