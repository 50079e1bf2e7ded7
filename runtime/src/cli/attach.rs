//! `attach`: joins the standard streams of a running container.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::context::Context;
use super::exec::pod_name;
use super::{container, out, session};

/// Options of `attach`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: session::Container,

    #[command(flatten)]
    streams: session::Streams,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let name = pod_name(&self.target.pod)?;
        let session::Streams { stdin, tty, quiet } = self.streams;
        let say = |text: &str| {
            if !quiet {
                out::say(text);
            }
        };
        let pods: Api<Pod> = Api::namespaced(context.client().await?, context.namespace());
        let pod = pods.get(name).await?;
        anyhow::ensure!(
            !container::is_completed(&pod),
            "cannot attach a container in a completed pod; current phase is {}",
            container::phase(&pod)
        );
        let chosen = container::choose(&pod, self.target.container.as_deref())?;
        chosen.note.iter().for_each(|note| say(note));
        let (has_stdin, has_tty) = offered(&pod, &chosen.name);
        if stdin && !has_stdin {
            say(&format!("Unable to use standard input - container {} was not given one", chosen.name));
        }
        if tty && !has_tty {
            say(&format!("Unable to use a TTY - container {} did not allocate one", chosen.name));
        }
        let stdin = stdin && has_stdin;
        if stdin && has_tty {
            say("If you don't see a command prompt, try pressing enter.");
        }
        let params = session::params(&chosen.name, stdin, has_tty);
        session::conclude(&session::join(session::attach(&pods, name, &params).await?, &params).await?)
    }
}

/// `stdin` and `tty` of a container.
fn offered(pod: &Pod, container: &str) -> (bool, bool) {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    containers
        .filter(|c| c.name == container)
        .map(|c| (c.stdin.unwrap_or(false), c.tty.unwrap_or(false)))
        .next()
        .unwrap_or_default()
}
