//! `get`: shows objects, once or as they change.

use futures::TryStreamExt as _;
use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};

use super::args::switch;
use super::columns::{self, Layout};
use super::context::Context;
use super::kind::Kind;
use super::output::{self, Format};
use super::target::Target;
use super::{failure, out};

/// Options of `get`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Args {
    /// What to show: `pods`, `pods,svc`, `pod web`, `pod/web svc/web`, `all`
    #[arg(value_name = "KIND[/NAME]", required = true)]
    target: Vec<String>,

    /// In all namespaces
    #[arg(short = 'A', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    all_namespaces: bool,

    /// Only objects with these labels, e.g. `app=web,tier in (a,b),!old`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,

    /// Only objects with these fields, e.g. `status.phase=Running`
    #[arg(long, value_name = "SELECTOR")]
    field_selector: Option<String>,

    /// After showing what is there, show what changes
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    watch: bool,

    /// Show only what changes
    #[arg(long, conflicts_with = "watch")]
    watch_only: bool,

    /// Format: wide, yaml, json, name, jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT", value_parser = Format::parse)]
    output: Option<Format>,

    /// Show the labels in a last column
    #[arg(long)]
    show_labels: bool,

    /// Leave out the line of headers
    #[arg(long)]
    no_headers: bool,

    /// A named object that is not there is no error
    #[arg(long)]
    ignore_not_found: bool,
}

