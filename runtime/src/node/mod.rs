//! The node daemon: one process that holds the API server, the network daemon, the controllers and the pod agent.
//!
//! Decides the order in which the parts start and stop, and what is left behind: [`serve`] leaves pods, links and
//! policies as they are when it ends, [`reset`] removes everything that was ever made on this machine.

mod addresses;
mod daemon;
pub(crate) mod directory;
pub(crate) mod files;
pub mod lock;
mod log;
mod machine;
mod name;
pub(crate) mod namespace;
mod network;
pub mod options;
pub mod privileges;
mod register;
mod reset;
mod started;

use std::io;
use std::path::PathBuf;

use minipod_kernel::host::{effective_uid, hostname};
use minipod_kernel::memory::give_back_large_blocks;
use minipod_kernel::process::raise_open_files;

pub use name::NameError;
pub use options::{Directories, GivenDirectories, Options, OptionsError, Settings};
pub use register::RegisterError;
pub use started::{Started, StartedError};

/// Threads for everything that waits: the node is idle most of the time.
const WORKERS: usize = 2;
/// Threads for files and subprocesses; they end when idle.
const BLOCKING_THREADS: usize = 16;

/// Why the daemon did not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// an option that cannot work
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// not the options of the start
    #[error(transparent)]
    Started(#[from] StartedError),
    /// not root
    #[error("`minipod node` needs root (it runs as user {uid}): start it with `sudo`")]
    NotRoot {
        /// the effective user
        uid: u32,
    },
    /// root without its privileges
    #[error(transparent)]
    Privileges(#[from] privileges::PrivilegesError),
    /// another daemon serves the same run directory
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// the log filter
    #[error(transparent)]
    Log(#[from] log::LogError),
    /// the runtime could not be started
    #[error("cannot start the node's worker threads")]
    Runtime(#[source] io::Error),
    /// the state directory
    #[error(transparent)]
    Directory(#[from] directory::DirectoryError),
    /// what an earlier boot left could not be removed
    #[error("cannot remove what an earlier boot left in `{}`", .path.display())]
    Sweep {
        /// the run directory
        path: PathBuf,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
    /// the store or its first objects
    #[error(transparent)]
    Store(#[from] minipod_api::OpenError),
    /// the store is gone, and what it knew is there
    #[error(
        "the store `{}` is missing, but {pods} of its pods are here: put it, or a copy from a backup, back in its place, or remove \
         everything with `minipod node reset --yes`", .store.display()
    )]
    StoreMissing {
        /// the file
        store: PathBuf,
        /// how many directories of pods there are
        pods: usize,
    },
    /// the API's socket
    #[error(transparent)]
    Api(#[from] minipod_api::ServeError),
    /// the node's name
    #[error(transparent)]
    Name(#[from] NameError),
    /// the Node object
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// the image store
    #[error(transparent)]
    Images(Box<minipod_image::StoreError>),
    /// links, routes, rules
    #[error(transparent)]
    Netd(#[from] netd::StartError),
    /// cgroups
    #[error(transparent)]
    Cgroups(#[from] minipod_kernel::cgroup::CgroupError),
    /// a part ended by itself
    #[error("the {part} ended by itself: see the log above, and start the node again")]
    PartEnded {
        /// which
        part: &'static str,
    },
}

/// Why a reset did not remove everything.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// an option that cannot work
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// not the options of the start
    #[error(transparent)]
    Started(#[from] StartedError),
    /// not root
    #[error("`minipod node reset` needs root (it runs as user {uid}): start it with `sudo`")]
    NotRoot {
        /// the effective user
        uid: u32,
    },
    /// directories that no node has used
    #[error(transparent)]
    Directory(#[from] directory::DirectoryError),
    /// a daemon is running and does not end
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// the daemon could not be ended
    #[error("cannot end the node's daemon (process {pid}): stop it with `minipod node stop`, then reset again")]
    Daemon {
        /// its process
        pid: i32,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
    /// something is left
    #[error("not everything is removed; see to it and reset again:\n{}", .problems.join("\n"))]
    Left {
        /// what was removed all the same
        removed: Vec<String>,
        /// what is still there, and why
        problems: Vec<String>,
    },
}

/// What a reset removed, for the person who asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResetReport {
    /// one line per kind of thing, e.g. `2 pods`, `14 chains`; empty when there was nothing
    pub removed: Vec<String>,
    /// one line per directory with entries that no node made
    pub left: Vec<String>,
}

/// Runs the daemon in the foreground until SIGTERM or SIGINT. Pods, links and policies stay when it ends.
///
/// Blocking: it makes its own tokio runtime and must not be called inside one.
///
/// # Errors
/// What kept the daemon from starting, in one message that names the next step; the same message is the last error in
/// its log.
pub fn serve(options: &Options) -> Result<(), ServeError> {
    // Only root may read the name that is kept.
    require_root(|uid| ServeError::NotRoot { uid })?;
    let options = options.complete()?;
    let settings = options.check(&name::kept(&options.directories.or_default())?.unwrap_or_else(hostname))?;
    privileges::check()?;
    log::start(&settings.log)?;
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    give_back_large_blocks();
    // Before anything is made: what is refused here leaves nothing.
    let _namespace = namespace::take(&settings.directories)?;
    let _lock = lock::Lock::acquire(&settings.directories)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let served = runtime.block_on(daemon::run(settings, hostname()));
    // Work on files that is still going on is not waited for.
    runtime.shutdown_background();
    served
}

/// Removes every trace: pods, links, routes, chains, sets, mounts, cgroups, the run directory, the store, images and logs;
/// restores sysctls. Works with or without a running daemon (which it ends), as often as one likes.
///
/// Blocking, like [`serve`].
///
/// # Errors
/// What could not be removed; the rest is removed all the same.
pub fn reset(options: &Options) -> Result<ResetReport, ResetError> {
    require_root(|uid| ResetError::NotRoot { uid })?;
    let settings = options.complete()?.check(&hostname())?;
    reset::reset(&settings)
}

fn require_root<E>(error: impl FnOnce(u32) -> E) -> Result<(), E> {
    match effective_uid() {
        0 => Ok(()),
        uid => Err(error(uid)),
    }
}
