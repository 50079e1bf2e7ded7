//! `exec`: runs a command in a container and ends as it ends.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::context::Context;
use super::kind::Kind;
use super::{container, dns_hint, names, out, session};

/// Options of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: session::Container,

    #[command(flatten)]
    streams: session::Streams,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let name = pod_name(&self.target.pod)?;
        let client = context.client().await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), context.namespace());
        let pod = pods.get(name).await?;
        anyhow::ensure!(
            !container::is_completed(&pod),
            "cannot exec into a container in a completed pod; current phase is {}",
            container::phase(&pod)
        );
        let chosen = container::choose(&pod, self.target.container.as_deref())?;
        let session::Streams { stdin, tty, quiet } = self.streams;
        if !quiet {
            chosen.note.iter().for_each(|note| out::say(note));
            dns_hint::say(&client, &pod).await;
        }
        // As with kubectl, a terminal is for somebody who types into one.
        let tty = tty && stdin && session::usable_terminal(quiet);
        let params = session::params(&chosen.name, stdin, tty);
        let connection = session::exec(&pods, name, &self.command, &params).await?;
        session::conclude(&session::join(connection, &params).await?)
    }
}

/// The name in `web`, `pod/web`.
///
/// # Errors
/// Another kind.
pub(crate) fn pod_name(word: &str) -> anyhow::Result<&str> {
    match word.split_once('/') {
        None => {
            names::check(word)?;
            Ok(word)
        }
        Some((kind, name)) => {
            let kind = Kind::find(kind)?;
            anyhow::ensure!(kind.kind == "Pod", "`{word}` is no pod: give the name of one, see `minipod get pods`");
            names::check(name)?;
            Ok(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::pod_name;

    #[test]
    fn a_pod_may_be_named_with_its_kind() {
        assert_eq!(pod_name("web").expect("a pod"), "web");
        assert_eq!(pod_name("po/web").expect("a pod"), "web");
        assert_eq!(
            pod_name("svc/web").expect_err("refused").to_string(),
            "`svc/web` is no pod: give the name of one, see `minipod get pods`"
        );
    }
}
