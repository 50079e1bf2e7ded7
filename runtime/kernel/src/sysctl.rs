//! Kernel settings under `/proc/sys`, and a journal of those that were changed.
//!
//! Settings below `net` belong to the calling thread's network namespace.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use minipod_model::IpFamily;
use serde::{Deserialize, Serialize};

use crate::file::{Durability, read_if_present, write_atomically};

const ROOT: &str = "/proc/sys";

/// The name of a setting as a path below `/proc/sys`: `net/ipv4/ip_forward`. Interface names may hold dots, so the dotted
/// spelling is not used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sysctl(String);

/// Not a setting's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no setting: a path below /proc/sys is expected, as in `net/ipv4/ip_forward`")]
pub struct InvalidSysctl(pub String);

impl Sysctl {
    /// The setting at `path`.
    ///
    /// # Errors
    /// [`InvalidSysctl`] for what would lead out of `/proc/sys`.
    pub fn new(path: impl Into<String>) -> Result<Self, InvalidSysctl> {
        let path = path.into();
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
        if path.split('/').all(plain) { Ok(Self(path)) } else { Err(InvalidSysctl(path)) }
    }

    /// A setting of a link (or of `all`, `default`) in a family.
    ///
    /// # Errors
    /// [`InvalidSysctl`] for a name that no link can have.
    pub fn of_link(family: IpFamily, link: &str, setting: &str) -> Result<Self, InvalidSysctl> {
        let path = format!("net/ipv{}/conf/{link}/{setting}", family.digit());
        if link.contains('/') { Err(InvalidSysctl(path)) } else { Self::new(path) }
    }

    /// Its value without the closing line feed.
    ///
    /// # Errors
    /// [`SysctlError::Read`]
    pub fn read(&self) -> Result<String, SysctlError> {
        fs::read_to_string(self.path())
            .map(|value| value.trim_end().to_owned())
            .map_err(|source| SysctlError::Read { name: self.clone(), source })
    }

    /// Its value; `None` if this kernel does not have it.
    ///
    /// # Errors
    /// [`SysctlError::Read`]
    pub fn read_if_present(&self) -> Result<Option<String>, SysctlError> {
        match self.read() {
            Err(SysctlError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Sets it.
    ///
    /// # Errors
    /// [`SysctlError::Write`]
    pub fn write(&self, value: &str) -> Result<(), SysctlError> {
        fs::write(self.path(), value).map_err(|source| SysctlError::Write {
            name: self.clone(),
            value: value.to_owned(),
            source,
        })
    }

    /// The name as a path below `/proc/sys`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn path(&self) -> PathBuf {
        Path::new(ROOT).join(&self.0)
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Sysctl {
    type Error = InvalidSysctl;

    fn try_from(path: String) -> Result<Self, InvalidSysctl> {
        Self::new(path)
    }
}

impl From<Sysctl> for String {
    fn from(sysctl: Sysctl) -> Self {
        sysctl.0
    }
}

/// A setting that could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] InvalidSysctl),
    /// Unreadable.
    #[error("cannot read setting `{name}`")]
    Read {
        /// which
        name: Sysctl,
        /// why
        #[source]
        source: io::Error,
    },
    /// Unwritable.
    #[error("cannot set `{name}` to `{value}`; this needs root and a writable /proc/sys")]
    Write {
        /// which
        name: Sysctl,
        /// to what
        value: String,
        /// why
        #[source]
        source: io::Error,
    },
    /// The journal.
    #[error("cannot {verb} the journal of changed settings `{path}`")]
    Journal {
        /// read, write or remove
        verb: &'static str,
        /// where it is
        path: PathBuf,
        /// why
        #[source]
        source: io::Error,
    },
}

/// The settings that were changed, with the value that each had before; on disk before the change is made.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    changes: BTreeMap<Sysctl, Change>,
}

/// A changed setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// the value before the first change
    pub before: String,
    /// the value that was set last
    pub set: String,
}

impl Journal {
    /// Opens the journal at `path`; an absent one is empty.
    ///
    /// # Errors
    /// [`SysctlError::Journal`]; a damaged journal is not overwritten.
    pub fn open(path: &Path) -> Result<Self, SysctlError> {
        let failed = |source| SysctlError::Journal { verb: "read", path: path.to_owned(), source };
        let changes = match read_if_present(path).map_err(failed)? {
            Some(contents) => serde_json::from_slice(&contents).map_err(|error| failed(error.into()))?,
            None => BTreeMap::new(),
        };
        Ok(Self { path: path.to_owned(), changes })
    }

