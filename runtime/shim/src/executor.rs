//! What makes processes in containers. `libcontainer` is the one implementation ([`crate::oci`]); another OCI runtime would
//! be a second one.

use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::{Process, Spec};

use crate::workload::Workload;

/// The standard streams of a new process.
#[derive(Debug)]
pub(crate) enum Stdio {
    /// the process's ends of three pipes (or files)
    Pipes {
        /// descriptor 0
        stdin: OwnedFd,
        /// descriptor 1
        stdout: OwnedFd,
        /// descriptor 2
        stderr: OwnedFd,
    },
    /// a new terminal from the container's devpts
    Terminal,
}

/// A new process.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// in the node's PID namespace; a child of the shim
    pub(crate) pid: i32,
    /// the controlling end of the terminal, with [`Stdio::Terminal`]
    pub(crate) terminal: Option<OwnedFd>,
}

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecutorError {
    /// the container could not be made
    #[error("cannot make container `{id}`")]
    Create {
        /// the container
        id: String,
        /// what refused
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// the process could not be started
    #[error("cannot start a process in container `{id}`")]
    Start {
        /// the container
        id: String,
        /// what refused
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// the terminal did not arrive
    #[error("cannot take over the terminal of container `{id}`")]
    Terminal {
        /// the container
        id: String,
        /// what refused
        #[source]
        source: std::io::Error,
    },
}

/// Makes ready what a process needs and says what it is to be. It is carried out at most once, perhaps in another process.
pub(crate) type Plan<'a, T> = Box<dyn FnOnce() -> anyhow::Result<(T, Workload)> + 'a>;

/// A process that is being made.
pub(crate) trait Making {
    /// Waits until it is made.
    fn finish(self: Box<Self>) -> Result<Spawned, ExecutorError>;
}

/// Makes containers and processes in them. Single-threaded; whoever waits does so for some milliseconds.
pub(crate) trait Executor {
    /// Begins to make a container whose first process waits for [`Executor::start`]. Several may be begun before the first is
    /// finished. What `plan` says is asked for on the way, and what it mounts stays.
    fn create(&self, id: &str, plan: Plan<'_, Spec>, stdio: Stdio) -> Result<Box<dyn Making>, ExecutorError>;

    /// Lets the first process execute its program.
    fn start(&self, id: &str) -> Result<(), ExecutorError>;

    /// Starts a process in a running container.
    fn exec(&self, id: &str, plan: Plan<'_, Process>, stdio: Stdio) -> Result<Spawned, ExecutorError>;

    /// Forgets a container whose processes have ended; succeeds when there is nothing to forget.
    fn forget(&self, id: &str) -> std::io::Result<()>;

    /// Where the files of that container are, below the pod's directory.
    fn bundle(&self, id: &str) -> std::path::PathBuf;
}

/// The names of what can be chosen, for the message that refuses another.
pub(crate) const KNOWN: &str = "libcontainer";

/// The executor of that name, `None` if there is none. Its files are kept in `directory`.
pub(crate) fn by_name(name: &str, directory: &Path) -> Option<Box<dyn Executor>> {
    (name == KNOWN).then(|| Box::new(crate::oci::Libcontainer::new(directory)) as Box<dyn Executor>)
}
