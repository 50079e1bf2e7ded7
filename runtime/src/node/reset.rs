//! Removing everything that was ever made on this machine, in an order that leaves nothing running without its rules: first the
//! daemon, then the pods, then the network, then the files. Every step is tried whatever became of those before it, and a
//! second reset goes on where the first could not.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

use minipod_kernel::cgroup::{CgroupError, Hierarchies};
use minipod_kernel::mount;
use minipod_kernel::process::{PidFd, Signal};

use super::lock::{self, Lock, LockError};
use super::options::Settings;
use super::{ResetError, ResetReport, directory, namespace};
use crate::agent;

/// A daemon ends within this time after SIGTERM, and at once after SIGKILL.
const DAEMON_PATIENCE: Duration = Duration::from_secs(30);
/// Killed processes end within this time.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Does it.
pub(super) fn reset(settings: &Settings) -> Result<ResetReport, ResetError> {
    directory::check_before_removal(&settings.directories)?;
    namespace::refuse_other(&settings.directories)?;
    end_daemon(settings)?;
    let _namespace = namespace::take(&settings.directories)?;
    let lock = Lock::acquire(&settings.directories)?;
    let mut done = Done::default();
    remove_pods(settings, &mut done);
    super::network::reset(settings, &mut done);
    remove_mounts(settings, &mut done);
    if !done.problems.is_empty() {
        // The files say what is still to be restored.
        return Err(ResetError::Left { removed: done.removed, problems: done.problems });
    }
    remove_directories(settings, &mut done, lock.found_directory());
    drop(lock);
    if done.problems.is_empty() {
        return Ok(ResetReport { removed: done.removed, left: done.left });
    }
    Err(ResetError::Left { removed: done.removed, problems: done.problems })
}

/// What became of the steps.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// lines for the person who asked
    pub(super) removed: Vec<String>,
    /// what no node made
    left: Vec<String>,
    /// what is still there, and why
    pub(super) problems: Vec<String>,
}

impl Done {
    /// Notes so many of a thing, if there were any; `things` is the plural.
    pub(super) fn count(&mut self, number: usize, thing: &str, things: &str) {
        match number {
            0 => {}
            1 => self.removed.push(format!("1 {thing}")),
            _ => self.removed.push(format!("{number} {things}")),
        }
    }
}

/// Ends the daemon that serves these directories, if one does. Its pods are ended after it: it must not start them again.
fn end_daemon(settings: &Settings) -> Result<(), ResetError> {
    let Some(daemon) = lock::running(&settings.directories) else { return Ok(()) };
    let failed = |source: io::Error| ResetError::Daemon { pid: daemon.pid, source };
    let Some(process) = PidFd::open(daemon.pid).map_err(failed)? else { return Ok(()) };
    if !daemon.is_alive() {
        return Ok(());
    }
    process.signal(Signal::SIGTERM).map_err(failed)?;
    if process.wait(DAEMON_PATIENCE).map_err(failed)? {
        return Ok(());
    }
    process.signal(Signal::SIGKILL).map_err(failed)?;
    if process.wait(KILL_PATIENCE).map_err(failed)? {
        return Ok(());
    }
    Err(LockError::Held { run_dir: settings.directories.run_dir.clone(), daemon: Some(daemon) }.into())
}

fn remove_pods(settings: &Settings, done: &mut Done) {
    let mut pods: BTreeSet<String> = agent::directories(&settings.directories.pods()).into_iter().collect();
    // A shim that hangs before it has entered its cgroup is known only by its process.
    for uid in &pods {
        if let Err(error) = kill_shim(&settings.directories.pods().join(uid)) {
            done.problems.push(format!("the shim of pod {uid} is left: {error}"));
        }
    }
    let hierarchies = match Hierarchies::observe() {
        Ok(hierarchies) => hierarchies,
        Err(CgroupError::NotMounted) => return,
        Err(error) => return done.problems.push(agent::with_causes(&error)),
    };
    let parent = &settings.cgroup_parent;
    for uid in hierarchies.children(parent).iter().filter_map(|name| agent::pod_of_cgroup(name)) {
        let cgroup = format!("{parent}/pod{uid}");
        let removed =
            hierarchies.kill(&cgroup, KILL_PATIENCE).and_then(|()| hierarchies.remove(&cgroup, KILL_PATIENCE));
        if let Err(error) = removed {
            done.problems.push(agent::with_causes(&error));
        }
        pods.insert(uid.to_owned());
    }
    if let Err(error) = hierarchies.remove_if_empty(parent) {
        done.problems.push(agent::with_causes(&error));
    }
    done.count(pods.len(), "pod", "pods");
}

fn kill_shim(directory: &Path) -> io::Result<()> {
    let Some(shim) = agent::shim_process(directory) else { return Ok(()) };
    let Some(process) = PidFd::open(shim.pid)? else { return Ok(()) };
    if !shim.is_alive() {
        return Ok(());
    }
    process.signal(Signal::SIGKILL)?;
    if process.wait(KILL_PATIENCE)? {
        return Ok(());
    }
    Err(io::Error::other(format!("process {} does not end", shim.pid)))
}

/// Unmounts what is below the directories. A directory that is a mount point itself was made one by a person.
fn remove_mounts(settings: &Settings, done: &mut Done) {
    for directory in [&settings.directories.run_dir, &settings.directories.state_dir] {
        let below = match mount::mounts_below(directory) {
            Ok(below) => below,
            Err(error) => {
                done.problems.push(agent::with_causes(&error));
                continue;
            }
        };
        for path in below.iter().filter(|path| *path != directory) {
            if let Err(error) = mount::ensure_unmounted(path) {
                done.problems.push(agent::with_causes(&error));
            }
        }
    }
}

/// The state directory goes first: the run directory says where it is.
fn remove_directories(settings: &Settings, done: &mut Done, found_run_dir: bool) {
    let directories = &settings.directories;
    let removed = [
        (&directories.state_dir, "store, images and logs", directory::remove_state_dir(directories)),
        (&directories.run_dir, "run directory", directory::remove_run_dir(directories)),
    ];
    for (path, what, removed) in removed {
        // A run directory that has only just been made for the lock was not there before.
        let fresh = path == &directories.run_dir && !found_run_dir;
        match removed {
            Err(error) => done.problems.push(format!("cannot remove `{}`: {error}", path.display())),
            Ok(removed) => {
                if removed.any && !fresh {
                    done.removed.push(format!("{what} `{}`", path.display()));
                }
                if !removed.left.is_empty() {
                    let names = removed.left.join("`, `");
                    done.left.push(format!("`{names}` in `{}`: no node made it", path.display()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Done;

    #[test]
    fn counts_are_told_in_words() {
        let mut done = Done::default();
        done.count(0, "pod", "pods");
        done.count(1, "link", "links");
        done.count(14, "chain", "chains");
        assert_eq!(done.removed, ["1 link", "14 chains"]);
    }
}
