//! `apply`: makes objects agree with manifests.
//!
//! All manifests are read and their kinds known before the first object is touched. Each object is then created, patched or
//! left as it is; one that fails does not keep the others from being applied.

use std::path::PathBuf;

use clap::ValueEnum;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams, Request};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::args::switch;
use super::context::Context;
use super::failure::{self, AtPlace};
use super::kind::{Kind, NAMESPACE, UnknownKind};
use super::manifest::{self, Manifest};
use super::merge::three_way;
use super::preview::{self, Applied};
use super::sorted::sorted;
use super::{names, out, output};

/// Where an object remembers what was applied, so that the next time fields gone from the manifest are removed. The key is
/// kubectl's: both can take turns.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Who changes objects, as the server is told.
pub(crate) const FIELD_MANAGER: &str = "minipod";

/// Options of `apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File or directory with manifests, or `-` for standard input; may be given several times
    #[arg(short, long = "filename", value_name = "FILE", required = true, value_delimiter = ',')]
    filename: Vec<PathBuf>,

    /// Read directories below too
    #[arg(short = 'R', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    recursive: bool,

    /// Only print what would be done; `policy` tells which pods could reach which before and after, and which live connections
    /// would be cut
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_value = "none", default_missing_value = "client")]
    dry_run: How,

    /// Print the objects: yaml, json, name, jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT", value_parser = output::Format::parse)]
    output: Option<output::Format>,
}

/// What `apply --dry-run` leaves undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// nothing: it is done
    None,
    /// nothing is sent
    Client,
    /// the server checks and stores nothing
    Server,
    /// the server checks and stores nothing, and it is told what policies would mean then
    Policy,
}

impl How {
    /// What becomes of each object.
    fn each(self) -> DryRun {
        match self {
            Self::None => DryRun::None,
            Self::Client => DryRun::Client,
            Self::Server | Self::Policy => DryRun::Server,
        }
    }
}

/// What `--dry-run` leaves undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// nothing: it is done
    None,
    /// nothing is sent
    Client,
    /// the server checks and stores nothing
    Server,
}

