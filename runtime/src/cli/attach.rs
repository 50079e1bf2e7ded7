//! `attach`: joins the standard streams of a running container.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::args::switch;
use super::context::Context;
use super::exec::pod_name;
use super::{container, out, session};

/// Options of `attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pod: `web` or `pod/web`
    #[arg(value_name = "POD")]
    pod: String,

    /// The container [default: the first]
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,

    /// Pass standard input to the container
    #[arg(short = 'i', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    stdin: bool,

    /// The container has a terminal
    #[arg(short = 't', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    tty: bool,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let name = pod_name(&self.pod)?;
        let pods: Api<Pod> = Api::namespaced(context.client().await?, context.namespace());
        let pod = pods.get(name).await?;
        anyhow::ensure!(
            !container::is_completed(&pod),
            "cannot attach a container in a completed pod; current phase is {}",
            container::phase(&pod)
        );
        let chosen = container::choose(&pod, self.container.as_deref())?;
        chosen.note.iter().for_each(|note| out::say(note));
        let (has_stdin, has_tty) = offered(&pod, &chosen.name);
        if self.stdin && !has_stdin {
            out::say(&format!("Unable to use standard input - container {} was not given one", chosen.name));
        }
        if self.tty && !has_tty {
            out::say(&format!("Unable to use a TTY - container {} did not allocate one", chosen.name));
        }
        let stdin = self.stdin && has_stdin;
        if stdin && has_tty {
            out::say("If you don't see a command prompt, try pressing enter.");
        }
        let process = pods.attach(name, &session::params(&chosen.name, stdin, has_tty)).await?;
        session::join(process, has_tty).await?;
        Ok(())
    }
}

/// `stdin` and `tty` of a container.
pub(crate) fn offered(pod: &Pod, container: &str) -> (bool, bool) {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    containers
        .filter(|c| c.name == container)
        .map(|c| (c.stdin.unwrap_or(false), c.tty.unwrap_or(false)))
        .next()
        .unwrap_or_default()
}
