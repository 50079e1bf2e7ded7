//! The index: which names stand for which image, and which layers an image has. One small JSON file, replaced by rename.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lock::Mode;
use super::{Store, StoreError, io_error};
use crate::digest::Digest;
use crate::reference::Reference;

/// The index as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) version: Version,
    /// by name
    pub(super) names: BTreeMap<Reference, Digest>,
    /// by ID
    pub(super) images: BTreeMap<Digest, ImageRecord>,
}

/// What is known of an image beside its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageRecord {
    /// diff IDs, lowest first
    pub(super) layers: Vec<Digest>,
    /// seconds since the Unix epoch
    pub(super) added_at: u64,
    /// `created` of the configuration
    pub(super) created: Option<String>,
}

/// The version of the file's form; any other is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Version {
    #[default]
    #[serde(rename = "1")]
    One,
}

impl Index {
    /// The names of an image, sorted.
    pub(super) fn names_of(&self, id: &Digest) -> Vec<Reference> {
        self.names.iter().filter(|(_, named)| *named == id).map(|(name, _)| name.clone()).collect()
    }
}

impl Store {
    /// The index as it is now; empty where there is none yet.
    pub(super) fn index(&self) -> Result<Index, StoreError> {
        let path = self.root().join("index.json");
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map_err(|source| StoreError::Damaged {
                path,
                root: self.root().to_owned(),
                source,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(source) => Err(StoreError::Io { verb: "read", path, source }),
        }
    }

    /// Replaces a small file in the store's root.
    pub(crate) fn write_beside_index(&self, name: &str, contents: &[u8]) -> Result<(), StoreError> {
        let path = self.root().join(name);
        replace(&path, contents).map_err(io_error("write", &path))
    }

    /// Changes the index, alone among all processes.
    pub(super) fn change_index<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _lock = self.lock("index.lock", Mode::Exclusive)?;
        let before = self.index()?;
        let mut after = before.clone();
        let result = change(&mut after)?;
        if after != before {
            let path = self.root().join("index.json");
            let json = serde_json::to_vec_pretty(&after).map_err(io::Error::from).map_err(io_error("encode", &path))?;
            replace(&path, &json).map_err(io_error("write", &path))?;
        }
        Ok(result)
    }
}

/// Replaces a file so that a reader, also one after a power failure, sees the old or the new contents.
pub(super) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}