impl DryRun {
    /// What is put behind a result.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let manifests = manifest::read(&self.filename, self.recursive, "apply")?;
        let manifests = with_kinds(manifests)?;
        let client = context.client().await?;
        if self.dry_run == How::Policy {
            return self.preview(&client, context, &manifests).await;
        }
        let mut errors = Vec::new();
        for (kind, manifest) in &manifests {
            match self.apply(&client, context, kind, manifest).await {
                Ok((outcome, object)) => self.print(kind, outcome, object)?,
                Err(error) => errors.push(error),
            }
        }
        failure::all(errors)
    }

    /// Shows what the manifests would change, if the server would take all of them.
    async fn preview(
        &self,
        client: &Client,
        context: &Context,
        manifests: &[(&'static Kind, Manifest)],
    ) -> anyhow::Result<()> {
        let as_json = match &self.output {
            None => false,
            Some(output::Format::Json) => true,
            Some(_) => anyhow::bail!("`--dry-run=policy` prints lines, or everything with `-o json`: leave `-o` out"),
        };
        let (mut applied, mut errors) = (Vec::new(), Vec::new());
        // Of a namespace that is not there yet the server knows nothing that could be in it.
        let mut new_namespaces = Vec::new();
        let (namespaces, others): (Vec<_>, Vec<_>) = manifests.iter().partition(|(kind, _)| *kind == &NAMESPACE);
        for (kind, manifest) in namespaces.into_iter().chain(others) {
            let is_in_new = kind.namespaced && new_namespaces.contains(&namespace(context, manifest)?);
            let tried = if is_in_new {
                let (_, object) = addressed(client, context, kind, manifest)?;
                Ok((Outcome::Created, serde_json::from_value(object)?))
            } else {
                self.apply(client, context, kind, manifest).await
            };
            match tried {
                Ok((outcome, object)) => {
                    if *kind == &NAMESPACE && outcome == Outcome::Created {
                        new_namespaces.push(manifest.name().to_owned());
                    }
                    applied.push(Applied { kind, object, outcome: outcome.word(), checked: !is_in_new });
                }
                Err(error) => errors.push(error),
            }
        }
        failure::all(errors)?;
        preview::show(client, context, &applied, as_json).await
    }

    fn print(&self, kind: &Kind, outcome: Outcome, object: DynamicObject) -> anyhow::Result<()> {
        if let Some(format) = &self.output {
            return out::print(&output::render(format, &[(kind, object)], true));
        }
        let word = outcome.word();
        let name = kind.object_name(object.metadata.name.as_deref().unwrap_or_default());
        out::print(&format!("{name} {word}{}\n", self.dry_run.each().suffix()))
    }

    async fn apply(
        &self,
        client: &Client,
        context: &Context,
        kind: &'static Kind,
        manifest: &Manifest,
    ) -> anyhow::Result<(Outcome, DynamicObject)> {
        let (api, wanted) = addressed(client, context, kind, manifest)?;
        let (name, dry_run) = (manifest.name(), self.dry_run.each());
        let wanted = remembering(&wanted);
        let place = |verb| move |source: kube::Error| at_place(manifest, verb, source);
        let Some(live) = api.get_opt(name).await.map_err(place("retrieving current configuration of"))? else {
            let object = if dry_run == DryRun::Client {
                serde_json::from_value(wanted)?
            } else {
                let params =
                    PostParams { dry_run: dry_run == DryRun::Server, field_manager: Some(FIELD_MANAGER.to_owned()) };
                create(&api, &wanted, &params).await.map_err(place("creating"))?
            };
            return Ok((Outcome::Created, object));
        };
        let live_value = serde_json::to_value(&live)?;
        let last = last_applied(&live);
        if last.is_none() {
            out::say(&format!(
                "Warning: resource {} is missing the {LAST_APPLIED} annotation which is required by minipod apply. \
                 Resources should be created by `minipod apply` or `kubectl apply` to be changed by it. \
                 The missing annotation will be patched automatically.",
                kind.object_name(name)
            ));
        }
        let patch = three_way(&last.unwrap_or_else(|| json!({})), &wanted, &live_value);
        if patch.as_object().is_none_or(serde_json::Map::is_empty) {
            return Ok((Outcome::Unchanged, live));
        }
        if dry_run == DryRun::Client {
            return Ok((Outcome::Configured, live));
        }
        let params = PatchParams {
            dry_run: dry_run == DryRun::Server,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        }
        .validation_strict();
        let object = api.patch(name, &params, &Patch::Merge(&patch)).await.map_err(place("applying patch to"))?;
        Ok((Outcome::Configured, object))
    }
}

/// The kind of every manifest.
///
/// # Errors
/// The first manifest of an unknown kind, with its place and the kinds that are known.
pub(crate) fn with_kinds(manifests: Vec<Manifest>) -> anyhow::Result<Vec<(&'static Kind, Manifest)>> {
    manifests
        .into_iter()
        .map(|manifest| {
            let (api_version, kind) = manifest.type_of();
            let kind = Kind::of_object(api_version, kind)
                .map_err(|e: UnknownKind| anyhow::anyhow!("{}: {e}", manifest.place("kind")))?;
            check_names(&manifest)?;
            Ok((kind, manifest))
        })
        .collect()
}

/// Name and namespace go into URLs, before the server sees the object.
fn check_names(manifest: &Manifest) -> anyhow::Result<()> {
    let metadata = manifest.object.get("metadata");
    anyhow::ensure!(
        metadata.is_none_or(Value::is_object),
        "{}: `metadata` holds fields: write `metadata: {{name: NAME}}`",
        manifest.place("metadata")
    );
    for field in ["name", "namespace"] {
        let place = || manifest.place(&format!("metadata.{field}"));
        match metadata.and_then(|metadata| metadata.get(field)) {
            None | Some(Value::Null) => {}
            // What is missing is told with what to add.
            Some(Value::String(word)) if word.is_empty() => {}
            Some(Value::String(word)) if field == "name" => {
                names::check(word).map_err(|error| anyhow::anyhow!("{}: {error}", place()))?;
            }
            Some(Value::String(word)) => {
                names::check_namespace(word).map_err(|error| anyhow::anyhow!("{}: {error}", place()))?;
            }
            Some(other) => anyhow::bail!("{}: `metadata.{field}` is a text: put `{other}` in quotes", place()),
        }
    }
    Ok(())
}

/// Creates an object as it is written: the server judges every field, also those that no type here knows.
///
/// # Errors
/// The server refuses it, or cannot be asked.
pub(crate) async fn create(
    api: &Api<DynamicObject>,
    object: &Value,
    params: &PostParams,
) -> kube::Result<DynamicObject> {
    let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let request = Request::new(api.resource_url()).create(params, body).map_err(kube::Error::BuildRequest)?;
    api.clone().into_client().request(request).await
}

/// The client for the manifest's namespace, and the object with that namespace in it.
///
/// # Errors
/// No name, or a namespace that contradicts `--namespace`.
pub(crate) fn addressed(
    client: &Client,
    context: &Context,
    kind: &'static Kind,
    manifest: &Manifest,
) -> anyhow::Result<(Api<DynamicObject>, Value)> {
    anyhow::ensure!(
        !manifest.name().is_empty(),
        "{}: resource name may not be empty: add `metadata.name`",
        manifest.place("metadata")
    );
    let mut object = manifest.object.clone();
    if !kind.namespaced {
        return Ok((kind.api(client.clone(), None), object));
    }
    let namespace = namespace(context, manifest)?;
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), namespace.clone().into());
    }
    Ok((kind.api(client.clone(), Some(&namespace)), object))
}

