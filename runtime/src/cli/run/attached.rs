//! A person with a new pod: waits until its container runs, joins its streams, ends as it ends, and cleans up.
//!
//! What the container printed before the session began is shown too: for a container with a terminal the shim keeps the last 64 KiB for
//! the first session; the outputs of one without come from its log, each by itself, and so do those of one that has already ended.

use std::convert::Infallible;
use std::time::Duration;

use futures::io::AsyncBufRead;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, DeleteParams, LogParams};
use kube::core::Request;
use kube::{Api, Client};
use minipod_kernel::terminal::RawMode;
use tokio::io::AsyncWrite;

use super::super::failure::{self, Exit};
use super::super::kind::{POD, SERVICE};
use super::super::signals::Signals;
use super::super::{container, logs, out, session, wait};
use super::{Args, Restart};

/// How long a pod may be without a node before that is said: a node that has just started takes no pods yet.
const MOMENT: Duration = Duration::from_secs(1);

/// The session, and with `--rm` the end of the pod, whatever the session's end.
pub(super) async fn run(args: &Args, client: &Client, namespace: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut signals = Signals::listen()?;
    let result = tokio::select! {
        result = converse(args, &pods) => result,
        exit = signals.next() => Err(exit.into()),
    };
    if !args.rm {
        return result;
    }
    let Err(error) = remove(args, client, namespace).await else { return result };
    let left = left(args, namespace, &failure::report(&error).0);
    match result {
        Ok(()) => Err(anyhow::anyhow!(left)),
        // How the session ended decides about the exit code.
        Err(ended) => {
            out::say(&left);
            Err(ended)
        }
    }
}

/// What could not be deleted, and how to do it.
fn left(args: &Args, namespace: &str, error: &str) -> String {
    let name = &args.name;
    let (what, objects) = if args.expose {
        ("pod and service", format!("pod/{name} service/{name}"))
    } else {
        ("pod", format!("pod/{name}"))
    };
    format!(
        "{what} \"{name}\" may be left, since `--rm` could not delete: {}; delete with `minipod delete {objects} -n {namespace}` once the node \
         answers",
        error.trim_start_matches("error: ")
    )
}

async fn converse(args: &Args, pods: &Api<Pod>) -> anyhow::Result<()> {
    let name = &args.name;
    let session::Streams { stdin, tty, quiet } = args.streams;
    let runs = |pod: Option<&Pod>| pod.is_none_or(has_started);
    let started = tokio::select! {
        started = Box::pin(wait::pod(pods, name, Some(args.timeout), runs)) => started,
        never = Box::pin(say_what_it_waits_for(pods, name)) => match never {},
    };
    let started = match started {
        Err(error) if error.is::<wait::TimedOut>() => {
            let pod = pods.get(name).await?;
            return Err(error.context(not_started(&pod, name)));
        }
        other => other?,
    };
    let Some(pod) = started else { anyhow::bail!("pod {name} was deleted before its container ran") };
    if let Some(refusal) = container::refusal(&pod) {
        anyhow::bail!("pod {name} does not run: {refusal}");
    }
    if container::is_completed(&pod) {
        print_whole_log(pods, name, tty).await?;
    } else if tty {
        with_terminal(args, pods).await?;
    } else {
        without_terminal(args, pods).await?;
    }
    if args.restart == Restart::Always || args.leave_stdin_open {
        if !args.rm && stdin && !quiet {
            let tty = if tty { " -t" } else { "" };
            out::say(&format!(
                "Session ended, resume using 'minipod attach {name} -c {name} -i{tty}' command when the pod is running"
            ));
        }
        return Ok(());
    }
    conclude(args, pods).await
}

/// Says once why the pod gets no node, unless it gets one within a moment.
async fn say_what_it_waits_for(pods: &Api<Pod>, name: &str) -> Infallible {
    let refused = |pod: Option<&Pod>| pod.is_some_and(|pod| container::unscheduled(pod).is_some());
    if wait::pod(pods, name, None, refused).await.is_ok() {
        tokio::time::sleep(MOMENT).await;
        if let Ok(pod) = pods.get(name).await
            && let Some(why) = container::unscheduled(&pod)
        {
            out::say(&format!("pod {name} waits for a node: {why}"));
        }
    }
    std::future::pending().await
}

