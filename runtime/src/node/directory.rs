//! What in the node's two directories is ours. A directory that a node uses carries a mark, and only entries that a node makes are
//! removed from it: a mistyped `--state-dir` costs nobody their files.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::options::Directories;

/// The file that says that a directory is a node's. Empty: it can be made on a full disk.
const MARK: &str = ".minipod";
/// What a node makes in its run directory.
const RUN: &[&str] = &[
    "api.sock",
    "attachments",
    "boot-id",
    "netd.sock",
    "node.json",
    "node.lock",
    "node.pid",
    "pods",
    "released",
    "released-addresses.json",
];
/// What a node makes in its state directory.
const STATE: &[&str] = &[
    "address-cursor",
    "changed-sysctls.json",
    "images",
    "logs",
    "node-name",
    "node.log",
    "own-addresses.json",
    "pods",
    "store.new",
    "store.redb",
];
/// What a process that has just been killed still writes is there within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory that is not a node's, or cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// it has what a node would take for its own
    #[error(
        "`{}` has `{entry}`, which no node made (there is no `{MARK}` beside it): give an empty directory", .path.display()
    )]
    Foreign {
        /// the directory
        path: PathBuf,
        /// one of its entries
        entry: String,
    },
    /// it is to be removed, and no node has used it
    #[error(
        "`{}` is not empty, and no node has used it (it has no `{MARK}`): nothing was removed; give the `--run-dir` and \
         `--state-dir` of the node's start", .path.display()
    )]
    NoNode {
        /// the directory
        path: PathBuf,
    },
    /// the file system refused
    #[error("cannot use the directory `{}`: give one on a file system that can be written", .path.display())]
    Io {
        /// the directory
        path: PathBuf,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
}

/// What became of a directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// whether there was anything of ours
    pub(super) any: bool,
    /// what is left because no node made it
    pub(super) left: Vec<String>,
}

/// The run directory, made if need be (mode 0700: only root talks to the daemon), with its mark.
pub(super) fn ensure_run_dir(directories: &Directories) -> Result<(), DirectoryError> {
    ensure(&directories.run_dir, RUN)
}

/// The state directory, made if need be, with its mark.
///
/// # Errors
/// See [`DirectoryError`].
pub(crate) fn ensure_state_dir(directories: &Directories) -> Result<(), DirectoryError> {
    ensure(&directories.state_dir, STATE)
}

/// Refuses directories that somebody else filled. Absent and empty ones are fine.
pub(super) fn check_before_removal(directories: &Directories) -> Result<(), DirectoryError> {
    for path in [&directories.run_dir, &directories.state_dir] {
        let failed = |source| DirectoryError::Io { path: path.clone(), source };
        if !path.join(MARK).exists() && !entries(path).map_err(failed)?.is_empty() {
            return Err(DirectoryError::NoNode { path: path.clone() });
        }
    }
    Ok(())
}

/// Removes what a node made in its run directory, and the directory if nothing else is in it.
pub(super) fn remove_run_dir(directories: &Directories) -> io::Result<Removed> {
    remove(&directories.run_dir, RUN)
}

/// The same for the state directory.
pub(super) fn remove_state_dir(directories: &Directories) -> io::Result<Removed> {
    remove(&directories.state_dir, STATE)
}

fn ensure(path: &Path, ours: &[&str]) -> Result<(), DirectoryError> {
    let failed = |source| DirectoryError::Io { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let mark = path.join(MARK);
    if mark.exists() {
        return Ok(());
    }
    if let Some(entry) = entries(path).map_err(failed)?.into_iter().find(|entry| is_one_of(ours, entry)) {
        return Err(DirectoryError::Foreign { path: path.to_owned(), entry });
    }
    fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(mark).map_err(failed)?;
    Ok(())
}

fn remove(path: &Path, ours: &[&str]) -> io::Result<Removed> {
    let (own, left): (Vec<_>, Vec<_>) =
        entries(path)?.into_iter().filter(|entry| entry != MARK).partition(|entry| is_one_of(ours, entry));
    for entry in &own {
        remove_entry(&path.join(entry))?;
    }
    // Last: a removal that was interrupted can go on.
    remove_entry(&path.join(MARK))?;
    if left.is_empty() {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A mount point was made one by a person.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            other => other?,
        }
    }
    Ok(Removed { any: !own.is_empty(), left })
}

/// Also what a write that was interrupted left beside its file.
fn is_one_of(ours: &[&str], entry: &str) -> bool {
    let written = entry.strip_prefix('.').and_then(|rest| rest.strip_suffix(".new"));
    ours.contains(&entry) || written.is_some_and(|name| ours.contains(&name))
}

/// Names, sorted; those of an absent directory are none.
fn entries(path: &Path) -> io::Result<Vec<String>> {
    let listed = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = listed
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn remove_entry(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let is_dir = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        match if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && Instant::now() < deadline => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))),
            Ok(()) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{DirectoryError, Removed, STATE, check_before_removal, ensure, remove};
    use crate::node::Directories;

    #[test]
    fn a_marked_directory_loses_what_a_node_made_and_keeps_the_rest() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        ensure(&path, STATE).expect("made");
        fs::create_dir_all(path.join("images/layers")).expect("made");
        fs::write(path.join(".node-name.new"), "").expect("written");
        fs::write(path.join("diary"), "").expect("written");
        let kept = Removed { any: true, left: vec!["diary".to_owned()] };
        assert_eq!(remove(&path, STATE).expect("removed"), kept);
        assert_eq!(fs::read_dir(&path).expect("listed").count(), 1);
        fs::remove_file(path.join("diary")).expect("removed");
        ensure(&path, STATE).expect("ours again");
        assert_eq!(remove(&path, STATE).expect("removed"), Removed::default());
        assert!(!path.exists());
        assert_eq!(remove(&path, STATE).expect("gone already"), Removed::default());
    }

    #[test]
    fn a_directory_that_somebody_else_filled_is_neither_used_nor_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let state_dir = directory.path().join("photos");
        fs::create_dir_all(state_dir.join("images")).expect("made");
        let error = ensure(&state_dir, STATE).expect_err("its images are no node's");
        assert!(matches!(&error, DirectoryError::Foreign { entry, .. } if entry == "images"), "{error}");
        let directories = Directories { run_dir: directory.path().join("absent"), state_dir };
        let error = check_before_removal(&directories).expect_err("no node's").to_string();
        assert!(error.contains("photos` is not empty, and no node has used it"), "{error}");
    }
}
