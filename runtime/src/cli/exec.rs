//! `exec`: runs a command in a container and ends as it ends.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::args::switch;
use super::context::Context;
use super::kind::Kind;
use super::{container, dns_hint, out, session, terminal};

/// Options of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pod: `web` or `pod/web`
    #[arg(value_name = "POD")]
    pod: String,

    /// The container [default: the first]
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,

    /// Pass standard input to the command
    #[arg(short = 'i', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    stdin: bool,

    /// Give the command a terminal
    #[arg(short = 't', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    tty: bool,

    /// Say nothing but what the command says
    #[arg(short, long)]
    quiet: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let name = pod_name(&self.pod)?;
        let client = context.client().await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), context.namespace());
        let pod = pods.get(name).await?;
        anyhow::ensure!(
            !container::is_completed(&pod),
            "cannot exec into a container in a completed pod; current phase is {}",
            container::phase(&pod)
        );
        let chosen = container::choose(&pod, self.container.as_deref())?;
        if !self.quiet {
            chosen.note.iter().for_each(|note| out::say(note));
            dns_hint::say(&client, &pod).await;
        }
        let tty = self.tty && usable_terminal(self.quiet);
        let process = pods.exec(name, &self.command, &session::params(&chosen.name, self.stdin, tty)).await?;
        session::conclude(session::join(process, tty).await?)
    }
}

/// A terminal is only for someone who has one.
fn usable_terminal(quiet: bool) -> bool {
    let usable = terminal::stdin_is_terminal();
    if !usable && !quiet {
        out::say("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    usable
}

/// The name in `web`, `pod/web`.
///
/// # Errors
/// Another kind.
pub(crate) fn pod_name(word: &str) -> anyhow::Result<&str> {
    match word.split_once('/') {
        None => Ok(word),
        Some((kind, name)) => {
            let kind = Kind::find(kind)?;
            anyhow::ensure!(kind.kind == "Pod", "`{word}` is no pod: give the name of one, see `minipod get pods`");
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
