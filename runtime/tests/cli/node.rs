//! A node without pods: the API server, and somebody who plays the agent.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use minipod_api::streams::{
    Input, LogOptions, LogSource, LogStream, Output, Session, SessionOptions, StreamError, Target,
};
use minipod_api::{PodStreams, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// An API server that listens, for as long as this lives.
pub(crate) struct Node {
    directory: TempDir,
    runtime: Runtime,
    server: Server,
    stop: CancellationToken,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Node {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let stop = CancellationToken::new();
        let server = runtime.block_on(async {
            let service_cidrs = vec!["10.96.0.0/16".parse().expect("a range")];
            let config = minipod_api::Config { store: directory.path().join("store.redb"), service_cidrs };
            let server = Server::open(config).await.expect("the server opens");
            server.set_pod_streams(Arc::new(Played));
            server.serve_unix(&directory.path().join("api.sock"), stop.clone()).await.expect("it listens");
            server
        });
        Self { directory, runtime, server, stop }
    }

    /// Runs the program.
    pub(crate) fn minipod(&self, line: &str) -> Ended {
        self.minipod_with_input(line, "")
    }

    /// Runs the program with something on its standard input. Words are separated by blanks; `+` in a word is a blank.
    pub(crate) fn minipod_with_input(&self, line: &str, input: &str) -> Ended {
        let mut child = self.spawn(line);
        let mut stdin = child.stdin.take().expect("a pipe");
        // Its output is read meanwhile. A program that has ended takes no input.
        let output = std::thread::scope(|scope| {
            scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
            child.wait_with_output().expect("the program ends")
        });
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts the program with pipes for its streams.
    pub(crate) fn spawn(&self, line: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_minipod"))
            .args(line.split_whitespace().map(|word| word.replace('+', " ")))
            .env("MINIPOD_RUN_DIR", self.directory.path())
            .env("MINIPOD_STATE_DIR", self.directory.path().join("state"))
            .env_remove("MINIPOD_NAMESPACE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// Runs the program, which succeeds; what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> String {
        let ended = self.minipod(line);
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
        ended.stdout
    }

    /// Runs the program, which fails with 1; what it said.
    #[track_caller]
    pub(crate) fn fails(&self, line: &str) -> String {
        let ended = self.minipod(line);
        assert_eq!(ended.code, 1, "{line}: {ended:?}");
        ended.stderr
    }

    /// Writes a file into the node's directory.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    pub(crate) fn client(&self) -> kube::Client {
        // The client starts a task of its own.
        let _inside = self.runtime.enter();
        kube::Client::new(self.server.router(), "default")
    }

    /// Plays the agent from now on: a pod gets its node and runs; it ends with the code in its annotation `exit`, if it has one.
    pub(crate) fn play_agent(&self) {
        let pods: Api<Pod> = Api::all(self.client());
        self.runtime.spawn(async move {
            let mut events = std::pin::pin!(pods.watch(&WatchParams::default(), "0").await.expect("a watch"));
            let client = pods.into_client();
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event {
                    play(&client, pod).await;
                }
            }
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.stop();
    }
}

async fn play(client: &kube::Client, pod: Pod) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let name = pod.metadata.name.clone().unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        let _ = pods.delete(&name, &kube::api::DeleteParams::default().grace_period(0)).await;
        return;
    }
    if pod.spec.as_ref().is_some_and(|s| s.node_name.is_none()) {
        bind(client, &pod).await;
        return;
    }
    let status = pod.status.clone().unwrap_or_default();
    let exit = pod.metadata.annotations.iter().flatten().find(|(key, _)| *key == "exit").map(|(_, code)| code);
    let next = match (status.phase.as_deref(), exit) {
        (Some("Pending"), _) => status_of("Running", &name, &json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})),
        (Some("Running"), Some(code)) => {
            let code: i32 = code.parse().expect("a number");
            let (phase, reason) = if code == 0 { ("Succeeded", "Completed") } else { ("Failed", "Error") };
            status_of(phase, &name, &json!({"terminated": {"exitCode": code, "reason": reason}}))
        }
        _ => return,
    };
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&next)).await.expect("a status");
}

async fn bind(client: &kube::Client, pod: &Pod) {
    let (namespace, name) =
        (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}});
    let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/pods/{name}/binding"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(&binding).expect("JSON"))
        .expect("a request");
    client.request::<Value>(request).await.expect("bound");
}

fn status_of(phase: &str, container: &str, state: &Value) -> Value {
    let running = phase == "Running";
    json!({"status": {"phase": phase, "hostIP": "192.0.2.1", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}],
        "containerStatuses": [{"name": container, "ready": running, "started": running, "restartCount": 0,
                               "image": "x", "imageID": "", "state": state}]}})
}

/// Streams of pods that are not there.
struct Played;

#[async_trait]
impl PodStreams for Played {
    async fn logs(&self, target: Target, options: LogOptions) -> Result<LogStream, StreamError> {
        if options.stream == Some(LogSource::Stderr) {
            return Ok(futures::stream::iter([Ok(Bytes::from("complaint\n"))]).boxed());
        }
        let which = if options.previous { "before" } else { "now" };
        let lines = [format!("{} {which}\n", target.container), "two\n".to_owned(), "three\n".to_owned()];
        let skip =
            options.tail_lines.map_or(0, |tail| lines.len() - usize::try_from(tail).unwrap_or(0).min(lines.len()));
        let lines: Vec<std::io::Result<Bytes>> =
            lines.into_iter().skip(skip).map(|line| Ok(Bytes::from(line))).collect();
        Ok(futures::stream::iter(lines).boxed())
    }

    /// `exit N` ends with N, `cat` gives back its input, `yes` never ends, anything else prints itself on both streams.
    async fn exec(&self, _: Target, command: Vec<String>, options: SessionOptions) -> Result<Session, StreamError> {
        Ok(session(move |mut input, output| async move {
            let code = match command.as_slice() {
                [word, code] if word == "exit" => code.parse().expect("a number"),
                [word] if word == "cat" => {
                    while options.stdin
                        && let Some(Input::Stdin(bytes)) = input.recv().await
                    {
                        output.send(Output::Stdout(bytes)).await.expect("somebody listens");
                    }
                    0
                }
                [word] if word == "yes" => {
                    while output.send(Output::Stdout(Bytes::from("y\n"))).await.is_ok() {}
                    return;
                }
                words => {
                    let text = Bytes::from(words.join(" ") + "\n");
                    output.send(Output::Stdout(text.clone())).await.expect("somebody listens");
                    output.send(Output::Stderr(text)).await.expect("somebody listens");
                    0
                }
            };
            output.send(Output::Exit(code)).await.expect("somebody listens");
        }))
    }

    /// Gives back its input, if it has one, in capitals.
    async fn attach(&self, _: Target, options: SessionOptions) -> Result<Session, StreamError> {
        Ok(session(move |mut input, output| async move {
            while options.stdin
                && let Some(Input::Stdin(bytes)) = input.recv().await
            {
                let capitals = Bytes::from(bytes.to_ascii_uppercase());
                output.send(Output::Stdout(capitals)).await.expect("somebody listens");
            }
            output.send(Output::Exit(0)).await.expect("somebody listens");
        }))
    }
}

fn session<F: Future<Output = ()> + Send + 'static>(
    play: impl FnOnce(mpsc::Receiver<Input>, mpsc::Sender<Output>) -> F,
) -> Session {
    let (input, inputs) = mpsc::channel(8);
    let (outputs, output) = mpsc::channel(8);
    tokio::spawn(play(inputs, outputs));
    Session { input, output }
}
