//! Logs, exec and attach over the unix socket, as `kube` asks for them, with a pod agent that echoes.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{AsyncReadExt as _, SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, LogParams, PostParams, TerminalSize as KubeSize};
use kube::client::Body;
use minipod_api::streams::{
    Input, LogOptions, LogStream, Output, Session, SessionOptions, StreamError, Target, TerminalSize,
};
use minipod_api::{Config, PodStreams, ServeError, Server};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

const DEADLINE: Duration = Duration::from_secs(20);

/// Answers with what it was asked for; echoes input.
struct Echo;

#[async_trait]
impl PodStreams for Echo {
    async fn logs(&self, target: Target, options: LogOptions) -> Result<LogStream, StreamError> {
        if options.previous {
            let message =
                format!("previous terminated container \"{}\" in pod \"{}\" not found", target.container, target.name);
            return Err(StreamError::BadRequest(message));
        }
        let first = format!("{} {:?} {:?}\n", target.container, options.tail_lines, options.timestamps);
        let rest = if options.follow {
            futures::stream::pending().left_stream()
        } else {
            futures::stream::empty().right_stream()
        };
        Ok(futures::stream::iter([Ok(Bytes::from(first))]).chain(rest).boxed())
    }

    async fn exec(
        &self,
        target: Target,
        command: Vec<String>,
        options: SessionOptions,
    ) -> Result<Session, StreamError> {
        if command[0] == "no-such-program" {
            return Err(StreamError::Internal { message: format!("{}: not found", command[0]), source: None });
        }
        if command[0] == "too-late" {
            return Err(StreamError::BadRequest(format!("container \"{}\" is not running", target.container)));
        }
        let (input, received) = mpsc::channel(8);
        let (send, output) = mpsc::channel(8);
        tokio::spawn(echo(command, options, received, send));
        Ok(Session { input, output })
    }

    async fn attach(&self, target: Target, options: SessionOptions) -> Result<Session, StreamError> {
        self.exec(target, vec!["attached".to_owned(), "7".to_owned()], options).await
    }
}

/// `deaf FILE`: neither reads nor writes, and makes the file at the end of the session.
/// `NAME CODE`: says its name, echoes input until it closes, complains on standard error, ends with CODE.
async fn echo(
    command: Vec<String>,
    options: SessionOptions,
    mut input: mpsc::Receiver<Input>,
    output: mpsc::Sender<Output>,
) {
    if command[0] == "deaf" {
        // Takes no input; leaves a mark when the session is over.
        output.closed().await;
        drop(input);
        std::fs::write(&command[1], "").expect("a mark");
        return;
    }
    let send = async |text: String| output.send(Output::Stdout(text.into())).await.is_ok();
    send(format!("{}\n", command[0])).await;
    while options.stdin
        && let Some(message) = input.recv().await
    {
        match message {
            Input::Stdin(data) => drop(output.send(Output::Stdout(data)).await),
            Input::Resize(TerminalSize { width, height }) => drop(send(format!("{width}x{height}\n")).await),
            Input::CloseStdin => break,
        }
    }
    let _ = output.send(Output::Stderr("complaint\n".into())).await;
    let end = match command[1].parse() {
        Ok(code) => Output::Exit(code),
        Err(_) => Output::Failed(command[1].clone()),
    };
    let _ = output.send(end).await;
}

struct Node {
    client: kube::Client,
    server: Server,
    socket: PathBuf,
    directory: TempDir,
    _stop: DropGuard,
}

impl Node {
    async fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let socket = directory.path().join("api.sock");
        let config = Config {
            store: directory.path().join("store.redb"),
            service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
        };
        let server = Server::open(config).await.expect("a server");
        server.set_pod_streams(Arc::new(Echo));
        let stop = CancellationToken::new();
        server.serve_unix(&socket, stop.clone()).await.expect("a socket");
        let client = client(socket.clone());
        let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "containers": [{"name": "one", "image": "x"}, {"name": "two", "image": "x"}]}});
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        pods.create(&PostParams::default(), &serde_json::from_value(pod).expect("a pod")).await.expect("created");
        Self { client, server, socket, directory, _stop: stop.drop_guard() }
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }
}

