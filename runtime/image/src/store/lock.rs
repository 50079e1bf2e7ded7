//! Locks between processes (`flock`), one file each. A lock ends with its process, whatever ends that.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use super::{Store, StoreError, io_error};

/// A lock that is held.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

impl Store {
    /// Waits for a lock.
    pub(super) fn lock(&self, name: &str, mode: Mode) -> Result<Lock, StoreError> {
        let path = self.root().join(name);
        let file = open(&path).map_err(io_error("open", &path))?;
        match mode {
            Mode::Shared => file.lock_shared(),
            Mode::Exclusive => file.lock(),
        }
        .map_err(io_error("lock", &path))?;
        Ok(Lock { _file: file })
    }

    /// Takes a lock alone, unless somebody has it.
    pub(super) fn try_lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        let path = self.root().join(name);
        let file = open(&path).map_err(io_error("open", &path))?;
        lock_alone(file).map_err(io_error("lock", &path))
    }
}

/// Takes the lock of an open file or directory, unless somebody has it.
pub(super) fn lock_alone(file: File) -> io::Result<Option<Lock>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}
