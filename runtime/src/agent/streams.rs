//! Logs, exec and attach for the API server: files and shims' sockets behind [`PodStreams`].

use std::cmp::Ordering;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream;
use minipod_api::PodStreams;
use minipod_api::streams::{Input, LogOptions, LogStream, Output, Session, SessionOptions, StreamError, Target};
use minipod_protocol::frame::{self, Channel, MAX_PAYLOAD};
use minipod_protocol::shim::{AttachStreams, Exec, Exit, Phase, Reply, Request, State, TerminalSize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::log::{Reader, Start, find_logs};
use super::{all_containers, shim};
use crate::node::Directories;

/// How often a followed log is looked at while it does not grow.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What is written last may come this much after its container has ended.
const LAST_LINES: Duration = Duration::from_millis(100);
/// Frames that wait for a slow client, before the shim is made to wait.
const QUEUE: usize = 16;

/// The streams of this node's pods.
#[derive(Debug, Clone)]
pub struct Streams {
    directories: Directories,
}

impl Streams {
    /// Of the pods in these directories.
    #[must_use]
    pub fn new(directories: Directories) -> Self {
        Self { directories }
    }

    fn directory(&self, target: &Target) -> PathBuf {
        self.directories.pods().join(&target.uid)
    }

    async fn session(&self, target: &Target, request: &Request, stdin: bool) -> Result<Session, StreamError> {
        let socket = self.directory(target).join(minipod_protocol::shim::files::SOCKET);
        let mut stream = UnixStream::connect(&socket).await.map_err(|_| not_running(target))?;
        let failed = |source: io::Error| no_reply(target, source);
        shim::send(&mut stream, request).await.map_err(failed)?;
        let mut stream = BufReader::new(stream);
        match shim::receive_reply(&mut stream).await.map_err(failed)? {
            Reply::Started => Ok(bridge(stream, stdin)),
            Reply::Error(failure) if failure.reason == "NotRunning" => Err(not_running(target)),
            Reply::Error(failure) => Err(StreamError::Internal { message: failure.message, source: None }),
            Reply::Done => Err(failed(ErrorKind::InvalidData.into())),
        }
    }
}

fn not_running(target: &Target) -> StreamError {
    StreamError::BadRequest(format!("container \"{}\" in pod \"{}\" is not running", target.container, target.name))
}

/// What it means that no reply came: a shim ends with its containers, and closes its connections by that.
fn no_reply(target: &Target, source: io::Error) -> StreamError {
    match source.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => not_running(target),
        _ => StreamError::Internal {
            message: format!("the shim of pod \"{}\" does not answer", target.name),
            source: Some(source.into()),
        },
    }
}

#[async_trait]
impl PodStreams for Streams {
    async fn logs(&self, target: Target, options: LogOptions) -> Result<LogStream, StreamError> {
        let logs = find_logs(&self.directories.logs().join(&target.uid).join(&target.container));
        let place = if options.previous { logs.len().checked_sub(2) } else { logs.len().checked_sub(1) };
        let Some((start, path)) = place.and_then(|place| logs.get(place)).cloned() else {
            return Err(no_log(&self.directory(&target), &target, options.previous));
        };
        let reader = Reader::open(&path, &options).map_err(|source| StreamError::Internal {
            message: format!("cannot read the log of container \"{}\"", target.container),
            source: Some(source.into()),
        })?;
        let follow = (options.follow && !options.previous).then(|| Follow {
            directory: self.directory(&target),
            container: target.container.clone(),
            start,
            ended: None,
        });
        Ok(stream::try_unfold((reader, follow), next_lines).boxed())
    }

    async fn exec(
        &self,
        target: Target,
        command: Vec<String>,
        options: SessionOptions,
    ) -> Result<Session, StreamError> {
        let exec = Exec {
            container: target.container.clone(),
            args: command,
            tty: options.tty,
            stdin: options.stdin,
            size: None,
            env: std::collections::BTreeMap::new(),
        };
        self.session(&target, &Request::Exec(exec), options.stdin).await
    }

    async fn attach(&self, target: Target, options: SessionOptions) -> Result<Session, StreamError> {
        let attach = AttachStreams { container: target.container.clone(), stdin: options.stdin, size: None };
        self.session(&target, &Request::Attach(attach), options.stdin).await
    }
}