async fn with_terminal(args: &Args, pods: &Api<Pod>) -> anyhow::Result<()> {
    let name = &args.name;
    if session::usable_terminal(args.streams.quiet) && !args.streams.quiet {
        out::say("If you don't see a command prompt, try pressing enter.");
    }
    let params = session::params(name, true, true);
    match converse_over(&params, pods, name).await {
        Err(error) if has_ended(&error) => print_whole_log(pods, name, true).await,
        other => other,
    }
}

/// Outputs from the log, complete from the first byte; input by a session of its own.
async fn without_terminal(args: &Args, pods: &Api<Pod>) -> anyhow::Result<()> {
    let name = &args.name;
    let input = async {
        if args.streams.stdin
            && let Err(error) = converse_over(&session::input_params(name), pods, name).await
            && !has_ended(&error)
        {
            out::say(&format!("Standard input is not passed on any more: {}", failure::report(&error).0));
        }
        // What was printed is still on its way, and the container goes on.
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        result = print_log(pods, name, true) => result,
        never = input => match never {},
    }
}

async fn converse_over(params: &AttachParams, pods: &Api<Pod>, name: &str) -> anyhow::Result<()> {
    let connection = session::attach(pods, name, params).await?;
    session::join(connection, params).await.map(drop)
}

/// Whether a container was refused a session because it does not run any more.
fn has_ended(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(status)) if status.code == 400)
}

/// What the container printed until it ended. Where its terminal wrote that, the person's does not write it a second time: each line
/// has its carriage return already.
async fn print_whole_log(pods: &Api<Pod>, name: &str, tty: bool) -> anyhow::Result<()> {
    let _raw = if tty { RawMode::enter_output(std::io::stdout())? } else { None };
    print_log(pods, name, false).await
}

/// Each output of the container to the person's own.
async fn print_log(pods: &Api<Pod>, name: &str, follow: bool) -> anyhow::Result<()> {
    let stdout = copy_log(pods, name, "Stdout", follow, tokio::io::stdout());
    let stderr = copy_log(pods, name, "Stderr", follow, tokio::io::stderr());
    tokio::try_join!(stdout, stderr).map(drop)
}

async fn copy_log(
    pods: &Api<Pod>,
    name: &str,
    stream: &str,
    follow: bool,
    output: impl AsyncWrite + Unpin,
) -> anyhow::Result<()> {
    logs::copy(open_log(pods, name, stream, follow).await?, output).await
}

/// One stream of the log (`PodLogOptions.stream`), which the client library does not know yet.
async fn open_log(pods: &Api<Pod>, name: &str, stream: &str, follow: bool) -> anyhow::Result<impl AsyncBufRead> {
    let params = LogParams { container: Some(name.to_owned()), follow, ..LogParams::default() };
    let mut request = Request::new(pods.resource_url()).logs(name, &params)?;
    *request.uri_mut() = format!("{}&stream={stream}", request.uri()).parse()?;
    Ok(pods.clone().into_client().request_stream(request).await?)
}

/// The exit code of the container, once the pod has ended.
async fn conclude(args: &Args, pods: &Api<Pod>) -> anyhow::Result<()> {
    let ended = |pod: Option<&Pod>| pod.is_none_or(container::is_completed);
    let Some(pod) = wait::pod(pods, &args.name, None, ended).await? else {
        anyhow::bail!("pod {} was deleted before it ended", args.name);
    };
    match exit_of(&pod, &args.name) {
        None => Ok(()),
        Some(exit) => Err(exit.into()),
    }
}

