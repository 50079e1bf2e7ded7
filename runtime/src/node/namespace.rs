//! One daemon per network namespace: a second one with other directories knows nothing of the first one's pods, and would sweep
//! their links and rules away as nobody's.
//!
//! The claim is taken before anything is made or removed. Its holder says which node it is, so that whoever is refused knows what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use minipod_kernel::claim::{Claim, Holder, Says as Told, holder};
use serde::{Deserialize, Serialize};

use super::lock::{Daemon, LockError};
use super::options::Directories;

/// The claim's name, in every network namespace.
pub(super) const NAME: &str = "minipod/netd";
/// A holder that is just ending lets go within this time, on a machine that has other things to do as well.
const ENDING: Duration = Duration::from_secs(10);

/// What a holder says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Says {
    daemon: Daemon,
    run_dir: PathBuf,
    state_dir: PathBuf,
}

/// Takes the network namespace for the node of these directories.
///
/// # Errors
/// Another process has it: [`LockError::Held`], [`LockError::OtherNode`] or [`LockError::Unknown`].
pub(super) fn take(directories: &Directories) -> Result<Claim, LockError> {
    let Directories { run_dir, state_dir } = directories.clone();
    let daemon = Daemon::of_this_process().map_err(LockError::Claim)?;
    let says =
        serde_json::to_vec(&Says { daemon, run_dir, state_dir }).map_err(|error| LockError::Claim(error.into()))?;
    let deadline = Instant::now() + ENDING;
    while Instant::now() < deadline {
        if let Some(claim) = Claim::try_take(NAME, says.clone()).map_err(LockError::Claim)? {
            return Ok(claim);
        }
        refuse_other(directories)?;
        if let Some(Found::Same { daemon }) = found(directories)? {
            return Err(LockError::Held { run_dir: directories.run_dir.clone(), daemon: Some(daemon) });
        }
        thread::yield_now();
    }
    Err(LockError::Unknown { pid: None })
}

/// Refuses when the node of other directories, or something unknown, has this network namespace. Takes nothing.
///
/// # Errors
/// [`LockError::OtherNode`] or [`LockError::Unknown`].
pub(crate) fn refuse_other(directories: &Directories) -> Result<(), LockError> {
    match found(directories)? {
        None | Some(Found::Same { .. }) => Ok(()),
        Some(Found::Other { pid, says }) => {
            Err(LockError::OtherNode { pid, run_dir: says.run_dir, state_dir: says.state_dir })
        }
        Some(Found::Unknown { pid }) => Err(LockError::Unknown { pid }),
    }
}

/// Who has the namespace, seen from a node.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Same { daemon: Daemon },
    Other { pid: Option<i32>, says: Says },
    Unknown { pid: Option<i32> },
}

fn found(directories: &Directories) -> Result<Option<Found>, LockError> {
    let deadline = Instant::now() + ENDING;
    loop {
        match holder(NAME).map_err(LockError::Claim)? {
            None => return Ok(None),
            // A daemon that was killed a moment ago takes questions until the kernel has closed its socket.
            Some(Holder { says: Told::Nothing, .. }) if Instant::now() < deadline => thread::yield_now(),
            Some(Holder { says: Told::Words(words), pid }) => return Ok(Some(judge(directories, pid, &words))),
            Some(Holder { says: Told::Nothing | Told::Silence, pid }) => return Ok(Some(Found::Unknown { pid })),
        }
    }
}

fn judge(directories: &Directories, pid: Option<i32>, says: &[u8]) -> Found {
    match serde_json::from_slice::<Says>(says) {
        Err(_) => Found::Unknown { pid },
        Ok(says) if same(&says.run_dir, &directories.run_dir) && same(&says.state_dir, &directories.state_dir) => {
            // Of its number in its own process namespace it may be known by another one here.
            Found::Same { daemon: Daemon { pid: pid.unwrap_or(says.daemon.pid), ..says.daemon } }
        }
        Ok(says) => Found::Other { pid, says },
    }
}

fn same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    a == b || real(a) == real(b)
}

#[cfg(test)]
mod tests {
    use super::{Daemon, Directories, Found, Says, judge};

    #[test]
    fn a_holder_is_the_same_node_another_one_or_none_that_is_known() {
        let directories = |run: &str, state: &str| Directories { run_dir: run.into(), state_dir: state.into() };
        let says = Says { daemon: Daemon { pid: 1, start_time: 5 }, run_dir: "/r".into(), state_dir: "/s".into() };
        let text = serde_json::to_vec(&says).expect("json");
        let same = Found::Same { daemon: Daemon { pid: 7, start_time: 5 } };
        assert_eq!(judge(&directories("/r", "/s"), Some(7), &text), same);
        let other = Found::Other { pid: Some(7), says };
        assert_eq!(judge(&directories("/r", "/other"), Some(7), &text), other);
        assert_eq!(judge(&directories("/other", "/s"), Some(7), &text), other);
        assert_eq!(judge(&directories("/r", "/s"), Some(7), b""), Found::Unknown { pid: Some(7) });
    }
}
