//! Layers in the store: staged in a private directory, checked, then moved into place by one rename.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::syncfs;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use thiserror::Error;

use super::lock::{Lock, Mode, lock_alone};
use super::{Store, StoreError, io_error};
use crate::compression::decompress;
use crate::digest::{Digest, DigestReader};
use crate::unpack::{Limits, OPAQUE_XATTR, Report, UnpackError, unpack};

/// A layer that is unpacked and not yet visible. Dropped, it is gone.
#[derive(Debug)]
pub struct StagedLayer {
    diff_id: Digest,
    report: Report,
    workplace: Workplace,
}

/// Why a layer did not come into the store.
#[derive(Debug, Error)]
pub enum LayerError {
    /// it could not be unpacked
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// its contents are not what the configuration says
    #[error("the layer's contents have the digest `{actual}`, the image's configuration says `{expected}`")]
    DiffId {
        /// what the configuration says
        expected: Digest,
        /// what came
        actual: Digest,
    },
    /// the store
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is kept beside a layer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct LayerInfo {
    entries: u64,
    bytes: u64,
}

/// A private directory on the store's file system, locked while its owner lives.
#[derive(Debug)]
struct Workplace {
    directory: TempDir,
    _lock: Lock,
}

impl StagedLayer {
    /// Digest of the uncompressed tar stream.
    #[must_use]
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// What was unpacked and what was left out.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }
}

impl Store {
    /// Whether this layer is there, complete.
    #[must_use]
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.long_path(diff_id).is_dir()
    }

