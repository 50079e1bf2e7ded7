//! The door to everything: a name and a pull policy in, layers and configuration out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio::task::JoinError;

use crate::builtin::{self, BuiltinError};
use crate::digest::Digest;
use crate::import::{self, ImportError, Imported, RootfsSettings};
use crate::progress::Progress;
use crate::pull::{Pull, PullError, Turns};
use crate::reference::{Reference, ReferenceError};
use crate::registries::{Registries, RegistriesError};
use crate::store::{ImageRef, ImageSummary, Removed, Store, StoreError};

/// When the registry is asked (`imagePullPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// every time; layers that are there are not fetched again
    Always,
    /// when the image is not in the store
    IfNotPresent,
    /// never
    Never,
}

/// Where images are kept and where they come from.
#[derive(Debug, Clone)]
pub struct Options {
    /// directory of the store, `STATE_DIR/images`
    pub directory: PathBuf,
    /// `registries.toml`; read at every pull, may be missing
    pub registries: PathBuf,
    /// the program of the built-in image, `minipod-hello`
    pub builtin: Option<PathBuf>,
}

/// The images of this node. Cheap to clone; clones share their pulls.
#[derive(Debug, Clone)]
pub struct Images {
    store: Store,
    options: Arc<Options>,
    /// one pull of a name at a time
    name_turns: Turns<Reference>,
    /// one fetch of a layer at a time
    layer_turns: Turns<Digest>,
}

