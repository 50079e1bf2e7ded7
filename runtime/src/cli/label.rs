//! `label`: sets and removes labels.

use std::collections::BTreeMap;

use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::apply::FIELD_MANAGER;
use super::context::Context;
use super::kind::Kind;
use super::target::Target;
use super::{failure, out};

/// Options of `label`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to label and how: `pod web app=hello old-`, `pod/web app=hello`, `pods -l app=x tier=web`
    #[arg(value_name = "KIND[/NAME] KEY=VALUE|KEY-", required = true)]
    words: Vec<String>,

    /// Objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "all")]
    selector: Option<String>,

    /// All objects of the kind
    #[arg(long)]
    all: bool,

    /// Change labels that have another value
    #[arg(long)]
    overwrite: bool,

    /// Show the labels
    #[arg(long)]
    list: bool,
}

/// Changes of labels: a value, or none to remove.
type Changes = BTreeMap<String, Option<String>>;

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let (target, changes) = split(&self.words)?;
        anyhow::ensure!(
            self.list || !changes.is_empty(),
            "at least one label update is required: `KEY=VALUE` or `KEY-`"
        );
        if let Target::Kinds(_) = target {
            anyhow::ensure!(
                self.all || self.selector.is_some(),
                "one or more resources must be specified as <resource> <name> or <resource>/<name>, or with `-l` or `--all`"
            );
        }
        let client = context.client().await?;
        let mut errors = Vec::new();
        for (kind, api, name) in self.find(&client, context, target).await? {
            if let Err(error) = self.change(kind, &api, &name, &changes).await {
                errors.push(error);
            }
        }
        failure::all(errors)
    }

    async fn find(
        &self,
        client: &Client,
        context: &Context,
        target: Target,
    ) -> anyhow::Result<Vec<(&'static Kind, Api<DynamicObject>, String)>> {
        let api = |kind: &Kind| kind.api(client.clone(), Some(context.namespace()));
        let kinds = match target {
            Target::Named(names) => {
                return Ok(names.into_iter().map(|(kind, name)| (kind, api(kind), name)).collect());
            }
            Target::Kinds(kinds) => kinds,
        };
        let mut found = Vec::new();
        for kind in kinds {
            let params = ListParams { label_selector: self.selector.clone(), ..ListParams::default() };
            for object in api(kind).list(&params).await?.items {
                found.push((kind, api(kind), object.metadata.name.unwrap_or_default()));
            }
        }
        Ok(found)
    }

    async fn change(&self, kind: &Kind, api: &Api<DynamicObject>, name: &str, changes: &Changes) -> anyhow::Result<()> {
        let object = api.get(name).await?;
        let labels = object.metadata.labels.unwrap_or_default();
        if self.list {
            let lines: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
            out::print(&lines.concat())?;
        }
        if changes.is_empty() {
            return Ok(());
        }
        let plan = plan(&labels, changes, self.overwrite)?;
        for missing in &plan.missing {
            out::say(&format!("label \"{missing}\" not found."));
        }
        if plan.patch != json!({}) {
            let patch = json!({"metadata": {"labels": plan.patch}});
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            api.patch(name, &params, &Patch::Merge(&patch)).await?;
        }
        out::print(&format!("{} {}\n", kind.object_name(name), plan.word))
    }
}

/// What is to be done to the labels of one object.
#[derive(Debug, PartialEq)]
struct Plan {
    /// a merge patch of `metadata.labels`
    patch: Value,
    /// `labeled`, `unlabeled`, `not labeled`
    word: &'static str,
    /// labels to remove that are not there
    missing: Vec<String>,
}

fn plan(labels: &BTreeMap<String, String>, changes: &Changes, overwrite: bool) -> anyhow::Result<Plan> {
    let mut patch = serde_json::Map::new();
    let mut missing = Vec::new();
    for (key, change) in changes {
        match (change, labels.get(key)) {
            (None, None) => missing.push(key.clone()),
            (Some(new), Some(old)) if new == old => {}
            (Some(_), Some(old)) if !overwrite => {
                anyhow::bail!("'{key}' already has a value ({old}), and --overwrite is false")
            }
            (change, _) => {
                patch.insert(key.clone(), change.clone().map_or(Value::Null, Value::String));
            }
        }
    }
    let word = match patch.values().all(Value::is_null) {
        _ if patch.is_empty() => "not labeled",
        true => "unlabeled",
        false => "labeled",
    };
    Ok(Plan { patch: Value::Object(patch), word, missing })
}

/// Takes objects and changes apart: changes contain `=` or end in `-`.
fn split(words: &[String]) -> anyhow::Result<(Target, Changes)> {
    let is_change = |word: &String| word.contains('=') || (word.ends_with('-') && word.len() > 1);
    let first = words.iter().skip(1).position(is_change).map_or(words.len(), |index| index + 1);
    let (target, rest) = words.split_at(first);
    let mut changes = Changes::new();
    for word in rest {
        let (key, value) = match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Some(value.to_owned())),
            (None, Some(key)) => (key, None),
            (None, None) => anyhow::bail!("all resources must be specified before label changes: {word}"),
        };
        if changes.insert(key.to_owned(), value).is_some() {
            anyhow::bail!("can not both modify and remove a label in the same command: `{key}`");
        }
    }
    Ok((Target::parse(target)?, changes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::super::kind::POD;
    use super::{Target, plan, split};

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&w| w.to_owned()).collect()
    }

    #[test]
    fn objects_come_before_changes() {
        let (target, changes) = split(&words(&["pod", "web", "a=1", "b-", "c="])).expect("read");
        assert_eq!(target, Target::Named(vec![(&POD, "web".to_owned())]));
        let expected = [("a", Some("1")), ("b", None), ("c", Some(""))];
        assert_eq!(
            changes,
            expected.into_iter().map(|(k, v)| (k.to_owned(), v.map(str::to_owned))).collect::<BTreeMap<_, _>>()
        );
        assert!(split(&words(&["pod", "web", "a=1", "b"])).is_err());
        assert!(split(&words(&["pod", "web", "a=1", "a-"])).is_err());
    }

    #[track_caller]
    fn check(change: &str, overwrite: bool, patch: Value, word: &str) {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let (_, changes) = split(&words(&["pod", "web", change])).expect("read");
        let plan = plan(&labels, &changes, overwrite).expect("a plan");
        assert_eq!((plan.patch, plan.word), (patch, word));
    }

    #[test]
    fn only_what_differs_is_changed() {
        check("b=2", false, json!({"b": "2"}), "labeled");
        check("a=1", false, json!({}), "not labeled");
        check("a=2", true, json!({"a": "2"}), "labeled");
        check("a-", false, json!({"a": null}), "unlabeled");
        check("z-", false, json!({}), "not labeled");
    }

    #[test]
    fn another_value_is_kept_without_overwrite() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let (_, changes) = split(&words(&["pod", "web", "a=2"])).expect("read");
        assert_eq!(
            plan(&labels, &changes, false).expect_err("refused").to_string(),
            "'a' already has a value (1), and --overwrite is false"
        );
    }
}
