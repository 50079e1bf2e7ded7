//! Network namespaces: opening one, doing something inside it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NetNsError {
    /// The path leads nowhere.
    #[error("network namespace `{0}` is gone")]
    Gone(PathBuf),
    /// The path is not a network namespace.
    #[error("`{0}` is not a network namespace")]
    NotANamespace(PathBuf),
    /// It cannot be opened.
    #[error("cannot open network namespace `{path}`")]
    Open {
        /// the path
        path: PathBuf,
        /// why
        #[source]
        source: io::Error,
    },
    /// It cannot be entered.
    #[error("cannot enter network namespace `{path}`; this needs root or CAP_SYS_ADMIN")]
    Enter {
        /// the path
        path: PathBuf,
        /// why
        #[source]
        source: io::Error,
    },
    /// The thread that should work inside died or could not be started.
    #[error("the thread for network namespace `{0}` failed")]
    Thread(PathBuf),
}

/// An open network namespace. It stays alive as long as this handle.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    path: PathBuf,
}

/// `NSFS_MAGIC`, `include/uapi/linux/magic.h`
const NSFS_MAGIC: i64 = 0x6e73_6673;

impl NetNs {
    /// Opens the namespace at `path`: `/proc/PID/ns/net`, `/run/netns/NAME` or a bind mount elsewhere.
    ///
    /// # Errors
    /// [`NetNsError::Gone`] if there is nothing, or an empty file that nothing is mounted on any more.
    pub fn open(path: &Path) -> Result<Self, NetNsError> {
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => NetNsError::Gone(path.to_owned()),
            // A process that has exited but is not reaped yet has no namespaces left.
            _ if source.raw_os_error() == Some(libc::ESRCH) => NetNsError::Gone(path.to_owned()),
            // A socket or a device.
            _ if source.raw_os_error() == Some(libc::ENXIO) => NetNsError::NotANamespace(path.to_owned()),
            _ => NetNsError::Open { path: path.to_owned(), source },
        })?;
        let kind = nix::sys::statfs::fstatfs(&file).map(|status| status.filesystem_type().0).unwrap_or_default();
        if kind != NSFS_MAGIC {
            return Err(NetNsError::NotANamespace(path.to_owned()));
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// The current thread's namespace.
    ///
    /// # Errors
    /// `/proc` is missing.
    pub fn current() -> Result<Self, NetNsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace's identity: its inode number, equal for two handles of one namespace.
    ///
    /// # Errors
    /// `fstat` fails.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.ino())
    }

    /// The path by which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` inside, on a thread of its own that ends with it: a thread that has been inside never serves anything else.
    /// Sockets that `work` opens and returns keep working inside.
    ///
    /// # Errors
    /// The namespace cannot be entered or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
        thread::scope(|scope| {
            let spawned = thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| NetNsError::Enter { path: self.path.clone(), source: errno.into() })?;
                Ok(work())
            });
            let lost = || NetNsError::Thread(self.path.clone());
            spawned.map_err(|_| lost())?.join().map_err(|_| lost())?
        })
    }

    /// Makes a new namespace that lives as long as the handle (and what was put into it).
    ///
    /// # Errors
    /// `unshare` is refused.
    pub fn create() -> Result<Self, NetNsError> {
        let path = PathBuf::from("/proc/thread-self/ns/net");
        thread::scope(|scope| {
            let spawned = thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET)
                    .map_err(|errno| NetNsError::Enter { path: path.clone(), source: errno.into() })?;
                Self::current()
            });
            let lost = || NetNsError::Thread(path.clone());
            spawned.map_err(|_| lost())?.join().map_err(|_| lost())?
        })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
