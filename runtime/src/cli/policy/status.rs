//! `policy status` and `policy wait`: whether this node enforces policies as they are now, and how long that took.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use minipod_protocol::netd::{self, PolicyState, Request, Response};
use tokio::time::Instant;

use super::super::args::switch;
use super::super::context::Context;
use super::super::table::Table;
use super::super::{names, out};

/// netd answers between two changes of the node's rules.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often netd is asked by somebody who waits.
const PAUSE: Duration = Duration::from_millis(10);

/// Options of `policy status`.
#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// One policy [default: all of the namespace]
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// In all namespaces
    #[arg(short = 'A', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    all_namespaces: bool,
}

/// Options of `policy wait`.
#[derive(Debug, clap::Args)]
pub(super) struct WaitArgs {
    /// The policies
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    /// How long to wait, e.g. 500ms, 10s, 1m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::super::args::duration)]
    timeout: Duration,
}

impl StatusArgs {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let states = ask(&context.directories.netd_socket())?;
        let namespace = (!self.all_namespaces).then(|| context.namespace());
        let shown: Vec<PolicyState> = states
            .into_iter()
            .filter(|state| namespace.is_none_or(|namespace| state.namespace == namespace))
            .filter(|state| self.name.as_ref().is_none_or(|name| state.name == *name))
            .collect();
        match (&self.name, namespace) {
            (Some(name), _) if shown.is_empty() => {
                // The server says it better, if there is none.
                names::check(name)?;
                let api: Api<NetworkPolicy> = Api::namespaced(context.client().await?, context.namespace());
                api.get(name).await?;
                anyhow::bail!(
                    "netd has not heard of the policy \"{name}\" yet; `minipod policy wait {name}` waits for it"
                );
            }
            (None, Some(namespace)) if shown.is_empty() => {
                out::say(&format!("No network policies found in {namespace} namespace."));
                Ok(())
            }
            _ => out::print(&table(&shown, self.all_namespaces).render()),
        }
    }
}

impl WaitArgs {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.timeout;
        let api: Api<NetworkPolicy> = Api::namespaced(context.client().await?, context.namespace());
        let socket = context.directories.netd_socket();
        for name in &self.names {
            names::check(name)?;
            let version = api.get(name).await?.metadata.resource_version.unwrap_or_default();
            let wanted: u64 = version.parse().with_context(|| format!("resource version `{version}` is no number"))?;
            loop {
                let states = ask(&socket)?;
                let state = states.iter().find(|state| state.namespace == context.namespace() && state.name == *name);
                if let Some(PolicyState { milliseconds: Some(took), problems, .. }) =
                    state.filter(|state| state.version >= wanted)
                {
                    out::print(&format!("networkpolicy.networking.k8s.io/{name} in force after {took:.1} ms\n"))?;
                    for problem in problems {
                        out::say(&format!("not understood, allows nothing: {problem}"));
                    }
                    break;
                }
                anyhow::ensure!(
                    Instant::now() < deadline,
                    "policy \"{name}\" is not in force after {:?}: `minipod node status` says whether the node enforces, and why not",
                    self.timeout
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

fn table(states: &[PolicyState], all_namespaces: bool) -> Table {
    let headers = ["NAMESPACE", "NAME", "IN FORCE", "TOOK", "NOT UNDERSTOOD"];
    let mut table = Table::new(if all_namespaces { &headers } else { &headers[1..] });
    for state in states {
        let (in_force, took) = match state.milliseconds {
            Some(took) => ("yes", format!("{took:.1}ms")),
            None => ("not yet", "-".to_owned()),
        };
        let problems = if state.problems.is_empty() { "-".to_owned() } else { state.problems.join("; ") };
        let row = [state.namespace.clone(), state.name.clone(), in_force.to_owned(), took, problems];
        table.push(row.into_iter().skip(usize::from(!all_namespaces)));
    }
    table
}

fn ask(socket: &Path) -> anyhow::Result<Vec<PolicyState>> {
    let answer = netd::ask(socket, Request::Policies, PATIENCE)
        .with_context(|| format!("netd does not answer on `{}`; see `minipod node status`", socket.display()))?;
    match answer {
        Response::Policies { policies } => Ok(policies),
        Response::Error(error) => Err(error.into()),
        _ => anyhow::bail!("netd gives an answer that belongs to another question: use programs of one release"),
    }
}

#[cfg(test)]
mod tests {
    use minipod_protocol::netd::PolicyState;

    use super::table;

    #[test]
    fn a_policy_is_shown_with_the_time_that_it_took_or_as_not_in_force_yet() {
        let state = |name: &str, milliseconds, problems: &[&str]| PolicyState {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            version: 7,
            milliseconds,
            problems: problems.iter().map(ToString::to_string).collect(),
        };
        let states = [state("a", Some(12.34), &[]), state("b", None, &["spec.ingress[0]: unknown field"])];
        assert_eq!(
            table(&states, false).render(),
            "NAME   IN FORCE   TOOK     NOT UNDERSTOOD\n\
             a      yes        12.3ms   -\n\
             b      not yet    -        spec.ingress[0]: unknown field\n"
        );
    }
}
