//! One daemon per run directory: a lock on `node.lock`, and `node.pid` that says who holds it.
//!
//! The kernel drops the lock when its holder dies, so a stale file never keeps a daemon from starting.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use minipod_kernel::lock::FileLock;
use minipod_kernel::process::{start_time, wait_for_end};
use serde::{Deserialize, Serialize};

use super::directory::{self, DirectoryError};
use super::options::Directories;

/// A daemon that was killed has everything closed within this time: this lock, the store's, and its sockets.
const ENDING: Duration = Duration::from_secs(5);

/// The daemon's process, as `node.pid` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// the process
    pub pid: i32,
    /// its start in clock ticks after boot (`/proc/PID/stat`, field 22): with `pid` it is unique
    pub start_time: u64,
}

/// Why the run directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// another daemon has it
    #[error("a node daemon already serves `{}`{}: stop it with `minipod node stop`", .run_dir.display(), process(.daemon.as_ref()))]
    Held {
        /// the directory
        run_dir: PathBuf,
        /// who has it, if it says so
        daemon: Option<Daemon>,
    },
    /// a node with other directories has this network namespace
    #[error(
        "another node has this network namespace{}, and a second one would remove its pods' network: use that one with \
         `--run-dir {} --state-dir {}`, or remove it with `minipod node reset --yes --run-dir {1} --state-dir {2}`",
        of_process(*.pid), .run_dir.display(), .state_dir.display()
    )]
    OtherNode {
        /// its daemon, where it is seen from here
        pid: Option<i32>,
        /// its run directory
        run_dir: PathBuf,
        /// its state directory
        state_dir: PathBuf,
    },
    /// something that is no node daemon has the name
    #[error(
        "something holds the socket `@{}` of this network namespace{} and does not say for which node: find it with \
         `ss -xlp`, end it, and try again", super::namespace::NAME, of_process(*.pid)
    )]
    Unknown {
        /// the process, where it is seen from here
        pid: Option<i32>,
    },
    /// the network namespace could not be asked or taken
    #[error("cannot take this network namespace for the node: check that unix sockets can be made")]
    Claim(#[source] io::Error),
    /// the run directory
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// a file could not be made
    #[error("cannot prepare `{}`", .path.display())]
    Io {
        /// the file
        path: PathBuf,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
}

fn process(daemon: Option<&Daemon>) -> String {
    daemon.map(|daemon| format!(" (process {})", daemon.pid)).unwrap_or_default()
}

fn of_process(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// The right to serve a run directory, kept until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: FileLock,
    pid_file: PathBuf,
    found_directory: bool,
}

impl Lock {
    /// Takes the run directory, made if need be (mode 0700: only root talks to the daemon), and writes `node.pid`.
    ///
    /// # Errors
    /// [`LockError::Held`] when another daemon has it. One that is just ending is waited for.
    pub fn acquire(directories: &Directories) -> Result<Self, LockError> {
        Self::acquire_within(directories, ENDING)
    }

    fn acquire_within(directories: &Directories, patience: Duration) -> Result<Self, LockError> {
        let failed = |path: &PathBuf| {
            let path = path.clone();
            move |source| LockError::Io { path, source }
        };
        let run_dir = &directories.run_dir;
        let found_directory = run_dir.is_dir();
        directory::ensure_run_dir(directories)?;
        let held = |daemon| LockError::Held { run_dir: run_dir.clone(), daemon };
        // Who ended by himself has removed the file. The rest are still ending, or alive.
        if let Some(earlier) = named(directories)
            && !wait_for_end(earlier.pid, earlier.start_time, patience).map_err(failed(&directories.pid_file()))?
        {
            return Err(held(Some(earlier)));
        }
        let path = run_dir.join("node.lock");
        let Some(file) = FileLock::try_acquire(&path).map_err(failed(&path))? else {
            return Err(held(running(directories)));
        };
        let pid_file = directories.pid_file();
        let daemon = Daemon::of_this_process().map_err(failed(&pid_file))?;
        let text = serde_json::to_vec(&daemon).map_err(|e| failed(&pid_file)(e.into()))?;
        fs::write(&pid_file, text).map_err(failed(&pid_file))?;
        Ok(Self { _file: file, pid_file, found_directory })
    }

    /// Whether the run directory was there before it was taken.
    pub(super) fn found_directory(&self) -> bool {
        self.found_directory
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file only informs; the lock itself goes with the descriptor.
        let _ = fs::remove_file(&self.pid_file);
    }
}

impl Daemon {
    pub(super) fn of_this_process() -> io::Result<Self> {
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let start_time =
            start_time(pid)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such process in /proc"))?;
        Ok(Self { pid, start_time })
    }

    /// Whether that very process still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        start_time(self.pid).ok().flatten() == Some(self.start_time)
    }
}

/// The daemon that serves these directories now, if one does.
#[must_use]
pub fn running(directories: &Directories) -> Option<Daemon> {
    named(directories).filter(Daemon::is_alive)
}

/// The daemon that `node.pid` names.
fn named(directories: &Directories) -> Option<Daemon> {
    serde_json::from_slice(&fs::read(directories.pid_file()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Directories, Lock, LockError, running};

    #[test]
    fn one_run_directory_has_one_daemon() {
        let dir = tempfile::tempdir().expect("a directory");
        let directories = Directories { run_dir: dir.path().join("run"), state_dir: dir.path().join("state") };
        let lock = Lock::acquire(&directories).expect("the first takes it");
        assert_eq!(running(&directories).map(|d| d.pid), i32::try_from(std::process::id()).ok());
        let second = Lock::acquire_within(&directories, Duration::ZERO).expect_err("the second does not");
        assert!(matches!(second, LockError::Held { daemon: Some(_), .. }), "{second}");
        drop(lock);
        assert_eq!(running(&directories), None);
        Lock::acquire(&directories).expect("the third takes it again");
    }
}