    /// The changes so far.
    #[must_use]
    pub fn changes(&self) -> &BTreeMap<Sysctl, Change> {
        &self.changes
    }

    /// Sets `name` to `value` unless it is that already. Says whether it had to.
    ///
    /// # Errors
    /// The journal cannot be written (nothing is changed then) or the kernel refuses.
    pub fn ensure(&mut self, name: &Sysctl, value: &str) -> Result<bool, SysctlError> {
        let present = name.read()?;
        if present == value {
            return Ok(false);
        }
        let before = self.changes.get(name).map_or(present, |change| change.before.clone());
        self.changes.insert(name.clone(), Change { before, set: value.to_owned() });
        self.store()?;
        name.write(value)?;
        Ok(true)
    }

    /// Gives every setting its old value back, except those that someone else has changed since or that are gone, and removes the journal.
    ///
    /// # Errors
    /// The first setting that keeps its value; the journal stays then.
    pub fn restore(mut self) -> Result<(), SysctlError> {
        for (name, change) in &self.changes {
            if name.read_if_present()?.as_deref() == Some(change.set.as_str()) {
                name.write(&change.before)?;
            }
        }
        self.changes.clear();
        crate::file::ensure_removed(&self.path).map_err(|source| self.failed("remove", source))
    }

    fn store(&self) -> Result<(), SysctlError> {
        let contents = serde_json::to_vec_pretty(&self.changes).map_err(|e| self.failed("write", e.into()))?;
        write_atomically(&self.path, &contents, Durability::Durable).map_err(|e| self.failed("write", e))
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> SysctlError {
        SysctlError::Journal { verb, path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use minipod_model::IpFamily;

    use super::{Journal, Sysctl};
    use crate::netns::NetNs;

    #[test]
    fn a_name_cannot_lead_out_of_the_settings() {
        assert!(Sysctl::new("net/ipv4/ip_forward").is_ok());
        for bad in ["", "/etc/passwd", "../x", "net//x", "net/../../x"] {
            assert!(Sysctl::new(bad).is_err(), "{bad}");
        }
        assert!(Sysctl::of_link(IpFamily::V4, "eth0.5", "rp_filter").is_ok());
        assert!(Sysctl::of_link(IpFamily::V4, "a/b", "rp_filter").is_err());
    }

    #[test]
    fn changed_settings_are_restored_except_those_that_another_changed_since() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sysctls.json");
        let setting = |name| Sysctl::of_link(IpFamily::V4, "lo", name).expect("a name");
        let (redirects, filter) = (setting("accept_redirects"), setting("rp_filter"));
        let ns = NetNs::create().expect("a network namespace of its own; run as root");
        ns.run(|| {
            for setting in [&redirects, &filter] {
                setting.write("0").expect("set");
            }
            let mut journal = Journal::open(&path).expect("journal");
            assert!(journal.ensure(&redirects, "1").expect("set"));
            assert!(!journal.ensure(&redirects, "1").expect("set"), "nothing to change");
            assert!(journal.ensure(&filter, "1").expect("set"));
            assert!(journal.ensure(&filter, "2").expect("set"), "the first value is the one to restore");
            let journal = Journal::open(&path).expect("what a restart finds");
            assert_eq!(journal.changes()[&filter].before, "0");
            redirects.write("0").expect("set");
            redirects.write("1").expect("set");
            filter.write("1").expect("someone else's");
            journal.restore().expect("restored");
            assert_eq!(redirects.read().expect("read"), "0");
            assert_eq!(filter.read().expect("read"), "1");
            assert!(!path.exists());
        })
        .expect("the test");
    }
}