/// Objects of one kind, and the version of the list.
struct Found {
    kind: &'static Kind,
    objects: Vec<DynamicObject>,
    version: String,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let target = Target::parse(&self.target)?;
        if matches!(target, Target::Named(_)) {
            anyhow::ensure!(
                self.selector.is_none() && self.field_selector.is_none(),
                "selectors may not be used when objects are named"
            );
            anyhow::ensure!(!self.all_namespaces, "a resource cannot be retrieved by name across all namespaces");
        }
        let client = context.client().await?;
        if self.watch || self.watch_only {
            return self.watch(&client, context, &target).await;
        }
        match target {
            Target::Kinds(kinds) => {
                let mut found = Vec::new();
                for kind in kinds {
                    found.push(self.list(&client, context, kind, None).await?);
                }
                self.print_lists(context, found)
            }
            Target::Named(names) => self.named(&client, context, names).await,
        }
    }

    async fn named(
        &self,
        client: &Client,
        context: &Context,
        names: Vec<(&'static Kind, String)>,
    ) -> anyhow::Result<()> {
        let mut errors = Vec::new();
        let mut objects = Vec::new();
        for (kind, name) in &names {
            match kind.api(client.clone(), Some(context.namespace())).get(name).await {
                Ok(object) => objects.push((*kind, object)),
                Err(kube::Error::Api(status)) if self.ignore_not_found && status.is_not_found() => {}
                Err(error) => errors.push(error.into()),
            }
        }
        match &self.output {
            Some(format) if *format != Format::Wide => {
                if names.len() > 1 || !objects.is_empty() {
                    out::print(&output::render(format, &objects, names.len() == 1))?;
                }
            }
            _ => {
                let several = objects.iter().any(|(kind, _)| *kind != objects[0].0);
                let mut groups: Vec<(&'static Kind, Vec<DynamicObject>)> = Vec::new();
                for (kind, object) in objects {
                    match groups.last_mut() {
                        Some((last, group)) if *last == kind => group.push(object),
                        _ => groups.push((kind, vec![object])),
                    }
                }
                self.print_tables(&groups, several)?;
            }
        }
        failure::all(errors)
    }

    fn print_lists(&self, context: &Context, found: Vec<Found>) -> anyhow::Result<()> {
        let several = found.len() > 1;
        match &self.output {
            Some(format) if *format != Format::Wide => {
                let objects: Vec<_> =
                    found.into_iter().flat_map(|f| f.objects.into_iter().map(move |o| (f.kind, o))).collect();
                out::print(&output::render(format, &objects, false))
            }
            _ => {
                let groups: Vec<_> =
                    found.into_iter().filter(|f| !f.objects.is_empty()).map(|f| (f.kind, f.objects)).collect();
                if groups.is_empty() {
                    out::say(&self.nothing(context));
                }
                self.print_tables(&groups, several)
            }
        }
    }

    fn nothing(&self, context: &Context) -> String {
        let namespaced = match Target::parse(&self.target) {
            Ok(Target::Kinds(kinds)) => kinds.iter().any(|k| k.namespaced),
            _ => true,
        };
        if self.all_namespaces || !namespaced {
            "No resources found".to_owned()
        } else {
            format!("No resources found in {} namespace.", context.namespace())
        }
    }

    fn print_tables(&self, groups: &[(&'static Kind, Vec<DynamicObject>)], with_kind: bool) -> anyhow::Result<()> {
        let tables: Vec<String> = groups
            .iter()
            .map(|(kind, objects)| {
                columns::table(kind, objects, self.layout(kind, with_kind), Timestamp::now()).render()
            })
            .collect();
        out::print(&tables.join("\n"))
    }

    fn layout(&self, kind: &Kind, with_kind: bool) -> Layout {
        Layout {
            wide: self.output == Some(Format::Wide),
            with_namespace: self.all_namespaces && kind.namespaced,
            with_labels: self.show_labels,
            with_kind,
            without_headers: self.no_headers,
        }
    }

    async fn list(
        &self,
        client: &Client,
        context: &Context,
        kind: &'static Kind,
        name: Option<&str>,
    ) -> anyhow::Result<Found> {
        let params = ListParams {
            label_selector: self.selector.clone(),
            field_selector: self.fields(name),
            ..ListParams::default()
        };
        let mut list = self.api(client, context, kind).list(&params).await?;
        sort(&mut list.items);
        Ok(Found { kind, objects: list.items, version: list.metadata.resource_version.unwrap_or_default() })
    }

    fn fields(&self, name: Option<&str>) -> Option<String> {
        name.map(|name| format!("metadata.name={name}")).or_else(|| self.field_selector.clone())
    }

    fn api(&self, client: &Client, context: &Context, kind: &Kind) -> Api<DynamicObject> {
        kind.api(client.clone(), (!self.all_namespaces).then(|| context.namespace()))
    }

    /// Shows one kind or object as it changes, until the server ends the watch or the person the command.
    async fn watch(&self, client: &Client, context: &Context, target: &Target) -> anyhow::Result<()> {
        let (kind, name) = match target {
            Target::Kinds(kinds) if kinds.len() == 1 => (kinds[0], None),
            Target::Named(names) if names.len() == 1 => (names[0].0, Some(names[0].1.as_str())),
            _ => anyhow::bail!("you may only specify a single resource type or object with --watch"),
        };
        if let Some(name) = name {
            kind.api(client.clone(), Some(context.namespace())).get(name).await?;
        }
        let found = self.list(client, context, kind, name).await?;
        let mut printer = WatchPrinter { args: self, kind, widths_known: false };
        if !self.watch_only {
            printer.print(found.objects)?;
        }
        let params = WatchParams {
            label_selector: self.selector.clone(),
            field_selector: self.fields(name),
            timeout: Some(290),
            ..WatchParams::default()
        };
        let api = self.api(client, context, kind);
        let mut version = found.version;
        loop {
            let mut events = std::pin::pin!(api.watch(&params, &version).await?);
            while let Some(event) = events.try_next().await? {
                match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                        version = object.metadata.resource_version.clone().unwrap_or(version);
                        printer.print(vec![object])?;
                    }
                    WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                    WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
                }
            }
        }
    }
}

/// Prints objects one after the other; of a table, the headers only once.
struct WatchPrinter<'a> {
    args: &'a Args,
    kind: &'static Kind,
    widths_known: bool,
}

impl WatchPrinter<'_> {
    fn print(&mut self, objects: Vec<DynamicObject>) -> anyhow::Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        match &self.args.output {
            Some(format) if *format != Format::Wide => {
                for object in objects {
                    let separator = if *format == Format::Yaml && self.widths_known { "---\n" } else { "" };
                    let text = output::render(format, &[(self.kind, object)], true);
                    out::print(&format!("{separator}{text}"))?;
                    self.widths_known = true;
                }
                Ok(())
            }
            _ => {
                let mut layout = self.args.layout(self.kind, false);
                layout.without_headers |= self.widths_known;
                self.widths_known = true;
                out::print(&columns::table(self.kind, &objects, layout, Timestamp::now()).render())
            }
        }
    }
}

/// By namespace and name, whatever order the server has.
fn sort(objects: &mut [DynamicObject]) {
    let key = |o: &DynamicObject| (o.metadata.namespace.clone(), o.metadata.name.clone());
    objects.sort_by_key(key);
}
