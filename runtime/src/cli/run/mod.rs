//! `run`: an image in a pod, with a service if asked for, and with the person's terminal if asked for.

mod attached;
mod objects;

use std::time::Duration;

use clap::ValueEnum;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::Value;

use super::apply::{DryRun, FIELD_MANAGER};
use super::args::{duration, switch};
use super::context::Context;
use super::kind::{Kind, POD, SERVICE};
use super::output::{self, Format};
use super::session::Streams;
use super::{dns_hint, node, out};

/// Options of `run`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Args {
    /// Name of the pod
    name: String,

    /// Image of the container
    #[arg(long)]
    image: String,

    /// Labels, e.g. `app=hello,tier=web` [default: run=NAME]
    #[arg(short, long, value_name = "LABELS")]
    labels: Vec<String>,

    /// Annotations, e.g. `a=b`
    #[arg(long, value_name = "ANNOTATIONS")]
    annotations: Vec<String>,

    /// Port that the container listens on
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// Make a service of the pod's name for `--port`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    expose: bool,

    /// Environment variable; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// What happens when the container ends
    #[arg(long, value_enum, default_value_t = Restart::Always, ignore_case = true)]
    restart: Restart,

    /// Delete the pod when the session ends
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    rm: bool,

    #[command(flatten)]
    streams: Streams,

    /// Wait for the container and show what it prints
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    attach: bool,

    /// The container's input stays open when the session ends
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    leave_stdin_open: bool,

    /// Always, `IfNotPresent` or Never
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: Option<String>,

    /// The words behind `--` replace the image's command, not its arguments
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    command: bool,

    /// Host name of the pod [default: its name]
    #[arg(long)]
    hostname: Option<String>,

    /// How long the container may take to start before a session gives up
    #[arg(long = "pod-running-timeout", alias = "timeout", value_name = "DURATION", value_parser = duration, default_value = "1m")]
    timeout: Duration,

    /// Only print what would be done
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_value = "none", default_missing_value = "client")]
    dry_run: DryRun,

    /// Format: yaml, json, name, jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT", value_parser = Format::parse)]
    output: Option<Format>,

    /// Arguments of the container, or its command with `--command`
    #[arg(last = true, value_name = "COMMAND")]
    command_words: Vec<String>,
}

/// `spec.restartPolicy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Restart {
    /// it starts again
    #[value(name = "Always")]
    Always,
    /// it starts again unless it succeeded
    #[value(name = "OnFailure")]
    OnFailure,
    /// it stays ended
    #[value(name = "Never")]
    Never,
}

impl Restart {
    fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::OnFailure => "OnFailure",
            Self::Never => "Never",
        }
    }
}

impl Args {
    /// Whether the person waits for the container.
    fn attaches(&self) -> bool {
        self.attach || self.streams.stdin
    }

    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let objects = objects::objects(&self, context.given_namespace())?;
        if self.dry_run == DryRun::Client {
            let created = [Some((&POD, objects.pod)), objects.service.map(|service| (&SERVICE, service))];
            return self.print_dry_run(created.into_iter().flatten());
        }
        let client = node::ensure_running(context).await?;
        let pod: Pod = serde_json::from_value(self.create(&client, context, &POD, objects.pod).await?)?;
        if let Some(service) = objects.service {
            self.create_service(&client, context, service).await?;
        }
        if self.dry_run == DryRun::None && !self.streams.quiet {
            dns_hint::say(&client, &pod).await;
        }
        if self.attaches() {
            return Box::pin(attached::run(&self, &client, context.namespace())).await;
        }
        self.print_created(&POD, serde_json::to_value(&pod)?)
    }

    /// Nothing half-made: a pod whose service is refused goes again.
    async fn create_service(&self, client: &Client, context: &Context, service: Value) -> anyhow::Result<()> {
        match self.create(client, context, &SERVICE, service).await {
            Ok(service) => self.print_created(&SERVICE, service),
            Err(error) => {
                if self.dry_run == DryRun::None {
                    let pods: Api<Pod> = Api::namespaced(client.clone(), context.namespace());
                    pods.delete(&self.name, &kube::api::DeleteParams::default().grace_period(0)).await?;
                }
                Err(error)
            }
        }
    }

    async fn create(
        &self,
        client: &Client,
        context: &Context,
        kind: &'static Kind,
        object: Value,
    ) -> anyhow::Result<Value> {
        let params =
            PostParams { dry_run: self.dry_run == DryRun::Server, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let api = kind.api(client.clone(), Some(context.namespace()));
        Ok(serde_json::to_value(api.create(&params, &serde_json::from_value(object)?).await?)?)
    }

    /// In a session only the container speaks.
    fn print_created(&self, kind: &'static Kind, object: Value) -> anyhow::Result<()> {
        let object: DynamicObject = serde_json::from_value(object)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        match &self.output {
            Some(format) => out::print(&output::render(format, &[(kind, object)], true)),
            None if self.attaches() && kind.kind == "Pod" => Ok(()),
            None => out::print(&format!("{} created{}\n", kind.object_name(&name), self.dry_run.suffix())),
        }
    }

    fn print_dry_run(&self, objects: impl Iterator<Item = (&'static Kind, Value)>) -> anyhow::Result<()> {
        for (index, (kind, object)) in objects.enumerate() {
            if index > 0 && self.output == Some(Format::Yaml) {
                out::print("---\n")?;
            }
            self.print_created(kind, object)?;
        }
        Ok(())
    }
}