    /// The directory for `lowerdir`: a short link where there is one.
    #[must_use]
    pub fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        let short = self.short_path(diff_id);
        match fs::read_link(&short) {
            Ok(target) if target == short_target(diff_id) => short,
            _ => self.long_path(diff_id),
        }
    }

    /// Unpacks a layer, compressed or not, out of sight. Reads the stream to its end.
    pub fn stage_layer(&self, stream: impl Read) -> Result<StagedLayer, LayerError> {
        self.stage_layer_within(stream, Limits::default())
    }

    /// The same with limits.
    pub fn stage_layer_within(&self, stream: impl Read, limits: Limits) -> Result<StagedLayer, LayerError> {
        let workplace = self.workplace()?;
        let directory = workplace.directory.path().join("fs");
        fs::create_dir(&directory).map_err(io_error("create", &directory))?;
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).map_err(io_error("restrict", &directory))?;
        let corrupt = |source| UnpackError::Corrupt { entry: String::new(), source };
        let mut plain = DigestReader::new(decompress(stream).map_err(corrupt)?);
        let report = unpack(&mut plain, &directory, limits)?;
        let (diff_id, _) = plain.finish().map_err(corrupt)?;
        Ok(StagedLayer { diff_id, report, workplace })
    }

    /// Moves a staged layer into place if its contents are what was expected. A layer that came meanwhile stays.
    pub fn publish_layer(&self, staged: StagedLayer, expected: Option<&Digest>) -> Result<Digest, LayerError> {
        let StagedLayer { diff_id, report, workplace } = staged;
        if let Some(expected) = expected.filter(|expected| **expected != diff_id) {
            return Err(LayerError::DiffId { expected: expected.clone(), actual: diff_id });
        }
        let stage = workplace.directory.path();
        let info = LayerInfo { entries: report.entries, bytes: report.bytes };
        let json = serde_json::to_vec(&info).map_err(io::Error::from).map_err(io_error("encode", stage))?;
        let path = stage.join("layer.json");
        fs::write(&path, json).map_err(io_error("write", &path))?;
        sync(stage, report.entries).map_err(io_error("sync", stage))?;
        let place = self.place(&diff_id);
        // The workplace itself moves; the temporary directory's clean-up then finds nothing.
        match fs::rename(stage, &place) {
            Ok(()) => {
                let _moved = workplace.directory.keep();
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(io_error("move a layer to", &place)(error).into()),
        }
        self.link_short(&diff_id)?;
        Ok(diff_id)
    }

    /// Whether the layer's root hides everything below it. Overlayfs does not look at the mark there.
    pub(super) fn is_opaque(&self, diff_id: &Digest) -> io::Result<bool> {
        Ok(xattr::get(self.long_path(diff_id), OPAQUE_XATTR)?.as_deref() == Some(b"y"))
    }

    pub(super) fn layer_bytes(&self, diff_id: &Digest) -> u64 {
        let info = fs::read(self.place(diff_id).join("layer.json")).ok();
        info.and_then(|json| serde_json::from_slice::<LayerInfo>(&json).ok()).map_or(0, |info| info.bytes)
    }

    pub(super) fn stored_layers(&self) -> Result<Vec<Digest>, StoreError> {
        let directory = self.root().join("layers");
        let mut layers = Vec::new();
        for entry in fs::read_dir(&directory).map_err(io_error("list", &directory))? {
            let name = entry.map_err(io_error("list", &directory))?.file_name();
            layers.extend(format!("sha256:{}", name.to_string_lossy()).parse::<Digest>());
        }
        layers.sort();
        Ok(layers)
    }

    /// Takes a layer out of sight, then removes it.
    pub(super) fn remove_layer(&self, diff_id: &Digest) -> Result<(), StoreError> {
        let short = self.short_path(diff_id);
        if fs::read_link(&short).is_ok_and(|target| target == short_target(diff_id)) {
            fs::remove_file(&short).map_err(io_error("remove", &short))?;
        }
        let workplace = self.workplace()?;
        let place = self.place(diff_id);
        let away = workplace.directory.path().join("removed");
        fs::rename(&place, &away).map_err(io_error("move away", &place))?;
        let path = workplace.directory.path().to_owned();
        workplace.directory.close().map_err(io_error("remove", &path))
    }

    /// Removes what dead processes left half done.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        let _lock = self.lock("work.lock", Mode::Exclusive)?;
        let work = self.root().join("work");
        for entry in fs::read_dir(&work).map_err(io_error("list", &work))? {
            let path = entry.map_err(io_error("list", &work))?.path();
            let abandoned = match File::open(&path) {
                Ok(directory) => lock_alone(directory).map_err(io_error("lock", &path))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(io_error("open", &path)(error)),
            };
            if abandoned.is_some() {
                fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    fn workplace(&self) -> Result<Workplace, StoreError> {
        // Against a sweep between making and locking the directory.
        let _lock = self.lock("work.lock", Mode::Shared)?;
        let work = self.root().join("work");
        let directory = TempDir::new_in(&work).map_err(io_error("make a directory in", &work))?;
        let path = directory.path().to_owned();
        let file = File::open(&path).map_err(io_error("open", &path))?;
        let lock = lock_alone(file).map_err(io_error("lock", &path))?;
        let lock = lock.ok_or_else(|| io_error("lock", &path)(io::ErrorKind::WouldBlock.into()))?;
        Ok(Workplace { directory, _lock: lock })
    }

    fn link_short(&self, diff_id: &Digest) -> Result<(), StoreError> {
        let short = self.short_path(diff_id);
        match symlink(short_target(diff_id), &short) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(io_error("link", &short)(error)),
        }
    }

    fn place(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("layers").join(diff_id.hex())
    }

    fn long_path(&self, diff_id: &Digest) -> PathBuf {
        self.place(diff_id).join("fs")
    }

    fn short_path(&self, diff_id: &Digest) -> PathBuf {
        self.root().join("s").join(diff_id.short())
    }
}

/// Everything of a layer is on the disk before it gets its name. A few files are synced one by one: syncing the whole file
/// system would also wait for what everybody else writes.
fn sync(path: &Path, entries: u64) -> io::Result<()> {
    const FEW: u64 = 64;
    if entries > FEW {
        return Ok(syncfs(File::open(path)?)?);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync(&entry.path(), 0)?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(path)?.sync_all()
}

fn short_target(diff_id: &Digest) -> PathBuf {
    Path::new("../layers").join(diff_id.hex()).join("fs")
}
