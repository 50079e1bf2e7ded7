//! `pods/exec` and `pods/attach`: bridges a WebSocket of Kubernetes' remote command protocol (`v5.channel.k8s.io`, KEP 4006, and
//! `v4.channel.k8s.io`) to a [`Session`]. A message is one byte, the channel, and its data.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts as _;
use axum::extract::Request;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use http::header::UPGRADE;
use minipod_model::channel::{CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::logs::{refuse, streams, target};
use crate::kinds::Kind;
use crate::request::{Name, Params};
use crate::shared::Shared;
use crate::status::ApiError;
use crate::streams::{Input, Output, Session, SessionOptions, StreamError, TerminalSize};

const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// WebSocket close code 1000: a regular end (RFC 6455, section 7.4.1).
const NORMAL: u16 = 1000;
/// How long the client has to confirm the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often a client is sent something at least. One that has gone is noticed by that even while its last input waits for a
/// process that reads nothing, so that nothing behind that input is read.
const PULSE: Duration = Duration::from_secs(5);
/// The largest message of a client.
const MAX_MESSAGE: usize = 1 << 20;

pub(super) async fn exec(
    shared: &Shared,
    request: Request,
    kind: &Kind,
    name: &Name,
    params: &Params,
) -> Result<Response, ApiError> {
    let command: Vec<_> = params.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        return Err(ApiError::bad_request("you must specify at least 1 command for the container"));
    }
    let options = options(params)?;
    let target = target(shared, kind, name, params).await?;
    let upgrade = upgrade(request).await?;
    let streams = Arc::clone(streams(shared)?);
    let words = command.clone();
    let start = async move { streams.exec(target, words, options).await };
    let end = move |code| match code {
        0 => success(),
        code => exit_status(&command, code),
    };
    Ok(bridge(upgrade, start, options, end))
}

pub(super) async fn attach(
    shared: &Shared,
    request: Request,
    kind: &Kind,
    name: &Name,
    params: &Params,
) -> Result<Response, ApiError> {
    let options = options(params)?;
    let target = target(shared, kind, name, params).await?;
    let upgrade = upgrade(request).await?;
    let streams = Arc::clone(streams(shared)?);
    let start = async move { streams.attach(target, options).await };
    // As with Kubernetes: the exit code of the container is in the pod's status, not in the session's.
    Ok(bridge(upgrade, start, options, |_| success()))
}

fn options(params: &Params) -> Result<SessionOptions, ApiError> {
    let options = SessionOptions {
        stdin: params.flag("stdin")?,
        stdout: params.flag("stdout")?,
        stderr: params.flag("stderr")?,
        tty: params.flag("tty")?,
    };
    if !(options.stdin || options.stdout || options.stderr) {
        return Err(ApiError::bad_request("you must specify at least one of stdin, stdout, stderr"));
    }
    if options.tty && options.stderr {
        return Err(ApiError::bad_request("tty and stderr cannot both be true"));
    }
    Ok(options)
}

/// The upgrade of a request, if it speaks one of our protocols.
async fn upgrade(request: Request) -> Result<WebSocketUpgrade, ApiError> {
    let (mut parts, _) = request.into_parts();
    let asked = parts.headers.get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_lowercase();
    if asked.starts_with("spdy") {
        return Err(ApiError::bad_request(
            "unable to upgrade: SPDY is not supported; use WebSocket (kubectl 1.31 and later do)",
        ));
    }
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .map_err(|error| ApiError::bad_request(format!("unable to upgrade: {}", error.body_text())))?
        .protocols(PROTOCOLS)
        .max_message_size(MAX_MESSAGE);
    if upgrade.selected_protocol().is_none() {
        return Err(ApiError::bad_request(format!(
            "unable to upgrade: the client offers none of the protocols {}",
            PROTOCOLS.join(", ")
        )));
    }
    Ok(upgrade)
}

/// Starts the session once the client has its WebSocket, and bridges the two. As with the kubelet a start that fails is told on the
/// error channel: kubectl takes an answer without an upgrade for a server that has no `WebSockets`, and hides what it says.
fn bridge(
    upgrade: WebSocketUpgrade,
    start: impl Future<Output = Result<Session, StreamError>> + Send + 'static,
    options: SessionOptions,
    end: impl FnOnce(i32) -> Value + Send + 'static,
) -> Response {
    upgrade.on_upgrade(move |socket| async move {
        let (mut sink, mut stream) = socket.split();
        let finished = match start.await {
            Ok(Session { input, output }) => {
                // A client that leaves ends the session: both of its channels are dropped.
                let reader = forward_input(&mut stream, input, options);
                let writer = forward_output(&mut sink, output, options, end);
                tokio::select! {
                    finished = writer => finished,
                    () = reader => false,
                }
            }
            Err(error) => sink.send(last_message(&refuse(error).to_value())).await.is_ok(),
        };
        if finished {
            let close = CloseFrame { code: NORMAL, reason: "".into() };
            let _ = sink.send(Message::Close(Some(close))).await;
            let _ = tokio::time::timeout(FAREWELL, async { while let Some(Ok(_)) = stream.next().await {} }).await;
        }
    })
}

