//! A tree beside the layer that must stay as it is, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use minipod_image::unpack::{Limits, Report, UnpackError, unpack};
use tempfile::TempDir;

/// `BASE/canary` with some contents, and `BASE/layer`, empty.
pub(crate) struct Cage {
    base: TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Cage {
    pub(crate) fn new() -> Self {
        let base = TempDir::new().expect("temporary directory");
        let canary = base.path().join("canary");
        fs::create_dir_all(canary.join("dir")).expect("directory");
        fs::create_dir(base.path().join("layer")).expect("directory");
        fs::write(canary.join("file"), "untouched").expect("file");
        fs::write(canary.join("dir/inner"), "untouched too").expect("file");
        symlink("file", canary.join("link")).expect("link");
        let before = snapshot(base.path());
        Self { base, before }
    }

    /// Path of something in the canary tree.
    pub(crate) fn canary(&self, name: &str) -> String {
        self.base.path().join("canary").join(name).display().to_string()
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.base.path().join("layer")
    }

    /// Unpacks the stream, then compares everything outside the layer.
    pub(crate) fn unpack(&self, stream: &[u8]) -> Result<Report, UnpackError> {
        self.unpack_within(stream, Limits::default())
    }

    pub(crate) fn unpack_within(&self, stream: impl std::io::Read, limits: Limits) -> Result<Report, UnpackError> {
        let result = unpack(stream, &self.layer(), limits);
        self.check();
        result
    }

    /// Everything outside the layer is as it was.
    pub(crate) fn check(&self) {
        assert_eq!(snapshot(self.base.path()), self.before, "something outside the layer was changed");
    }
}

/// Everything about every file below, except what is in `layer`.
fn snapshot(base: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![base.to_owned()];
    while let Some(path) = todo.pop() {
        if path.ends_with("layer") {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        let contents = if metadata.is_file() {
            fs::read(&path).expect("contents")
        } else if metadata.is_symlink() {
            fs::read_link(&path).expect("target").as_os_str().as_bytes().to_vec()
        } else {
            todo.extend(fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path()));
            Vec::new()
        };
        let attributes: Vec<_> = xattr::list(&path).expect("attributes").collect();
        let (mode, owner) = (metadata.mode(), (metadata.uid(), metadata.gid()));
        let (links, times) = (metadata.nlink(), (metadata.mtime(), metadata.mtime_nsec()));
        found.insert(path, format!("{mode:o} {owner:?} {links} {times:?} {attributes:?} {contents:?}"));
    }
    found
}