/// A client that dials the socket for every request.
fn client(socket: PathBuf) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let socket = socket.clone();
        async move {
            let stream = TokioIo::new(UnixStream::connect(&socket).await?);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            tokio::spawn(connection.with_upgrades());
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(sender.send_request(request).await?)
        }
    });
    kube::Client::new(service, "default")
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("in time")
}

fn params() -> AttachParams {
    AttachParams::default().container("two").stdout(true).stderr(true)
}

#[tokio::test]
async fn a_log_is_passed_on_with_its_options() {
    let node = Node::new().await;
    let log =
        LogParams { container: Some("two".to_owned()), tail_lines: Some(3), timestamps: true, ..LogParams::default() };
    assert_eq!(in_time(node.pods().logs("a", &log)).await.expect("a log"), "two Some(3) true\n");
    let refused = in_time(node.pods().logs("a", &LogParams::default())).await.expect_err("no container named");
    assert!(
        refused.to_string().contains("a container name must be specified for pod a, choose one of: [one two]"),
        "{refused}"
    );
    let previous = LogParams { previous: true, ..log.clone() };
    let refused = in_time(node.pods().logs("a", &previous)).await.expect_err("no previous container");
    assert!(refused.to_string().contains("previous terminated container \"two\" in pod \"a\" not found"), "{refused}");
}

#[tokio::test]
async fn a_followed_log_is_cut_off_at_once_when_the_server_stops_and_not_ended() {
    let node = Node::new().await;
    let log = LogParams { container: Some("one".to_owned()), follow: true, ..LogParams::default() };
    let mut stream = in_time(node.pods().log_stream("a", &log)).await.expect("a log");
    let mut first = [0; 3];
    in_time(stream.read_exact(&mut first)).await.expect("its beginning");
    assert_eq!(&first, b"one");
    node.server.stop();
    let mut rest = Vec::new();
    in_time(stream.read_to_end(&mut rest)).await.expect_err("the container goes on, and so does its log");
}