/// Why there is no image.
#[derive(Debug, Error)]
pub enum ImageError {
    /// the name
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// not there and not to be pulled
    #[error("image `{reference}` is not on this node and its pull policy is `Never`; pull or import it first")]
    NeverPull {
        /// the complete name
        reference: Reference,
    },
    /// the registry or what came from it
    #[error(transparent)]
    Pull(#[from] PullError),
    /// the mirrors
    #[error(transparent)]
    Registries(#[from] RegistriesError),
    /// the built-in image
    #[error(transparent)]
    Builtin(#[from] BuiltinError),
    /// a name of ours for something else
    #[error("the name `{0}` is reserved for the built-in images; choose one outside `minipod.local/`")]
    Reserved(Reference),
    /// a file
    #[error(transparent)]
    Import(#[from] ImportError),
    /// the store
    #[error(transparent)]
    Store(#[from] StoreError),
    /// a thread of ours died
    #[error("the work on the image ended early")]
    Aborted(#[from] JoinError),
}

impl ImageError {
    /// The reason in Kubernetes' form, for a container's waiting state and events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Reference(_) | Self::Reserved(_) => "InvalidImageName",
            Self::NeverPull { .. } => "ErrImageNeverPull",
            Self::Store(_) => "ImageInspectError",
            Self::Pull(PullError::Unreachable { .. }) => "RegistryUnavailable",
            Self::Pull(_) | Self::Registries(_) | Self::Builtin(_) | Self::Import(_) | Self::Aborted(_) => {
                "ErrImagePull"
            }
        }
    }
}

impl Images {
    /// Opens the store (making it where it is missing) and sweeps what dead processes left.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let store = Store::open(&options.directory)?;
        Ok(Self { store, options: Arc::new(options), name_turns: Turns::default(), layer_turns: Turns::default() })
    }

    /// The store itself.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The image of that name, fetched if the policy says so. Of several callers for one name, one fetches and the others wait.
    pub async fn ensure(
        &self,
        reference: &str,
        policy: PullPolicy,
        progress: Arc<dyn Progress>,
    ) -> Result<ImageRef, ImageError> {
        let reference: Reference = reference.parse()?;
        if builtin::is_builtin(&reference) {
            return self.ensure_builtin(reference).await;
        }
        let turn = self.name_turns.of(&reference);
        let _turn = turn.lock().await;
        if policy != PullPolicy::Always
            && let Some(image) = self.present(&reference).await?
        {
            return Ok(image);
        }
        if policy == PullPolicy::Never {
            return Err(ImageError::NeverPull { reference });
        }
        let registries = Registries::load(&self.options.registries)?;
        let source = registries.source_of(&reference);
        let pull = Pull::new(&reference, source, &self.store, progress, self.layer_turns.clone())?;
        Ok(pull.run().await?)
    }

    /// Brings in the images of an archive (docker save or OCI, compressed or not). With `name` the archive must have one image,
    /// which gets that name.
    pub async fn import_archive(&self, path: &Path, name: Option<&str>) -> Result<Vec<Imported>, ImageError> {
        let name = name.map(parse_foreign).transpose()?;
        let (store, path) = (self.store.clone(), path.to_owned());
        let import = tokio::task::spawn_blocking(move || import::import_archive(&store, &path, name.as_ref()));
        Ok(import.await??)
    }

    /// Makes an image of a directory or tar file that is a plain root file system.
    pub async fn import_rootfs(
        &self,
        path: &Path,
        name: &str,
        settings: RootfsSettings,
    ) -> Result<Imported, ImageError> {
        let name = parse_foreign(name)?;
        let (store, path) = (self.store.clone(), path.to_owned());
        let import = tokio::task::spawn_blocking(move || import::import_rootfs(&store, &path, &name, &settings));
        Ok(import.await??)
    }

    /// All images in the store.
    pub fn list(&self) -> Result<Vec<ImageSummary>, StoreError> {
        self.store.list()
    }

    /// The image that a person means: a name, an ID, or the begin of an ID.
    pub fn find(&self, name_or_id: &str) -> Result<ImageRef, StoreError> {
        self.store.find(name_or_id)
    }

    /// Removes a name or an image; see [`Store::remove`]. What is built in would come back with its next use and is refused.
    pub fn remove(&self, name_or_id: &str, in_use: &BTreeSet<Digest>) -> Result<Removed, StoreError> {
        let id = self.store.find(name_or_id)?.id;
        let known = self.store.list()?.into_iter().filter(|image| image.id == id);
        let all: Vec<Reference> = known.flat_map(|image| image.names).collect();
        // What is no name is an ID, which stands for all names.
        let given = name_or_id.parse().ok().filter(|name| all.contains(name));
        let going = given.map_or(all, |name| vec![name]);
        if let Some(name) = going.into_iter().find(builtin::is_builtin) {
            return Err(StoreError::Builtin(name.to_string()));
        }
        self.store.remove(name_or_id, in_use)
    }

    /// Removes layers that no image has; see [`Store::collect`].
    pub fn collect(&self, in_use: &BTreeSet<Digest>) -> Result<Vec<Digest>, StoreError> {
        self.store.collect(in_use)
    }

    async fn present(&self, reference: &Reference) -> Result<Option<ImageRef>, ImageError> {
        let (store, reference) = (self.store.clone(), reference.clone());
        let found = tokio::task::spawn_blocking(move || store.by_name(&reference)).await?;
        match found {
            Err(StoreError::LayerMissing { .. }) => Ok(None),
            other => Ok(other?),
        }
    }

    async fn ensure_builtin(&self, reference: Reference) -> Result<ImageRef, ImageError> {
        let everything: Reference = builtin::HELLO_APP.parse()?;
        let turn = self.name_turns.of(&everything);
        let _turn = turn.lock().await;
        let (store, options) = (self.store.clone(), Arc::clone(&self.options));
        let made = tokio::task::spawn_blocking(move || builtin::ensure(&store, options.builtin.as_deref(), &reference));
        Ok(made.await??)
    }
}

/// A name for what is not built in.
fn parse_foreign(name: &str) -> Result<Reference, ImageError> {
    let reference: Reference = name.parse()?;
    if builtin::is_builtin(&reference) { Err(ImageError::Reserved(reference)) } else { Ok(reference) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Images, PullPolicy};
    use crate::progress::Quiet;

    /// The agent runs pulls as tasks, which only take futures that may change threads. Compiling is the test.
    #[expect(dead_code, reason = "it is only compiled")]
    fn a_pull_may_be_a_task(images: Images) -> Box<dyn Future<Output = ()> + Send> {
        Box::new(async move {
            let _image = images.ensure("alpine", PullPolicy::Always, Arc::new(Quiet)).await;
        })
    }
}