fn namespace(context: &Context, manifest: &Manifest) -> anyhow::Result<String> {
    match (manifest.namespace(), context.given_namespace()) {
        (Some(own), Some(given)) if own != given => anyhow::bail!(
            "{}: the namespace from the provided object \"{own}\" does not match the namespace \"{given}\". \
             You must pass '--namespace={own}' to perform this operation.",
            manifest.place("metadata.namespace")
        ),
        (Some(own), _) => Ok(own.to_owned()),
        (None, _) => Ok(context.namespace().to_owned()),
    }
}

/// What the server said, at the place of the field that it names.
pub(crate) fn at_place(manifest: &Manifest, verb: &'static str, source: kube::Error) -> anyhow::Error {
    let kube::Error::Api(status) = &source else { return source.into() };
    let cause = status.details.iter().flat_map(|d| &d.causes).map(|c| c.field.as_str()).find(|f| !f.is_empty());
    let field = cause.or_else(|| quoted_field(&status.message)).unwrap_or_default();
    AtPlace { verb, place: manifest.place(field), source }.into()
}

/// The field in `strict decoding error: unknown field "spec.x"`, or in `cannot be handled as a Pod: spec.x: invalid type`.
fn quoted_field(message: &str) -> Option<&str> {
    if let Some((_, rest)) = message.split_once("unknown field \"").or_else(|| message.split_once("duplicate field \""))
    {
        return rest.split_once('"').map(|(field, _)| field);
    }
    let (_, rest) = message.split_once(" cannot be handled as a ")?;
    rest.split(": ").nth(1).filter(|field| !field.contains(' '))
}

/// The object with the annotation that holds it.
fn remembering(object: &Value) -> Value {
    let mut plain = object.clone();
    if let Some(metadata) = plain.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.remove(LAST_APPLIED);
        }
    }
    let text = sorted(&plain).to_string() + "\n";
    if let Some(annotations) = plain.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.insert(LAST_APPLIED.to_owned(), text.into());
    }
    plain
}

/// What was applied to the object the last time.
fn last_applied(live: &DynamicObject) -> Option<Value> {
    serde_json::from_str(live.metadata.annotations.as_ref()?.get(LAST_APPLIED)?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::manifest;
    use super::{LAST_APPLIED, quoted_field, remembering, with_kinds};

    #[test]
    fn an_object_remembers_what_was_applied() {
        let object = json!({"kind": "Pod", "metadata": {"name": "a", "annotations": {LAST_APPLIED: "old"}}});
        assert_eq!(
            remembering(&object),
            json!({"kind": "Pod", "metadata": {"name": "a", "annotations":
                {LAST_APPLIED: "{\"kind\":\"Pod\",\"metadata\":{\"annotations\":{},\"name\":\"a\"}}\n"}}})
        );
        assert_eq!(remembering(&remembering(&object)), remembering(&object));
    }

    #[test]
    fn an_unknown_kind_is_refused_with_its_place() {
        let manifests = manifest::parse("a.yaml", "apiVersion: apps/v1\nkind: Deployment\n").expect("a manifest");
        let error = with_kinds(manifests).expect_err("refused").to_string();
        assert!(error.starts_with("a.yaml:2:1: no matches for kind \"Deployment\" in version \"apps/v1\""), "{error}");
    }

    #[test]
    fn the_field_that_a_strict_server_names_is_found() {
        let message =
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.foo\"";
        assert_eq!(quoted_field(message), Some("spec.foo"));
        let message = "Pod in version \"v1\" cannot be handled as a Pod: spec.containers[0].tty: invalid type: map";
        assert_eq!(quoted_field(message), Some("spec.containers[0].tty"));
        assert_eq!(quoted_field("other"), None);
    }
}
