//! `wait`: returns when objects have come to a state.

use std::str::FromStr;
use std::time::Duration;

use kube::api::DynamicObject;

use super::args::duration;
use super::context::Context;
use super::kind::Kind;
use super::target::Target;
use super::{failure, out, wait};

/// Options of `wait`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to wait for: `pod web`, `pod/web svc/web`
    #[arg(value_name = "KIND[/NAME]", required = true)]
    target: Vec<String>,

    /// The state: `condition=NAME`, `condition=NAME=VALUE` or `delete`
    #[arg(long = "for", value_name = "STATE", default_value = "condition=Ready")]
    state: State,

    /// How long to wait for each object; 0 for ever
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    timeout: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// a condition of `status.conditions` has a status; neither minds upper and lower case
    Condition { name: String, status: String },
    /// the object is gone
    Deleted,
}

/// A state that nobody can wait for.
#[derive(Debug, thiserror::Error)]
#[error("unrecognized condition: `{0}`; give `condition=NAME`, `condition=NAME=VALUE` or `delete`")]
struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        if text.eq_ignore_ascii_case("delete") {
            return Ok(Self::Deleted);
        }
        let condition = text.strip_prefix("condition=").ok_or_else(|| UnknownState(text.to_owned()))?;
        let (name, status) = condition.split_once('=').unwrap_or((condition, "True"));
        if name.is_empty() || status.is_empty() {
            return Err(UnknownState(text.to_owned()));
        }
        Ok(Self::Condition { name: name.to_owned(), status: status.to_owned() })
    }
}

impl State {
    fn holds_for(&self, object: Option<&DynamicObject>) -> bool {
        let Self::Condition { name, status } = self else { return object.is_none() };
        let conditions = object.and_then(|object| object.data.pointer("/status/conditions")?.as_array());
        let word = |condition: &serde_json::Value, key: &str, word: &str| {
            condition[key].as_str().is_some_and(|there| there.eq_ignore_ascii_case(word))
        };
        conditions.into_iter().flatten().any(|one| word(one, "type", name) && word(one, "status", status))
    }
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let Target::Named(names) = Target::parse(&self.target)? else {
            anyhow::bail!("resource(s) were provided, but no name was specified: give `KIND NAME` or `KIND/NAME`");
        };
        let client = context.client().await?;
        let mut errors = Vec::new();
        for (kind, name) in names {
            let api = kind.api(client.clone(), Some(context.namespace()));
            match self.wait(kind, api, &name).await {
                Ok(()) => out::print(&format!("{} condition met\n", kind.object_name(&name)))?,
                Err(error) => errors.push(error),
            }
        }
        failure::all(errors)
    }

    async fn wait(&self, kind: &Kind, api: kube::Api<DynamicObject>, name: &str) -> anyhow::Result<()> {
        if self.state != State::Deleted {
            // An object that is not there has no conditions; nobody says that it will come.
            api.get(name).await?;
        }
        let state = self.state.clone();
        let deadline = (!self.timeout.is_zero()).then_some(self.timeout);
        let what = format!("{}/{name}", kind.plural);
        wait::until(api, &what, name, deadline, move |object: Option<&DynamicObject>| state.holds_for(object)).await
    }
}

#[cfg(test)]
mod tests {
    use kube::api::{ApiResource, DynamicObject};
    use serde_json::json;

    use super::State;

    fn pod(ready: &str) -> DynamicObject {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
        let conditions = json!([{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": ready}]);
        DynamicObject::new("web", &resource).data(json!({"status": {"conditions": conditions}}))
    }

    #[test]
    fn a_state_is_a_condition_or_the_end() {
        let ready: State = "condition=ready".parse().expect("a state");
        assert!(ready.holds_for(Some(&pod("True"))));
        assert!(!ready.holds_for(Some(&pod("False"))));
        assert!(!ready.holds_for(None));
        let unready: State = "condition=Ready=false".parse().expect("a state");
        assert!(unready.holds_for(Some(&pod("False"))));
        let deleted: State = "delete".parse().expect("a state");
        assert!(deleted.holds_for(None));
        assert!(!deleted.holds_for(Some(&pod("True"))));
    }

    #[test]
    fn other_states_are_refused_by_name() {
        for text in ["", "Ready", "condition=", "condition==True", "jsonpath={.status.phase}=Running"] {
            let refused = text.parse::<State>().expect_err("refused").to_string();
            assert!(refused.contains(&format!("`{text}`")) && refused.contains("condition=NAME"), "{refused}");
        }
    }
}
