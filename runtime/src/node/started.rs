//! What a node was started with, in its run directory: whoever stops, shows or removes it need not repeat the options of the start,
//! and cannot take another store or other cgroups for its own.

use std::io;
use std::path::{Path, PathBuf};

use minipod_kernel::file::{Durability, read_if_present, write_atomically};
use serde::{Deserialize, Serialize};

use super::options::{Directories, GivenDirectories, Options, Settings};

/// The settings of the start that the node's things depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// the state directory
    pub state_dir: PathBuf,
    /// absolute below each controller's root
    pub cgroup_parent: String,
}

/// Why options and start do not go together.
#[derive(Debug, thiserror::Error)]
pub enum StartedError {
    /// another value than that of the start
    #[error(
        "`{flag} {given}`: the node of `{}` was started with `{flag} {started}`: leave the option (and `{variable}`) out or give that; \
         `minipod node reset --yes --run-dir {0}` without it removes that node", .run_dir.display()
    )]
    Other {
        /// the option
        flag: &'static str,
        /// the environment variable that gives it too
        variable: &'static str,
        /// what was given
        given: String,
        /// what the start was given
        started: String,
        /// the run directory
        run_dir: PathBuf,
    },
    /// the record cannot be used
    #[error("cannot read or write `{}`, which keeps the settings of the node's start: check its file system", .path.display())]
    File {
        /// the file
        path: PathBuf,
        /// what the kernel said, or what is wrong with it
        #[source]
        source: io::Error,
    },
}

impl Started {
    /// What the node of this run directory was started with; `None` where there is none, or this user may not know.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn read(run_dir: &Path) -> Result<Option<Self>, StartedError> {
        let path = path(run_dir);
        match read_if_present(&path) {
            Ok(None) => Ok(None),
            Ok(Some(text)) => match serde_json::from_slice(&text) {
                Ok(started) => Ok(Some(started)),
                Err(error) => Err(StartedError::File { path, source: error.into() }),
            },
            // Only root reads it, and needs it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(source) => Err(StartedError::File { path, source }),
        }
    }

    /// Keeps the settings of this start.
    pub(super) fn keep(settings: &Settings) -> Result<(), StartedError> {
        let Directories { run_dir, state_dir } = settings.directories.clone();
        let started = Self { state_dir, cgroup_parent: settings.cgroup_parent.clone() };
        let path = path(&run_dir);
        let written = serde_json::to_vec(&started)
            .map_err(io::Error::from)
            .and_then(|text| write_atomically(&path, &text, Durability::Volatile));
        written.map_err(|source| StartedError::File { path, source })
    }
}

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("node.json")
}

impl GivenDirectories {
    /// The directories that are meant: as given, else as the node of the run directory was started, else the defaults.
    ///
    /// # Errors
    /// The record of the start is damaged.
    pub fn complete(&self) -> Result<Directories, StartedError> {
        let directories = self.or_default();
        if self.state_dir.is_some() {
            return Ok(directories);
        }
        let started = Started::read(&self.run_dir)?;
        Ok(Directories { state_dir: started.map_or(directories.state_dir, |started| started.state_dir), ..directories })
    }
}

impl Options {
    /// The options with what the node of the run directory was started with in the place of what is not given.
    ///
    /// # Errors
    /// Something else is given than the start was.
    pub fn complete(&self) -> Result<Self, StartedError> {
        match Started::read(&self.directories.run_dir)? {
            None => Ok(self.clone()),
            Some(started) => self.complete_with(&started),
        }
    }

    fn complete_with(&self, started: &Started) -> Result<Self, StartedError> {
        let run_dir = &self.directories.run_dir;
        let other = |flag, variable, given: String, started: String| {
            Err(StartedError::Other { flag, variable, given, started, run_dir: run_dir.clone() })
        };
        if let Some(given) = self.directories.state_dir.as_ref().filter(|given| **given != started.state_dir) {
            let (given, started) = (given.display().to_string(), started.state_dir.display().to_string());
            return other("--state-dir", "MINIPOD_STATE_DIR", given, started);
        }
        let parent = |text: &str| text.trim_matches('/').to_owned();
        if let Some(given) = self.cgroup_parent.as_ref().filter(|given| parent(given) != parent(&started.cgroup_parent))
        {
            return other("--cgroup-parent", "MINIPOD_CGROUP_PARENT", given.clone(), parent(&started.cgroup_parent));
        }
        let directories = GivenDirectories { state_dir: Some(started.state_dir.clone()), run_dir: run_dir.clone() };
        Ok(Self { directories, cgroup_parent: Some(started.cgroup_parent.clone()), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::Started;
    use crate::node::options::tests::options;

    #[test]
    fn what_is_not_given_is_as_the_node_was_started_and_what_differs_is_refused() {
        let run_dir = tempfile::tempdir().expect("a directory");
        let run = run_dir.path().display().to_string();
        let given = |more: &[&str]| options(&[&["--run-dir", &run], more].concat());
        let first = given(&["--state-dir", "/s", "--cgroup-parent", "a/b"]);
        let settings = first.complete().expect("nothing is recorded").check("n1").expect("options that work");
        Started::keep(&settings).expect("kept");

        let later = given(&[]).complete().expect("as started").check("n1").expect("options that work");
        assert_eq!(later.directories, settings.directories);
        assert_eq!(later.cgroup_parent, "/a/b");
        given(&["--state-dir", "/s", "--cgroup-parent", "/a/b/"]).complete().expect("the same");
        for (more, flag, variable) in [
            (["--state-dir", "/t"], "`--state-dir /t`", "`MINIPOD_STATE_DIR`"),
            (["--cgroup-parent", "c"], "`--cgroup-parent c`", "`MINIPOD_CGROUP_PARENT`"),
        ] {
            let error = given(&more).complete().expect_err("another").to_string();
            assert!(error.contains(flag) && error.contains(variable) && error.contains(&run), "{error}");
        }
    }
}
