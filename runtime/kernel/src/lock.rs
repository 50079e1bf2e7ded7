//! A lock that goes with its holder: a stale file never keeps anybody out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The one holder of a lock file (`flock(2)`), until it is dropped or its process ends.
#[derive(Debug)]
pub struct FileLock {
    _file: Flock<File>,
}

impl FileLock {
    /// Takes the lock without waiting; the file is made if need be (mode 0600) and never removed. `None` when another one holds it.
    ///
    /// # Errors
    /// The file cannot be opened or locked.
    pub fn try_acquire(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FileLock;

    #[test]
    fn a_lock_has_one_holder() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("lock");
        let first = FileLock::try_acquire(&path).expect("asked");
        assert!(first.is_some());
        assert!(FileLock::try_acquire(&path).expect("asked").is_none());
        drop(first);
        assert!(FileLock::try_acquire(&path).expect("asked").is_some());
        assert!(FileLock::try_acquire(directory.path()).is_err());
    }
}
