//! `policy`: which policies select which pods, and what that means for each pod.
//!
//! This file fetches; [`isolation`] decides what is shown, [`explain`] answers for single connections, [`matrix`] for all pairs of
//! pods, [`lint`] finds what is probably not meant so, [`status`] tells whether policies are in force.

pub(super) mod explain;
mod isolation;
mod lint;
pub(super) mod matrix;
mod status;

use clap::Subcommand;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, Client};
use netd_policy::object::Policy;

use super::args::switch;
use super::cluster::{pods, policies};
use super::context::Context;
use super::kind::{Kind, NETWORK_POLICY, POD};
use super::target::Target;
use super::{describe, names, out};

/// Options of `policy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the policies with the pods that they select
    #[command(visible_alias = "ls")]
    List {
        /// In all namespaces
        #[arg(short = 'A', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
              default_missing_value = "true", value_parser = switch)]
        all_namespaces: bool,
    },

    /// Tell whether a connection passes, which policies and rules decide that, and whether the installed rules agree
    Explain(explain::Args),

    /// Find what probably does otherwise than was meant, and what nobody needs
    ///
    /// A warning is what probably does otherwise than was meant: a policy that selects no pod, a peer that matches nobody, a port
    /// name that nobody has, egress without the cluster DNS, a field that was not understood. A note changes nothing: a rule whose
    /// every connection another rule allows, egress that lets nothing out at all.
    ///
    /// The exit code is 1 if there is a warning, and 0 if there are notes only or nothing.
    Lint(lint::Args),

    /// Show who reaches whom, on which ports
    ///
    /// Every pod is asked for the ports that its containers declare, and for every one of `--port`, at its own addresses. Shown is
    /// what the policies say; whether the installed rules agree tells `policy explain`.
    Matrix(matrix::Args),

    /// Tell whether this node enforces the policies as they are now, and how long that took
    ///
    /// TOOK is the time from when netd heard of the newest version of a policy until its rules were in force.
    Status(status::StatusArgs),

    /// Wait until this node enforces policies as they are now
    Wait(status::WaitArgs),

    /// Tell what a policy says, or what all policies together mean for a pod
    Describe {
        /// A policy's name, or `pod/NAME` [default: all pods of the namespace]
        #[arg(value_name = "POLICY|pod/NAME")]
        what: Option<String>,
    },
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let client = context.client().await?;
        match self.command {
            Command::Explain(args) => args.run(context).await,
            Command::Lint(args) => args.run(context).await,
            Command::Matrix(args) => args.run(context).await,
            Command::Status(args) => args.run(context).await,
            Command::Wait(args) => args.run(context).await,
            Command::List { all_namespaces } => list(&client, context, all_namespaces).await,
            Command::Describe { what: None } => {
                let pods = pods(&client, Some(context.namespace())).await?;
                if pods.is_empty() {
                    out::say(&format!("No pods found in {} namespace.", context.namespace()));
                }
                describe_pods(&client, context, &pods).await
            }
            Command::Describe { what: Some(what) } => match subject(&what)? {
                (kind, name) if kind.kind == "Pod" => {
                    let pods: Api<Pod> = Api::namespaced(client.clone(), context.namespace());
                    let pod = pods.get(&name).await?;
                    describe_pods(&client, context, &[pod]).await
                }
                (_, name) => describe_policy(&client, context, &name).await,
            },
        }
    }
}

/// `NAME` is a policy, `pod/NAME` a pod.
fn subject(word: &str) -> anyhow::Result<(&'static Kind, String)> {
    if !word.contains('/') {
        names::check(word)?;
        return Ok((&NETWORK_POLICY, word.to_owned()));
    }
    match Target::parse(&[word.to_owned()])? {
        Target::Named(mut names) if names.len() == 1 && [&POD, &NETWORK_POLICY].contains(&names[0].0) => {
            Ok(names.remove(0))
        }
        _ => anyhow::bail!("`{word}` is neither a policy nor a pod: give a policy's name or `pod/NAME`"),
    }
}

async fn list(client: &Client, context: &Context, all_namespaces: bool) -> anyhow::Result<()> {
    let namespace = (!all_namespaces).then(|| context.namespace());
    let policies: Vec<Policy> = policies(client, namespace).await?.iter().map(Policy::read).collect();
    let pods = pods(client, namespace).await?;
    if policies.is_empty() {
        out::say(&match namespace {
            Some(namespace) => {
                format!("No network policies found in {namespace} namespace: all connections are allowed.")
            }
            None => "No network policies found: all connections are allowed.".to_owned(),
        });
        return Ok(());
    }
    out::print(&isolation::table(&policies, &pods, all_namespaces).render())
}

async fn describe_pods(client: &Client, context: &Context, pods: &[Pod]) -> anyhow::Result<()> {
    let policies = policies(client, Some(context.namespace())).await?;
    let policies: Vec<Policy> = policies.iter().map(Policy::read).collect();
    let texts: Vec<String> = pods.iter().map(|pod| isolation::describe(pod, &policies)).collect();
    out::print(&texts.join("\n"))
}

async fn describe_policy(client: &Client, context: &Context, name: &str) -> anyhow::Result<()> {
    let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), context.namespace());
    let object = api.get(name).await?;
    let policy = Policy::read(&object);
    let pods = pods(client, Some(context.namespace())).await?;
    out::print(&describe::describe_network_policy(&object))?;
    out::print(&format!("Selected pods: {}\n", isolation::selected(&policy, &pods)))?;
    for problem in &policy.problems {
        out::print(&format!("Not understood, allows nothing: {problem}\n"))?;
    }
    Ok(())
}
