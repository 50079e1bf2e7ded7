//! `delete`: deletes objects and, unless told otherwise, waits until they are gone.

use std::path::PathBuf;
use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, api::DynamicObject};

use super::apply::{addressed, with_kinds};
use super::args::{duration, switch};
use super::context::Context;
use super::kind::Kind;
use super::target::Target;
use super::{failure, manifest, out, wait};

/// Options of `delete`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Args {
    /// What to delete: `pod web`, `pod/web svc/web`, or a kind with `-l` or `--all`
    #[arg(value_name = "KIND[/NAME]", required_unless_present = "filename", conflicts_with = "filename")]
    target: Vec<String>,

    /// The objects of manifests: file, directory, or `-` for standard input
    #[arg(short, long, value_name = "FILE", value_delimiter = ',')]
    filename: Vec<PathBuf>,

    /// Read directories below too
    #[arg(short = 'R', long)]
    recursive: bool,

    /// Objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with_all = ["all", "filename"])]
    selector: Option<String>,

    /// All objects of the kind
    #[arg(long)]
    all: bool,

    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Seconds that a pod gets to end by itself; -1 for what the pod says
    #[arg(long, value_name = "SECONDS", default_value_t = -1, allow_negative_numbers = true)]
    grace_period: i64,

    /// A grace period of one second
    #[arg(long, conflicts_with = "grace_period")]
    now: bool,

    /// Do not wait for the pod to end: a grace period of none
    #[arg(long)]
    force: bool,

    /// Wait until the objects are gone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true",
          default_missing_value = "true", value_parser = switch)]
    wait: bool,

    /// How long to wait; 0 for ever
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0")]
    timeout: Duration,

    /// An object that is not there is no error
    #[arg(long)]
    ignore_not_found: bool,

    /// Format: only `name`
    #[arg(short, long, value_name = "FORMAT", value_parser = ["name"])]
    output: Option<String>,
}

/// An object to delete.
struct Doomed {
    kind: &'static Kind,
    api: Api<DynamicObject>,
    name: String,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let grace = self.grace()?;
        // Everything is read before the first object is deleted.
        let manifests = with_kinds(manifest::read(&self.filename, self.recursive, "delete")?)?;
        let target = if self.filename.is_empty() { Some(self.checked_target()?) } else { None };
        let client = context.client().await?;
        let mut doomed = Vec::new();
        for (kind, manifest) in &manifests {
            let (api, _) = addressed(&client, context, kind, manifest)?;
            doomed.push(Doomed { kind, api, name: manifest.name().to_owned() });
        }
        if let Some(target) = target {
            doomed.extend(self.find(&client, context, target).await?);
            if doomed.is_empty() {
                out::say("No resources found");
            }
        }
        if self.force {
            out::say(
                "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated.",
            );
        }
        let params = DeleteParams { grace_period_seconds: grace, ..DeleteParams::background() };
        let mut errors = Vec::new();
        let mut waiting = Vec::new();
        for doomed in doomed {
            match self.delete(&doomed, &params).await {
                Ok(Some(uid)) => waiting.push((doomed, uid)),
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        if self.wait {
            let deadline = (!self.timeout.is_zero()).then_some(self.timeout);
            for (doomed, uid) in waiting {
                if let Err(error) = wait::gone(doomed.api, &doomed.name, Some(uid), deadline).await {
                    errors.push(error);
                }
            }
        }
        failure::all(errors)
    }

    fn grace(&self) -> anyhow::Result<Option<u32>> {
        anyhow::ensure!(
            !(self.force && self.grace_period > 0),
            "--force and --grace-period greater than 0 cannot be specified together"
        );
        Ok(match (self.force, self.now, self.grace_period) {
            (true, _, _) => Some(0),
            // As kubectl has it: without --force a pod always gets its second.
            (_, true, _) | (_, _, 0) => Some(1),
            (_, _, seconds) if seconds < 0 => None,
            (_, _, seconds) => Some(u32::try_from(seconds)?),
        })
    }

    fn checked_target(&self) -> anyhow::Result<Target> {
        let target = Target::parse(&self.target)?;
        match &target {
            Target::Kinds(_) => anyhow::ensure!(
                self.all || self.selector.is_some(),
                "resource(s) were provided, but no name was specified: give names, `-l SELECTOR` or `--all`"
            ),
            Target::Named(_) => {
                anyhow::ensure!(
                    !self.all && self.selector.is_none(),
                    "name cannot be provided when a selector or --all is specified"
                );
                anyhow::ensure!(!self.all_namespaces, "a resource cannot be deleted by name across all namespaces");
            }
        }
        Ok(target)
    }

    async fn find(&self, client: &Client, context: &Context, target: Target) -> anyhow::Result<Vec<Doomed>> {
        let kinds = match target {
            Target::Named(names) => {
                let api = |kind: &Kind| kind.api(client.clone(), Some(context.namespace()));
                return Ok(names.into_iter().map(|(kind, name)| Doomed { kind, api: api(kind), name }).collect());
            }
            Target::Kinds(kinds) => kinds,
        };
        let mut doomed = Vec::new();
        for kind in kinds {
            let params = ListParams { label_selector: self.selector.clone(), ..ListParams::default() };
            let api = kind.api(client.clone(), (!self.all_namespaces).then(|| context.namespace()));
            for object in api.list(&params).await?.items {
                let api = kind.api(client.clone(), object.metadata.namespace.as_deref());
                doomed.push(Doomed { kind, api, name: object.metadata.name.unwrap_or_default() });
            }
        }
        Ok(doomed)
    }

    /// Asks for the deletion. The UID of what is to be waited for; `None` for nothing.
    async fn delete(&self, doomed: &Doomed, params: &DeleteParams) -> anyhow::Result<Option<String>> {
        let uid = match doomed.api.delete(&doomed.name, params).await {
            Ok(answer) => answer.map_left(|object| object.metadata.uid).map_right(uid_in).into_inner(),
            Err(kube::Error::Api(status)) if self.ignore_not_found && status.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let forced = if self.force { "force " } else { "" };
        out::print(&match &self.output {
            Some(_) => format!("{}\n", doomed.kind.object_name(&doomed.name)),
            None => format!("{} \"{}\" {forced}deleted\n", doomed.kind.qualified(), doomed.name),
        })?;
        Ok(uid)
    }
}

fn uid_in(status: kube::core::Status) -> Option<String> {
    status.details.map(|details| details.uid).filter(|uid| !uid.is_empty())
}