/// How a failed pod ended; `None` for one that succeeded.
fn exit_of(pod: &Pod, name: &str) -> Option<Exit> {
    if container::phase(pod) == "Succeeded" {
        return None;
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let ended = container::state(pod, name).and_then(|state| state.terminated);
    Some(match ended {
        Some(ended) if ended.exit_code != 0 => {
            let reason = ended.reason.unwrap_or_else(|| "Error".to_owned());
            let message = ended.message.map(|m| format!("\n{m}")).unwrap_or_default();
            Exit {
                code: u8::try_from(ended.exit_code).unwrap_or(u8::MAX),
                message: format!("pod {namespace}/{name} terminated ({reason}){message}"),
            }
        }
        _ => {
            let why = pod.status.as_ref().and_then(|s| s.message.clone()).map(|m| format!(": {m}")).unwrap_or_default();
            Exit { code: 1, message: format!("error: pod {namespace}/{name} failed with unknown exit code{why}") }
        }
    })
}

/// What keeps the container from starting, and what to do.
fn not_started(pod: &Pod, name: &str) -> String {
    let waiting = container::state(pod, name).and_then(|state| state.waiting).unwrap_or_default();
    let of_pod = pod.status.as_ref().and_then(|status| status.message.clone());
    let of_pod = of_pod.or_else(|| container::unscheduled(pod).map(str::to_owned));
    let said = [waiting.reason, waiting.message.or(of_pod)];
    let why: Vec<String> = said.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    match why.as_slice() {
        [] => format!("container {name} has not started; give it longer with `--pod-running-timeout`"),
        why => format!("container {name} has not started: {}", why.join(": ")),
    }
}

/// Whether the container runs or will never run.
fn has_started(pod: &Pod) -> bool {
    container::is_completed(pod) || container::phase(pod) == "Running" || container::refusal(pod).is_some()
}

async fn remove(args: &Args, client: &Client, namespace: &str) -> anyhow::Result<()> {
    if args.expose {
        match SERVICE.api(client.clone(), Some(namespace)).delete(&args.name, &DeleteParams::default()).await {
            Err(error) if !is_not_found(&error) => return Err(error.into()),
            _ => out::print(&format!("service \"{}\" deleted\n", args.name))?,
        }
    }
    let api = POD.api(client.clone(), Some(namespace));
    let uid = match api.delete(&args.name, &DeleteParams::default()).await {
        Ok(answer) => answer.left().and_then(|pod| pod.metadata.uid),
        Err(error) if is_not_found(&error) => None,
        Err(error) => return Err(error.into()),
    };
    if !args.streams.quiet {
        out::print(&format!("pod \"{}\" deleted\n", args.name))?;
    }
    match uid {
        // The next one may have the same name.
        Some(uid) => wait::gone(api, &args.name, Some(uid), None).await,
        None => Ok(()),
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::{exit_of, not_started};

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "literals read better")]
    fn check(status: Value, expected: Option<(u8, &str)>) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "a", "namespace": "ns"}, "status": status}))
            .expect("a pod");
        let exit = exit_of(&pod, "a").map(|e| (e.code, e.message));
        assert_eq!(exit, expected.map(|(code, message)| (code, message.to_owned())));
    }

    #[test]
    fn a_container_that_does_not_start_is_told_with_its_reason() {
        let told = |state: Value| {
            let status =
                json!({"name": "a", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state});
            let pod = json!({"metadata": {"name": "a"}, "status": {"containerStatuses": [status]}});
            not_started(&serde_json::from_value(pod).expect("a pod"), "a")
        };
        assert_eq!(
            told(json!({"waiting": {"reason": "ErrImagePull", "message": "no image `x`"}})),
            "container a has not started: ErrImagePull: no image `x`"
        );
        let unscheduled = json!({"metadata": {"name": "a"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "no nodes available to schedule pods"}]}});
        assert_eq!(
            not_started(&serde_json::from_value(unscheduled).expect("a pod"), "a"),
            "container a has not started: no nodes available to schedule pods"
        );
        assert_eq!(told(json!({})), "container a has not started; give it longer with `--pod-running-timeout`");
    }

    #[test]
    fn the_exit_code_is_that_of_the_container() {
        check(json!({"phase": "Succeeded"}), None);
        let ended = json!({"name": "a", "ready": false, "restartCount": 0, "image": "", "imageID": "",
            "state": {"terminated": {"exitCode": 7, "reason": "Error"}}});
        check(json!({"phase": "Failed", "containerStatuses": [ended]}), Some((7, "pod ns/a terminated (Error)")));
        check(
            json!({"phase": "Failed", "message": "node lost"}),
            Some((1, "error: pod ns/a failed with unknown exit code: node lost")),
        );
    }
}
