//! A node's images in a temporary directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use minipod_image::{ImageError, ImageRef, Images, Options, PullPolicy, Quiet};
use tempfile::TempDir;

pub(crate) struct Node {
    pub(crate) base: TempDir,
    pub(crate) images: Images,
}

impl Node {
    pub(crate) fn new() -> Self {
        let base = TempDir::new().expect("temporary directory");
        let images = Images::open(options(base.path())).expect("opened");
        Self { base, images }
    }

    /// The same directory, opened once more.
    pub(crate) fn again(&self) -> Images {
        Images::open(options(self.base.path())).expect("opened")
    }

    pub(crate) fn write(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.base.path().join(name);
        std::fs::write(&path, contents).expect("written");
        path
    }

    pub(crate) async fn ensure(&self, name: &str, policy: PullPolicy) -> Result<ImageRef, ImageError> {
        self.images.ensure(name, policy, Arc::new(Quiet)).await
    }

    /// Directories of unpacking or removal that are left in the store.
    pub(crate) fn work(&self) -> usize {
        std::fs::read_dir(self.images.store().root().join("work")).expect("list").count()
    }

    pub(crate) fn layers(&self) -> usize {
        std::fs::read_dir(self.images.store().root().join("layers")).expect("list").count()
    }
}

fn options(base: &Path) -> Options {
    Options {
        directory: base.join("images"),
        registries: base.join("registries.toml"),
        builtin: Some(base.join("program")),
    }
}

/// The message and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.extend([": ", &error.to_string()]);
        cause = error.source();
    }
    text
}
