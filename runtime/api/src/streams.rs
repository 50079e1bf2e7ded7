//! What the API server needs of a pod agent for `pods/log`, `pods/exec` and `pods/attach`: plain channels, so that this crate
//! knows nothing of shims. The server has looked the pod up and chosen the container before any of these is called.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::mpsc;

/// The pod that a stream belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// one of `spec.containers` or `spec.initContainers`
    pub container: String,
}

/// The query of `pods/log`. Fields as in Kubernetes' `PodLogOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// go on until the container has ended or the client leaves
    pub follow: bool,
    /// the log of the container before its last restart
    pub previous: bool,
    /// begin each line with its time (RFC 3339 with nanoseconds) and a space
    pub timestamps: bool,
    /// only lines written at or after this instant; made of `sinceTime` or `sinceSeconds`
    pub since: Option<Timestamp>,
    /// only so many of the last lines
    pub tail_lines: Option<u64>,
    /// end after so many bytes
    pub limit_bytes: Option<u64>,
    /// only what the container wrote to this one; both without
    pub stream: Option<LogSource>,
}

/// One of a container's two outputs. A terminal is standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// `stream=Stdout`
    Stdout,
    /// `stream=Stderr`
    Stderr,
}

/// The query of `pods/exec` and `pods/attach`.
#[expect(clippy::struct_excessive_bools, reason = "the fields of Kubernetes' `PodExecOptions`")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// the client sends standard input
    pub stdin: bool,
    /// the client wants standard output
    pub stdout: bool,
    /// the client wants standard error; never together with `tty`
    pub stderr: bool,
    /// a terminal
    pub tty: bool,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// columns
    pub width: u16,
    /// lines
    pub height: u16,
}

/// What a client sends in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// bytes for standard input
    Stdin(Bytes),
    /// standard input ends here
    CloseStdin,
    /// the client's terminal has this size
    Resize(TerminalSize),
}

/// What a session sends back. The last one is [`Output::Exit`] or [`Output::Failed`]; nothing follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// bytes from the process
    Stdout(Bytes),
    /// bytes from the process
    Stderr(Bytes),
    /// the process ended with this code, or 128 + signal
    Exit(i32),
    /// the session ended without an exit code of the process's own
    Failed(String),
}

/// A running exec or attach session.
#[derive(Debug)]
pub struct Session {
    /// to the process; closed when the client has gone, which ends the session but kills nothing
    pub input: mpsc::Sender<Input>,
    /// from the process
    pub output: mpsc::Receiver<Output>,
}

/// The text of a log: CRI prefixes removed, lines end in `\n`.
pub type LogStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// the pod or container is not in a state for it, e.g. `container "web" in pod "a" is waiting to start: ContainerCreating`
    #[error("{0}")]
    BadRequest(String),
    /// there is no such pod, container or log on this node
    #[error("{0}")]
    NotFound(String),
    /// anything else
    #[error("{message}")]
    Internal {
        /// what could not be done
        message: String,
        /// why
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// The pod agent as the API server sees it.
#[async_trait]
pub trait PodStreams: Send + Sync + 'static {
    /// The container's log.
    async fn logs(&self, target: Target, options: LogOptions) -> Result<LogStream, StreamError>;

    /// Runs a process in the container. `command` is program and arguments, never empty.
    async fn exec(&self, target: Target, command: Vec<String>, options: SessionOptions)
    -> Result<Session, StreamError>;

    /// Joins the container's own streams.
    async fn attach(&self, target: Target, options: SessionOptions) -> Result<Session, StreamError>;
}
