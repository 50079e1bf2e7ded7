//! The store: keys and bytes under one revision counter, as etcd has it, so that etcd can stand in its place.
//!
//! A commit makes all its writes or none, and only if every precondition holds. All writes of one commit carry the same
//! revision. What [`Store::commit`] has answered is on disk.

mod log;
mod redb;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use self::redb::{OpenStoreError, RedbStore};

/// A value with the revisions that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// the value
    pub value: Bytes,
    /// revision of the commit that wrote it last
    pub mod_revision: u64,
}

/// What must hold for a commit to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// the key is not there
    Absent(String),
    /// the key is there and was written last at this revision
    Unchanged(String, u64),
}

impl Precondition {
    /// The key that it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Unchanged(key, _) => key,
        }
    }
}

/// One write of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// creates or replaces
    Put(String, Bytes),
    /// removes; nothing happens if the key is not there
    Delete(String),
}

/// Writes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// all must hold
    pub preconditions: Vec<Precondition>,
    /// at most one per key
    pub writes: Vec<Write>,
}

/// The records below a prefix at one revision, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// the revision that the listing shows
    pub revision: u64,
    /// key and record
    pub records: Vec<(String, Record)>,
}

/// One key changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// revision of the commit
    pub revision: u64,
    /// the key
    pub key: String,
    /// the record before; `None`: it was created
    pub before: Option<Record>,
    /// the value after; `None`: it was removed
    pub after: Option<Bytes>,
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// a precondition does not hold; nothing was written
    #[error("the key `{key}` is not as expected")]
    Conflict {
        /// key of the first precondition that does not hold
        key: String,
    },
    /// the revision is gone from the log
    #[error("revision {wanted} is compacted; the oldest is {oldest}")]
    Compacted {
        /// the revision asked for
        wanted: u64,
        /// the oldest revision that can be asked for
        oldest: u64,
    },
    /// the revision lies ahead of the store
    #[error("revision {wanted} is ahead of the current one, {current}")]
    Future {
        /// the revision asked for
        wanted: u64,
        /// the current revision
        current: u64,
    },
    /// the medium refused; nothing of the commit is visible
    #[error("cannot write to the store `{}`; free space on its file system or repair it, then try again", path.display())]
    Write {
        /// the file
        path: PathBuf,
        /// why; shared by all commits of one group
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// the store was closed
    #[error("the store `{}` is closed", path.display())]
    Closed {
        /// the file
        path: PathBuf,
    },
}

/// Changes below a prefix in the order of their revisions, without gaps.
#[async_trait]
pub trait Watch: Send {
    /// Waits until there is something new and gives it: changes, or none if only other prefixes changed. All changes of one
    /// revision come together. Afterwards [`Watch::revision`] is where the watch has got to.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] if the watch fell behind what the log keeps.
    async fn next(&mut self) -> Result<Vec<Change>, StoreError>;

    /// Every change up to this revision was given.
    fn revision(&self) -> u64;
}

/// A store that the API server can work on.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The record of a key.
    async fn get(&self, key: &str) -> Result<Option<Record>, StoreError>;

    /// The records whose keys begin with `prefix`, now or at an earlier revision.
    async fn list(&self, prefix: &str, revision: Option<u64>) -> Result<Listing, StoreError>;

    /// Does all writes if all preconditions hold, durably; answers the revision of the commit.
    async fn commit(&self, transaction: Transaction) -> Result<u64, StoreError>;

    /// The changes below `prefix` after `revision`.
    async fn watch(&self, prefix: &str, revision: u64) -> Result<Box<dyn Watch>, StoreError>;
}