fn no_log(directory: &Path, target: &Target, previous: bool) -> StreamError {
    let (container, pod) = (&target.container, &target.name);
    if previous {
        return StreamError::BadRequest(format!(
            "previous terminated container \"{container}\" in pod \"{pod}\" not found"
        ));
    }
    let state = shim::read_state(directory);
    let found = state.iter().flat_map(|state| all_containers(state)).find(|state| state.name == *container);
    let reason = match found.map(|state| &state.phase) {
        Some(Phase::Waiting(failure)) => failure.reason.clone(),
        _ => "ContainerCreating".to_owned(),
    };
    StreamError::BadRequest(format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}"))
}

/// Waiting for more of a log until its container has ended.
struct Follow {
    directory: PathBuf,
    container: String,
    start: Start,
    /// since when nothing more is to come
    ended: Option<Instant>,
}

impl Follow {
    /// Whether this start of the container has ended.
    fn has_ended(&self) -> bool {
        let Some(record) = shim::find_record(&self.directory) else { return true };
        let state = shim::read_state(&self.directory);
        has_ended(self.start, &self.container, record.run, state.as_deref())
            || shim::process(&self.directory).is_some_and(|process| !process.is_alive())
    }
}

/// Whether a start of a container has ended, by the number of the pod's present shim and what that one wrote last. A log exists
/// before the shim says that its container runs: what it says until then is of the start before.
fn has_ended(start: Start, container: &str, run: u32, state: Option<&State>) -> bool {
    if run != start.run {
        return run > start.run;
    }
    // Without a state the shim has only just begun.
    let Some(state) = state else { return false };
    let Some(found) = all_containers(state).find(|state| state.name == container) else { return true };
    state.finished
        || match found.restarts.cmp(&start.attempt) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => match found.phase {
                Phase::Running { .. } => false,
                Phase::Terminated(_) => true,
                // Before its first start a container has no end behind it.
                Phase::Waiting(_) => found.last.is_some(),
            },
        }
}

type Step = Option<(Bytes, (Reader, Option<Follow>))>;

