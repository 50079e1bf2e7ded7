//! A pod's shim from outside: starting it, finding it again, asking it. The shim owns everything of the pod; this module only
//! talks, and tells apart a shim from another process that got its number.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use minipod_kernel::process::{PidFd, Signal, spawn_detached, start_time};
use minipod_protocol::line::{self, MAX_LINE};
use minipod_protocol::shim::{Reply, Request, Sandbox, State, files};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::status::Past;
use crate::node::lock;

/// What the agent keeps in a pod's directory beside the shim's files.
pub(super) const AGENT_FILE: &str = "agent.json";

/// A new shim listens within this time, or is given up.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
/// An answer comes within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// A shim that closed its socket ends within this time.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// So much of `shim.log` goes into a message.
const LOG_TAIL: usize = 400;

/// `agent.json`: what a later daemon needs to know that the shim does not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// how many shims the pod had before
    pub(super) run: u32,
    /// what its containers have behind them
    #[serde(default)]
    pub(super) past: std::collections::BTreeMap<String, Past>,
    /// the shim's process, once started
    #[serde(default)]
    pub(super) process: Option<lock::Daemon>,
}

/// Why there is no shim.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShimError {
    /// the program cannot be executed
    #[error("cannot start `{}`; install it beside `minipod` or set MINIPOD_SHIM", .program.display())]
    Spawn {
        /// the program
        program: PathBuf,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
    /// a file of the pod's directory
    #[error("cannot write `{}`", .path.display())]
    File {
        /// the file
        path: PathBuf,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
    /// it ended before it listened
    #[error("the pod's shim ended at once: {0}")]
    Ended(String),
    /// it does not listen
    #[error("the pod's shim does not answer on `{}`", .socket.display())]
    Silent {
        /// the socket
        socket: PathBuf,
        /// the last try
        #[source]
        source: io::Error,
    },
    /// it refused
    #[error("the pod's shim refused: {0}")]
    Refused(String),
}

/// A shim that is being watched.
#[derive(Debug)]
pub(super) struct Shim {
    directory: PathBuf,
    /// of a shim that this daemon started; waited for, so that it leaves no zombie
    child: Option<Child>,
    process: Option<Arc<PidFd>>,
    lines: BufReader<UnixStream>,
}

/// What a shim says next.
#[derive(Debug)]
pub(super) enum Said {
    /// a state
    State(Box<State>),
    /// it has ended; the last state that it wrote, if any
    Ended(Option<Box<State>>),
}

impl Shim {
    /// Writes the pod's directory and starts a shim there. What an earlier shim of this pod left in the directory must have been
    /// cleaned before.
    pub(super) async fn start(
        program: &Path,
        directory: &Path,
        sandbox: &Sandbox,
        mut record: Record,
    ) -> Result<Self, ShimError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| ShimError::File { path, source }
        };
        create_private(directory).map_err(file(directory))?;
        for old in [files::STATE, files::SOCKET] {
            let path = directory.join(old);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(&path)(error)),
                _ => {}
            }
        }
        write_json(&directory.join(files::SANDBOX), sandbox)?;
        write_json(&directory.join(AGENT_FILE), &record)?;
        let log_path = directory.join(files::LOG);
        let log = File::options().create(true).append(true).open(&log_path).map_err(file(&log_path))?;
        let child = spawn_detached(program, &[directory.as_os_str()], log)
            .map_err(|source| ShimError::Spawn { program: program.to_owned(), source })?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        // Our own child: its number is its own until it is waited for.
        let process = PidFd::open(pid).ok().flatten().map(Arc::new);
        record.process = start_time(pid).ok().flatten().map(|start_time| lock::Daemon { pid, start_time });
        let mut child = child;
        match wait_for_socket(directory, &mut child).await {
            Ok(stream) => {
                write_json(&directory.join(AGENT_FILE), &record)?;
                Ok(Self { directory: directory.to_owned(), child: Some(child), process, lines: BufReader::new(stream) })
            }
            Err(error) => {
                // It may be hanging; nobody would ever ask it again.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Finds the shim of a pod's directory again; its last state where it is gone.
    pub(super) async fn find(directory: &Path, uid: &str) -> Result<Self, Option<Box<State>>> {
        let last = read_state(directory).filter(|state| state.uid == uid);
        let Some(known) = process(directory) else { return Err(last) };
        // The descriptor first, then the question whose it is: the number cannot change hands in between.
        let Some(process) = PidFd::open(known.pid).ok().flatten() else { return Err(last) };
        if !known.is_alive() {
            return Err(last);
        }
        let Ok(mut stream) = UnixStream::connect(directory.join(files::SOCKET)).await else { return Err(last) };
        if send(&mut stream, &Request::Watch).await.is_err() {
            return Err(last);
        }
        let process = Some(Arc::new(process));
        Ok(Self { directory: directory.to_owned(), child: None, process, lines: BufReader::new(stream) })
    }

    /// Waits for the next thing that it says.
    pub(super) async fn next(&mut self) -> Said {
        loop {
            let mut text = Vec::new();
            // A container that is being made holds the socket that it has inherited: the connection may outlive the shim.
            let read = tokio::select! {
                biased;
                read = async { (&mut self.lines).take(MAX_LINE).read_until(b'\n', &mut text).await } => read,
                () = end(self.process.clone()) => Ok(0),
            };
            if matches!(read, Ok(length) if length > 0) {
                match line::decode::<State>(&text) {
                    Ok(state) => return Said::State(Box::new(state)),
                    // Perhaps of another version: the pod is not to suffer for it.
                    Err(error) => tracing::warn!(%error, "the pod's shim said something unknown"),
                }
                continue;
            }
            if self.has_ended().await || self.connect_again().await.is_err() {
                self.kill().await;
                return Said::Ended(read_state(&self.directory));
            }
        }
    }

    /// Waits a while for the end of the process.
    async fn has_ended(&self) -> bool {
        let Some(process) = self.process.clone() else { return true };
        let waited = tokio::task::spawn_blocking(move || process.wait(ENDS_WITHIN));
        matches!(waited.await, Ok(Ok(true)))
    }

    /// A shim that goes on without its watcher has had enough of a slow one.
    async fn connect_again(&mut self) -> io::Result<()> {
        let mut stream = UnixStream::connect(self.directory.join(files::SOCKET)).await?;
        send(&mut stream, &Request::Watch).await?;
        self.lines = BufReader::new(stream);
        Ok(())
    }

    /// Kills what is left of the process, and takes the zombie of one that is a child away.
    async fn kill(&mut self) {
        let (process, child) = (self.process.take(), self.child.take());
        let killed = tokio::task::spawn_blocking(move || {
            if let Some(process) = process {
                let _ = process.signal(Signal::SIGKILL);
                let _ = process.wait(ENDS_WITHIN);
            }
            child.map(|mut child| child.wait())
        });
        let _ = killed.await;
    }
}

/// Waits for the end of the process; for ever where the kernel does not tell.
async fn end(process: Option<Arc<PidFd>>) {
    #[expect(deprecated, reason = "unsound for types that may change their descriptor; a PidFd behind an Arc does not")]
    let watched = process.map(|process| AsyncFd::with_interest(process, Interest::READABLE));
    if let Some(Ok(process)) = watched
        && process.readable().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

async fn wait_for_socket(directory: &Path, child: &mut Child) -> Result<UnixStream, ShimError> {
    let socket = directory.join(files::SOCKET);
    let deadline = Instant::now() + LISTENS_WITHIN;
    let mut pause = Duration::from_millis(1);
    loop {
        let error = match UnixStream::connect(&socket).await {
            Ok(mut stream) => match send(&mut stream, &Request::Watch).await {
                Ok(()) => return Ok(stream),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if matches!(child.try_wait(), Ok(Some(_))) {
            return Err(ShimError::Ended(last_words(directory)));
        }
        if Instant::now() >= deadline {
            return Err(ShimError::Silent { socket, source: error });
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Why a shim that listens no more had to end: its failure, or the end of its log.
fn last_words(directory: &Path) -> String {
    if let Some(failure) = read_state(directory).and_then(|state| state.failure) {
        return failure.message;
    }
    let log = fs::read(directory.join(files::LOG)).unwrap_or_default();
    let tail = log.len().saturating_sub(LOG_TAIL);
    let text = String::from_utf8_lossy(&log[tail..]).trim().to_owned();
    if text.is_empty() { "it left no message".to_owned() } else { text }
}

/// Asks the shim of a pod's directory one thing.
pub(super) async fn ask(directory: &Path, request: &Request) -> Result<(), ShimError> {
    let socket = directory.join(files::SOCKET);
    let asked = timeout(ANSWERS_WITHIN, async {
        let mut stream = UnixStream::connect(&socket).await?;
        send(&mut stream, request).await?;
        receive_reply(&mut BufReader::new(stream)).await
    });
    let reply = asked.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match reply {
        Ok(Reply::Error(failure)) => Err(ShimError::Refused(failure.message)),
        Ok(Reply::Done | Reply::Started) => Ok(()),
        Err(source) => Err(ShimError::Silent { socket, source }),
    }
}

/// Sends a request line.
pub(super) async fn send(stream: &mut UnixStream, request: &Request) -> io::Result<()> {
    stream.write_all(&line::encode(request)?).await
}

/// Waits for one reply line.
pub(super) async fn receive_reply(stream: &mut BufReader<UnixStream>) -> io::Result<Reply> {
    let mut text = Vec::new();
    if stream.take(MAX_LINE).read_until(b'\n', &mut text).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    line::decode(&text)
}

/// The state that a shim wrote last.
pub(super) fn read_state(directory: &Path) -> Option<Box<State>> {
    serde_json::from_slice(&fs::read(directory.join(files::STATE)).ok()?).ok()
}

/// The shim's process, as its last state or the agent's record says.
pub(super) fn process(directory: &Path) -> Option<lock::Daemon> {
    let said = read_state(directory).map(|state| lock::Daemon { pid: state.pid, start_time: state.start_time });
    said.or_else(|| read_record(directory).process)
}

/// Kills the shim of a pod's directory, whatever it is doing; nothing where it has ended.
pub(super) fn kill(directory: &Path) -> io::Result<()> {
    let Some(known) = process(directory) else { return Ok(()) };
    // The descriptor first, then the question whose it is: the number cannot change hands in between.
    match PidFd::open(known.pid)? {
        Some(process) if known.is_alive() => process.signal(Signal::SIGKILL).map(drop),
        _ => Ok(()),
    }
}

/// The agent's own record; empty where there is none.
pub(super) fn read_record(directory: &Path) -> Record {
    find_record(directory).unwrap_or_default()
}

/// The agent's own record; `None` where there is none.
pub(super) fn find_record(directory: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(directory.join(AGENT_FILE)).ok()?).ok()
}

/// What the shim was told.
pub(super) fn read_sandbox(directory: &Path) -> Option<Sandbox> {
    serde_json::from_slice(&fs::read(directory.join(files::SANDBOX)).ok()?).ok()
}

/// Replaces the file as a whole.
fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ShimError> {
    let failed = |source| ShimError::File { path: path.to_owned(), source };
    let text = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    let temporary = path.with_extension("new");
    fs::write(&temporary, text).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

/// A directory that only root can enter.
pub(super) fn create_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::File;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use minipod_kernel::process::{PidFd, Signal, spawn_detached};
    use tokio::io::BufReader;
    use tokio::net::UnixStream;

    use super::{Said, Shim};

    #[tokio::test]
    async fn a_shim_that_is_killed_has_ended_though_somebody_holds_its_socket() {
        let directory = tempfile::tempdir().expect("a directory");
        let (ours, _held) = UnixStream::pair().expect("sockets");
        let log = File::create(directory.path().join("log")).expect("a file");
        let child = spawn_detached(Path::new("sleep"), &[OsStr::new("60")], log).expect("a process");
        let pid = i32::try_from(child.id()).expect("a number");
        let process = PidFd::open(pid).expect("a descriptor").expect("a process");
        assert!(process.signal(Signal::SIGKILL).expect("a signal"));
        let mut shim = Shim {
            directory: directory.path().to_owned(),
            child: Some(child),
            process: Some(Arc::new(process)),
            lines: BufReader::new(ours),
        };
        let said = tokio::time::timeout(Duration::from_secs(10), shim.next()).await;
        assert!(matches!(said, Ok(Said::Ended(None))), "{said:?}");
    }
}