async fn forward_input(
    stream: &mut futures::stream::SplitStream<WebSocket>,
    input: mpsc::Sender<Input>,
    options: SessionOptions,
) {
    while let Some(Ok(message)) = stream.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let Some(message) = read_message(&data, options) else { continue };
        // A process that reads no more is no reason to end: its output is still to come.
        let _ = input.send(message).await;
    }
}

/// What a client's message means; messages that mean nothing here are passed over, as Kubernetes does.
fn read_message(data: &Bytes, options: SessionOptions) -> Option<Input> {
    let channel = *data.first()?;
    let rest = data.slice(1..);
    match channel {
        STDIN if options.stdin && !rest.is_empty() => Some(Input::Stdin(rest)),
        RESIZE => {
            let size: Size = serde_json::from_slice(&rest).ok()?;
            Some(Input::Resize(TerminalSize { width: size.width, height: size.height }))
        }
        CLOSE if options.stdin && rest.as_ref() == [STDIN] => Some(Input::CloseStdin),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

/// Sends what the session sends, to its end; false if the client has gone.
async fn forward_output(
    sink: &mut futures::stream::SplitSink<WebSocket, Message>,
    mut output: mpsc::Receiver<Output>,
    options: SessionOptions,
    end: impl FnOnce(i32) -> Value,
) -> bool {
    // An empty message tells the client that the streams are open.
    let first = if options.stdout { STDOUT } else { STDERR };
    if (options.stdout || options.stderr) && sink.send(message(first, &[])).await.is_err() {
        return false;
    }
    let mut pulse = tokio::time::interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse.reset();
    let status = loop {
        let said = tokio::select! {
            said = output.recv() => said,
            _ = pulse.tick() => {
                if sink.send(Message::Ping(Bytes::new())).await.is_err() {
                    return false;
                }
                continue;
            }
        };
        let sent = match said {
            Some(Output::Stdout(data)) if options.stdout => sink.send(message(STDOUT, &data)).await,
            Some(Output::Stderr(data)) if options.stderr => sink.send(message(STDERR, &data)).await,
            Some(Output::Stdout(_) | Output::Stderr(_)) => Ok(()),
            Some(Output::Exit(code)) => break end(code),
            Some(Output::Failed(reason)) => break failure(&reason),
            None => break failure("the session ended without a result"),
        };
        if sent.is_err() {
            return false;
        }
    };
    sink.send(last_message(&status)).await.is_ok()
}

/// How the session ended.
fn last_message(status: &Value) -> Message {
    message(ERROR, status.to_string().as_bytes())
}

fn message(channel: u8, data: &[u8]) -> Message {
    let mut bytes = BytesMut::with_capacity(1 + data.len());
    bytes.put_u8(channel);
    bytes.put_slice(data);
    Message::Binary(bytes.freeze())
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

fn failure(reason: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {reason}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": reason}]},
        "code": 500,
    })
}

fn exit_status(command: &[String], code: i32) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!(
            "command terminated with non-zero exit code: error executing command [{}], exit code {code}",
            command.join(" ")
        ),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::read_message;
    use crate::streams::{Input, SessionOptions, TerminalSize};

    #[test]
    fn messages_are_read_by_their_channel() {
        let options = SessionOptions { stdin: true, ..SessionOptions::default() };
        let read = |data: &'static [u8]| read_message(&Bytes::from_static(data), options);
        assert_eq!(read(b"\0abc"), Some(Input::Stdin(Bytes::from_static(b"abc"))));
        assert_eq!(read(b"\0"), None);
        assert_eq!(read(b"\xff\0"), Some(Input::CloseStdin));
        assert_eq!(read(b"\xff\x01"), None);
        let size = Input::Resize(TerminalSize { width: 80, height: 24 });
        assert_eq!(
            read(br#"{"Width":80,"Height":24}"#).or_else(|| read(b"\x04{\"Width\":80,\"Height\":24}")),
            Some(size)
        );
        assert_eq!(read(b""), None);
        assert_eq!(read_message(&Bytes::from_static(b"\0abc"), SessionOptions::default()), None);
    }
}