/// The next piece of a log; none at its end.
async fn next_lines((mut reader, mut follow): (Reader, Option<Follow>)) -> io::Result<Step> {
    if reader.is_done() {
        return Ok(None);
    }
    loop {
        match reader.next()? {
            Some(bytes) if bytes.is_empty() => {}
            Some(bytes) => return Ok(Some((bytes, (reader, follow)))),
            None => {
                let Some(follow) = &mut follow else { return Ok(None) };
                match follow.ended {
                    Some(at) if at.elapsed() >= LAST_LINES => return Ok(None),
                    Some(_) => {}
                    None if !follow.has_ended() => {}
                    None => follow.ended = Some(Instant::now()),
                }
                sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// Passes frames between the shim and the API server until one of them ends.
fn bridge(stream: BufReader<UnixStream>, stdin: bool) -> Session {
    let rest = Bytes::copy_from_slice(stream.buffer());
    let (from_shim, to_shim) = stream.into_inner().into_split();
    let (input, inbox) = mpsc::channel(QUEUE);
    let (outbox, output) = mpsc::channel(QUEUE);
    let writer = tokio::spawn(write_input(inbox, to_shim, stdin));
    tokio::spawn(async move {
        // What came with the reply, then what comes.
        let mut reader = BufReader::new(rest.as_ref().chain(from_shim));
        loop {
            let next = tokio::select! {
                frame = read_frame(&mut reader) => frame,
                () = outbox.closed() => break,
            };
            let (last, said) = match next {
                Ok((Channel::Stdout, payload)) => (false, Output::Stdout(payload)),
                Ok((Channel::Stderr, payload)) => (false, Output::Stderr(payload)),
                Ok((Channel::Exit, payload)) => (true, exit(&payload)),
                Ok(_) => (true, Output::Failed("the pod's shim sent a frame that it must not send".to_owned())),
                Err(error) => (true, Output::Failed(format!("the pod's shim closed the session: {error}"))),
            };
            if outbox.send(said).await.is_err() || last {
                break;
            }
        }
        writer.abort();
    });
    Session { input, output }
}

fn exit(payload: &[u8]) -> Output {
    match serde_json::from_slice::<Exit>(payload) {
        Ok(Exit { error: Some(error), .. }) => Output::Failed(error),
        Ok(Exit { code, error: None }) => Output::Exit(code),
        Err(error) => Output::Failed(format!("the pod's shim sent no exit code: {error}")),
    }
}

async fn read_frame(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<(Channel, Bytes)> {
    let mut head = [0; 5];
    reader.read_exact(&mut head).await?;
    let (channel, length) = frame::parse_head(head)?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).await?;
    Ok((channel, payload.into()))
}

/// Ends when the client has gone; the connection's other half ends the session.
async fn write_input(mut inbox: mpsc::Receiver<Input>, mut to_shim: OwnedWriteHalf, stdin: bool) {
    while let Some(input) = inbox.recv().await {
        let written = match input {
            Input::Stdin(bytes) if stdin => write_stdin(&mut to_shim, &bytes).await,
            Input::CloseStdin if stdin => write_frame(&mut to_shim, Channel::Stdin, &[]).await,
            Input::Stdin(_) | Input::CloseStdin => Ok(()),
            Input::Resize(size) => {
                let size = TerminalSize { width: size.width, height: size.height };
                match serde_json::to_vec(&size) {
                    Ok(payload) => write_frame(&mut to_shim, Channel::Resize, &payload).await,
                    Err(_) => Ok(()),
                }
            }
        };
        if written.is_err() {
            return;
        }
    }
}

async fn write_stdin(to_shim: &mut OwnedWriteHalf, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(MAX_PAYLOAD) {
        write_frame(to_shim, Channel::Stdin, piece).await?;
    }
    Ok(())
}

async fn write_frame(to_shim: &mut OwnedWriteHalf, channel: Channel, payload: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(5 + payload.len());
    frame::write(&mut bytes, channel, payload)?;
    to_shim.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use minipod_api::streams::{StreamError, Target};
    use minipod_protocol::shim::{ContainerState, Failure, Phase, State, Terminated};

    use super::super::log::Start;
    use super::{has_ended, no_reply};

    #[test]
    fn a_shim_that_ends_before_it_replies_has_no_running_container() {
        let target = || Target { namespace: "ns".into(), name: "a".into(), uid: "u".into(), container: "c".into() };
        for kind in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::UnexpectedEof] {
            assert!(matches!(no_reply(&target(), kind.into()), StreamError::BadRequest(_)), "{kind}");
        }
        assert!(matches!(no_reply(&target(), ErrorKind::InvalidData.into()), StreamError::Internal { .. }));
    }

    fn end() -> Terminated {
        Terminated {
            reason: "Error".into(),
            message: String::new(),
            exit_code: 1,
            signal: None,
            started_at: 0,
            finished_at: 1,
        }
    }

    fn waiting(reason: &str) -> Phase {
        Phase::Waiting(Failure { reason: reason.into(), message: String::new() })
    }

    fn running() -> Phase {
        Phase::Running { pid: 1, started_at: 0 }
    }

    /// A state that says this of the container `c`.
    fn state(phase: Phase, last: Option<Terminated>, restarts: u32) -> State {
        State {
            uid: "u".into(),
            pid: 1,
            start_time: 1,
            network: None,
            failure: None,
            init_containers: Vec::new(),
            containers: vec![ContainerState { name: "c".into(), phase, last, restarts }],
            stopping: false,
            network_released: false,
            finished: false,
        }
    }

    #[track_caller]
    fn check(run: u32, state: Option<&State>, attempt: u32, expected: bool) {
        assert_eq!(has_ended(Start { run: 3, attempt }, "c", run, state), expected, "{run} {attempt} {state:?}");
    }

    #[test]
    fn a_log_is_followed_from_before_its_container_runs_to_its_end() {
        check(3, None, 0, false);
        check(3, Some(&state(waiting("ContainerCreating"), None, 0)), 0, false);
        check(3, Some(&state(waiting("CreateContainerError"), None, 0)), 0, false);
        check(3, Some(&state(running(), None, 0)), 0, false);
        check(3, Some(&state(Phase::Terminated(end()), None, 0)), 0, true);
        check(3, Some(&state(waiting("CrashLoopBackOff"), Some(end()), 0)), 0, true);
        check(3, Some(&State { finished: true, ..state(running(), None, 0) }), 0, true);
    }

    #[test]
    fn the_state_of_the_start_before_does_not_end_a_log() {
        check(3, Some(&state(Phase::Terminated(end()), None, 0)), 1, false);
        check(3, Some(&state(waiting("CrashLoopBackOff"), Some(end()), 0)), 1, false);
        check(3, Some(&state(running(), Some(end()), 1)), 1, false);
        check(3, Some(&state(Phase::Terminated(end()), Some(end()), 1)), 1, true);
        check(2, Some(&state(Phase::Terminated(end()), None, 0)), 0, false);
    }

    #[test]
    fn a_later_start_ends_a_log() {
        check(3, Some(&state(running(), Some(end()), 2)), 1, true);
        check(4, None, 0, true);
        check(4, Some(&state(running(), None, 0)), 0, true);
    }
}