#[tokio::test]
async fn exec_passes_streams_and_the_exit_code_on() {
    let node = Node::new().await;
    let mut session = in_time(node.pods().exec("a", ["sh", "3"], &params().stdin(true))).await.expect("a session");
    let mut stdin = session.stdin().expect("standard input");
    let (mut stdout, mut stderr) = (session.stdout().expect("output"), session.stderr().expect("errors"));
    let status = session.take_status().expect("a status");
    stdin.write_all(b"hello\n").await.expect("written");
    stdin.shutdown().await.expect("closed");
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    in_time(stdout.read_to_string(&mut out)).await.expect("output");
    in_time(stderr.read_to_string(&mut err)).await.expect("errors");
    assert_eq!((out.as_str(), err.as_str()), ("sh\nhello\n", "complaint\n"));
    let status = in_time(status).await.expect("a status");
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
    let causes: Vec<_> =
        causes.into_iter().map(|c| (c.reason.unwrap_or_default(), c.message.unwrap_or_default())).collect();
    assert_eq!(causes, [("ExitCode".to_owned(), "3".to_owned())]);
    in_time(session.join()).await.expect("a regular end");
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_session_though_its_input_is_not_taken() {
    let node = Node::new().await;
    let mark = node.directory.path().join("mark");
    let command = ["deaf", mark.to_str().expect("text")];
    let mut session = in_time(node.pods().exec("a", command, &params().stdin(true))).await.expect("a session");
    let mut stdin = session.stdin().expect("standard input");
    let piece = vec![b'x'; 64 << 10];
    let full = async { while stdin.write_all(&piece).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(1), full).await.expect_err("more input is taken than fits");
    drop((stdin, session));
    in_time(async {
        while !mark.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn exec_that_succeeds_or_fails_says_so() {
    let node = Node::new().await;
    for (code, status, reason) in [("0", "Success", None), ("no such program", "Failure", Some("InternalError"))] {
        let mut session = in_time(node.pods().exec("a", ["sh", code], &params())).await.expect("a session");
        let status_of = session.take_status().expect("a status");
        let found = in_time(status_of).await.expect("a status");
        assert_eq!((found.status.as_deref(), found.reason.as_deref()), (Some(status), reason));
        in_time(session.join()).await.expect("a regular end");
    }
}

#[tokio::test]
async fn attach_passes_the_terminal_size_and_ends_in_success() {
    let node = Node::new().await;
    let params = AttachParams::interactive_tty().container("one");
    let mut session = in_time(node.pods().attach("a", &params)).await.expect("a session");
    let status = session.take_status().expect("a status");
    let mut size = session.terminal_size().expect("a terminal");
    size.send(KubeSize { width: 80, height: 24 }).await.expect("sent");
    let mut stdout = session.stdout().expect("output");
    let mut text = [0; 15];
    in_time(stdout.read_exact(&mut text)).await.expect("output");
    assert_eq!(std::str::from_utf8(&text), Ok("attached\n80x24\n"));
    let mut stdin = session.stdin().expect("standard input");
    stdin.shutdown().await.expect("closed");
    drop(stdin);
    assert_eq!(in_time(status).await.expect("a status").status.as_deref(), Some("Success"));
}

#[tokio::test]
async fn a_session_that_cannot_be_is_refused_before_it_begins() {
    let node = Node::new().await;
    let refused =
        in_time(node.pods().exec("a", ["sh", "0"], &params().container("three"))).await.err().expect("no container");
    assert!(format!("{refused:?}").contains("400"), "{refused:?}");
    let refused = in_time(node.pods().exec("b", ["sh", "0"], &params())).await.err().expect("no pod");
    assert!(format!("{refused:?}").contains("404"), "{refused:?}");
    let request = http::Request::post("/api/v1/namespaces/default/pods/a/exec?command=x&stdout=1&container=one");
    let request =
        request.header("upgrade", "SPDY/3.1").header("connection", "upgrade").body(Vec::new()).expect("a request");
    let refused = in_time(node.client.request_text(request)).await.expect_err("another protocol");
    assert!(refused.to_string().contains("SPDY is not supported"), "{refused}");
}

#[tokio::test]
async fn a_start_that_fails_is_told_on_the_error_channel_of_the_upgraded_connection() {
    let node = Node::new().await;
    for (command, code, reason, message) in [
        ("no-such-program", 500, "InternalError", "no-such-program: not found"),
        ("too-late", 400, "BadRequest", "container \"two\" is not running"),
    ] {
        let request = kube::core::Request::new(node.pods().resource_url());
        let request = request.exec("a", [command], &params()).expect("a request");
        let connection = in_time(node.client.connect(request)).await.expect("upgraded");
        let mut messages = connection.into_stream();
        let first = in_time(messages.next()).await.expect("a message").expect("no error").into_data();
        assert_eq!(first[0], 3, "{command}: {first:?}");
        let status: serde_json::Value = serde_json::from_slice(&first[1..]).expect("a status");
        assert_eq!((&status["status"], &status["code"]), (&json!("Failure"), &json!(code)));
        assert_eq!(status["reason"], reason);
        assert!(status["message"].as_str().is_some_and(|told| told.contains(message)), "{status}");
        let close = in_time(messages.next()).await.expect("a message").expect("no error");
        assert!(close.is_close() && format!("{close:?}").contains("Normal"), "{command}: {close:?}");
    }
}

#[tokio::test]
async fn the_socket_is_for_root_alone_and_one_server() {
    let node = Node::new().await;
    let metadata = std::fs::metadata(&node.socket).expect("a socket");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let second = node.server.serve_unix(&node.socket, CancellationToken::new()).await;
    assert!(matches!(second, Err(ServeError::InUse { .. })), "{second:?}");

    // One that nobody listens on any more is replaced.
    let stale = node.directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket"));
    node.server.serve_unix(&stale, CancellationToken::new()).await.expect("replaced");
    assert!(UnixStream::connect(&stale).await.is_ok());
    let nowhere = node.server.serve_unix(Path::new("/nonexistent/api.sock"), CancellationToken::new()).await;
    assert!(matches!(nowhere, Err(ServeError::Io { .. })), "{nowhere:?}");
}
