//! A session with a process in a container: the person's streams on one side, the server's WebSocket on the other.
//!
//! Both directions go on at once, and neither waits for the other: a process that reads nothing still prints, and one that prints
//! without end still reads. Ends when the server says how the process ended. What was typed afterwards is not waited for.

mod message;
mod options;

use std::convert::Infallible;
use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use futures::{Sink, SinkExt as _, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use kube::client::Connection;
use kube::core::response::StatusSummary;
use kube::core::{Request, Status};
use minipod_kernel::terminal::{RawMode, window_size};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_tungstenite::tungstenite::{self, Message};

use super::failure::Exit;
use super::out;
use super::signals::Signals;
use message::Said;
pub(crate) use options::{Container, Streams};

/// One read of standard input.
const CHUNK: usize = 32 << 10;

/// Which streams of the process are joined. With a terminal there is no standard error of its own.
pub(crate) fn params(container: &str, stdin: bool, tty: bool) -> AttachParams {
    AttachParams::default().container(container).stdin(stdin).stdout(true).stderr(!tty).tty(tty)
}

/// Only the process's input: what it prints is taken elsewhere.
pub(crate) fn input_params(container: &str) -> AttachParams {
    AttachParams::default().container(container).stdin(true).stdout(false).stderr(false)
}

/// Whether the person types into a terminal; says so, unless quiet, where one was asked for in vain.
pub(crate) fn usable_terminal(quiet: bool) -> bool {
    let usable = io::stdin().is_terminal();
    if !usable && !quiet {
        out::say("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    usable
}

/// Starts a process in a container.
///
/// # Errors
/// The server refuses, or cannot be reached.
pub(crate) async fn exec(
    pods: &Api<Pod>,
    pod: &str,
    command: &[String],
    params: &AttachParams,
) -> kube::Result<Connection> {
    let request = Request::new(pods.resource_url()).exec(pod, command, params).map_err(kube::Error::BuildRequest)?;
    pods.clone().into_client().connect(request).await
}

/// Joins a container's own streams.
///
/// # Errors
/// The server refuses, or cannot be reached.
pub(crate) async fn attach(pods: &Api<Pod>, pod: &str, params: &AttachParams) -> kube::Result<Connection> {
    let request = Request::new(pods.resource_url()).attach(pod, params).map_err(kube::Error::BuildRequest)?;
    pods.clone().into_client().connect(request).await
}

/// Connects the person with the process until it ends. A person who types into a terminal gives that whole terminal: it is raw
/// meanwhile, and as it was afterwards, also when the session fails or a signal ends it.
///
/// # Errors
/// The server refuses, as an error of its API; the terminal, the person's outputs, the connection, or a signal.
pub(crate) async fn join(connection: Connection, params: &AttachParams) -> anyhow::Result<Status> {
    let closes_input = connection.supports_stream_close();
    let (to_server, from_server) = connection.into_stream().split();
    let stdin = io::stdin();
    let interactive = params.stdin && params.tty && stdin.is_terminal();
    let input = Input { stdin: params.stdin, closes: closes_input, resizes: interactive };
    let session = async {
        tokio::select! {
            end = receive(from_server) => end,
            never = input.send(to_server) => match never {},
        }
    };
    if !interactive {
        return session.await;
    }
    // Listened for before the terminal is raw: whenever such a signal comes, somebody restores it.
    let mut signals = Signals::listen()?;
    let _raw = RawMode::enter(&stdin)?;
    tokio::select! {
        end = session => end,
        exit = signals.next() => Err(exit.into()),
    }
}

/// What the server says, to the person, until it says how the process ended.
async fn receive(mut from_server: impl Stream<Item = tungstenite::Result<Message>> + Unpin) -> anyhow::Result<Status> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    let mut begun = false;
    while let Some(Ok(message)) = from_server.next().await {
        let Message::Binary(message) = message else { continue };
        match message::read(&message).context("cannot understand how the process ended")? {
            Said::Stdout(bytes) => out::ended(write(&mut stdout, &bytes).await)?,
            Said::Stderr(bytes) => write(&mut stderr, &bytes).await?,
            Said::End(status) if !begun && is_refusal(&status) => return Err(kube::Error::Api(status).into()),
            Said::End(status) => return Ok(*status),
            Said::Nothing => {}
        }
        begun = true;
    }
    anyhow::bail!("the connection to the node ended before the process did: is `minipod node` still running?")
}

/// Whether the end says, with the code of an HTTP answer, that the server failed, and not how the process ended.
fn is_refusal(status: &Status) -> bool {
    status.code >= 400
}

async fn write(output: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    output.write_all(bytes).await?;
    output.flush().await
}

/// What the person gives: standard input, and the size of the terminal whenever it changes.
struct Input {
    stdin: bool,
    /// the server knows the end of an input (version 5)
    closes: bool,
    resizes: bool,
}

impl Input {
    /// Passes it on for as long as the session lasts. A server that takes nothing any more has nothing more to say either, and
    /// that is noticed where it is heard.
    async fn send(&self, to_server: impl Sink<Message, Error = tungstenite::Error> + Unpin) -> Infallible {
        let _ = self.pass_on(to_server).await;
        std::future::pending().await
    }

    async fn pass_on(
        &self,
        mut to_server: impl Sink<Message, Error = tungstenite::Error> + Unpin,
    ) -> anyhow::Result<()> {
        let mut resizes = if self.resizes { Some(signal(SignalKind::window_change())?) } else { None };
        if self.resizes
            && let Some(size) = terminal_size()
        {
            to_server.send(Message::Binary(message::size(size))).await?;
        }
        let (mut stdin, mut buffer, mut open) = (tokio::io::stdin(), vec![0; CHUNK], self.stdin);
        loop {
            let message = tokio::select! {
                read = stdin.read(&mut buffer), if open => match read {
                    Ok(count) if count > 0 => Some(message::stdin(&buffer[..count])),
                    // A terminal that has gone is the end of the input, too.
                    _ => {
                        open = false;
                        self.closes.then(message::end_of_stdin)
                    }
                },
                Some(()) = next(&mut resizes) => terminal_size().map(message::size),
                else => return Ok(()),
            };
            if let Some(message) = message {
                to_server.send(Message::Binary(message)).await?;
            }
        }
    }
}

async fn next(signal: &mut Option<Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

fn terminal_size() -> Option<(u16, u16)> {
    window_size(io::stdout()).or_else(|| window_size(io::stdin()))
}

/// What the end of a session means for this program: success, or the process's exit code.
///
/// # Errors
/// The process failed, or there is no exit code.
pub(crate) fn conclude(status: &Status) -> anyhow::Result<()> {
    if status.status == Some(StatusSummary::Success) {
        return Ok(());
    }
    match exit_code(status) {
        Some(code) => Err(Exit { code, message: format!("command terminated with exit code {code}") }.into()),
        None if status.message.is_empty() => anyhow::bail!("the command failed"),
        None => anyhow::bail!("{}", status.message),
    }
}

/// The code in a `NonZeroExitCode` status.
fn exit_code(status: &Status) -> Option<u8> {
    if status.reason != "NonZeroExitCode" {
        return None;
    }
    let cause = status.details.as_ref()?.causes.iter().find(|cause| cause.reason == "ExitCode")?;
    let code: i32 = cause.message.parse().ok()?;
    Some(u8::try_from(code).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio_tungstenite::tungstenite::Message;

    use super::super::failure::report;
    use super::{conclude, receive};

    /// What the person sees when the server says this and leaves.
    async fn end_of(said: &[(u8, &str)]) -> (String, u8) {
        let messages = said.iter().map(|(channel, data)| {
            let bytes = [&[*channel], data.as_bytes()].concat();
            Ok(Message::Binary(bytes.into()))
        });
        let end =
            receive(futures::stream::iter(messages.collect::<Vec<_>>())).await.and_then(|status| conclude(&status));
        report(&end.expect_err("a failure"))
    }

    #[tokio::test]
    async fn a_session_that_the_server_refuses_is_told_as_an_error_of_the_server() {
        let refused = r#"{"status": "Failure", "reason": "BadRequest", "message": "no container runs", "code": 400}"#;
        let told = ("Error from server (BadRequest): no container runs".to_owned(), 1);
        assert_eq!(end_of(&[(3, refused)]).await, told);
        // The empty message says that the session has begun: what ends it afterwards is no refusal.
        assert_eq!(end_of(&[(1, ""), (3, refused)]).await, ("error: no container runs".to_owned(), 1));
    }

    #[track_caller]
    fn check(status: Value, expected: Option<(&str, u8)>) {
        let status = serde_json::from_value(status).expect("a status");
        let end = conclude(&status).err().map(|e| report(&e));
        assert_eq!(end, expected.map(|(message, code)| (message.to_owned(), code)));
    }

    #[test]
    fn the_exit_code_of_the_process_is_the_exit_code_of_the_program() {
        check(json!({"status": "Success"}), None);
        check(
            json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with non-zero exit code",
                   "details": {"causes": [{"reason": "ExitCode", "message": "42"}]}}),
            Some(("command terminated with exit code 42", 42)),
        );
        check(
            json!({"status": "Failure", "reason": "InternalError", "message": "no such program `foo`"}),
            Some(("error: no such program `foo`", 1)),
        );
    }
}
