//! netd's socket: one JSON request a line, answered in order (`minipod_protocol::netd`). Only root may connect.
//!
//! Reads from the API server what an attach needs; everything else is the engine's.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use minipod_protocol::line;
use minipod_protocol::netd::{Code, Envelope, Error, Request, Response, VERSION};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::command::{Command, Engine};
use crate::connections;
use crate::consistent::Source;
use crate::drops::Watched;

/// What goes on for long is logged once in this time.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Makes the socket. A socket file that nobody listens on is replaced.
///
/// # Errors
/// `AddrInUse` when another netd listens there; what the file system says.
pub async fn bind(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another netd listens there"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves connections until the task is dropped.
pub async fn serve(listener: UnixListener, engine: Engine, source: Source) {
    let mut connections = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, engine.clone(), source.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, as a rule: wait for some connection to close.
                    if told.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
                        tracing::warn!(error = %error, "cannot accept a connection");
                        told = Some(Instant::now());
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: UnixStream, engine: Engine, source: Source) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(line::MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let response = match read_request(&line) {
            Ok(Request::Drops { follow: true }) => {
                tokio::select! {
                    () = follow_drops(&mut writer, &engine) => {}
                    // Whoever has asked has left.
                    _ = reader.read_u8() => {}
                }
                return;
            }
            Ok(request) => answer(request, &engine, &source).await.unwrap_or_else(Response::Error),
            Err(error) => Response::Error(error),
        };
        let Ok(bytes) = line::encode(&response) else { return };
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Tells of dropped packets, those that were and those that come, until nobody listens any more.
async fn follow_drops(writer: &mut OwnedWriteHalf, engine: &Engine) {
    let watched = engine.ask(Command::Drops).await;
    let Watched { last, mut next } = match watched {
        Ok(watched) => watched,
        Err(error) => return drop(say(writer, &Response::Error(error)).await),
    };
    let mut answer = Response::Drops { drops: last, missed: 0 };
    while say(writer, &answer).await.is_ok() {
        answer = match next.recv().await {
            Ok(dropped) => Response::Drops { drops: vec![dropped], missed: 0 },
            Err(RecvError::Lagged(missed)) => Response::Drops { drops: Vec::new(), missed },
            Err(RecvError::Closed) => return,
        };
    }
}

async fn say(writer: &mut OwnedWriteHalf, response: &Response) -> io::Result<()> {
    writer.write_all(&line::encode(response)?).await
}

fn read_request(line: &[u8]) -> Result<Request, Error> {
    let refuse = |code, message| Error { code, message, details: Vec::new() };
    let value: serde_json::Value = line::decode(line)
        .map_err(|error| refuse(Code::InvalidRequest, format!("the request is not one line of JSON: {error}")))?;
    // The version comes first: a request of another version need not have a shape that this netd knows.
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    if version != Some(u64::from(VERSION)) {
        let version = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
        let message =
            format!("this netd speaks protocol version {VERSION}, the caller {version}: use programs of one release");
        return Err(refuse(Code::IncompatibleVersion, message));
    }
    serde_json::from_value::<Envelope>(value)
        .map(|envelope| envelope.request)
        .map_err(|error| refuse(Code::InvalidRequest, format!("the request cannot be read: {error}")))
}

async fn answer(request: Request, engine: &Engine, source: &Source) -> Result<Response, Error> {
    match request {
        Request::Attach(attach) => {
            let fresh = Box::new(source.read(attach.pod.as_ref()).await?);
            let request = Box::new(attach);
            engine.ask(|reply| Command::Attach { request, fresh, reply }).await.map(Response::Attached)
        }
        Request::Detach(sandbox) => {
            engine.ask(|reply| Command::Detach { sandbox, reply }).await.map(|()| Response::Done)
        }
        Request::Check(check) => {
            let request = Box::new(check);
            engine.ask(|reply| Command::Check { request, reply }).await.map(|()| Response::Done)
        }
        Request::Gc { valid } => engine.ask(|reply| Command::Gc { valid, reply }).await.map(|()| Response::Done),
        Request::Status => engine.ask(Command::Status).await.map(|()| Response::Done),
        Request::Judge { packets } => {
            let (judgements, differences) = engine.ask(|reply| Command::Judge { packets, reply }).await?;
            Ok(Response::Judged { judgements, differences })
        }
        Request::Drops { .. } => {
            let drops = engine.ask(Command::Drops).await?.last;
            Ok(Response::Drops { drops, missed: 0 })
        }
        Request::Connections => connections::of_pods(engine).await,
        Request::Policies => engine.ask(Command::Policies).await.map(|policies| Response::Policies { policies }),
        Request::Report => engine.ask(Command::Report).await.map(|report| Response::Report { report }),
    }
}

#[cfg(test)]
mod tests {
    use minipod_protocol::netd::{Code, Request};

    use super::read_request;

    #[track_caller]
    fn refused(line: &str) -> Code {
        read_request(line.as_bytes()).expect_err("a refusal").code
    }

    #[test]
    fn a_request_is_read_or_refused_with_its_reason() {
        assert!(matches!(read_request(br#"{"version":1,"verb":"status"}"#), Ok(Request::Status)));
        assert_eq!(refused("no json"), Code::InvalidRequest);
        assert_eq!(refused(r#"{"verb":"status"}"#), Code::IncompatibleVersion);
        assert_eq!(refused(r#"{"version":2,"verb":"dance"}"#), Code::IncompatibleVersion);
        assert_eq!(refused(r#"{"version":1,"verb":"dance"}"#), Code::InvalidRequest);
        assert_eq!(refused(r#"{"version":1,"verb":"detach"}"#), Code::InvalidRequest);
    }
}
