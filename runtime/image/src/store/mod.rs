//! The image store: unpacked layers, image configurations, and the index of names.
//!
//! Layout below the root (mode 0700, since layers hold setuid programs):
//!
//! ```text
//! layers/HEX/fs        an unpacked layer, named by its diff ID; complete or not there
//! layers/HEX/layer.json
//! s/HEX12              short links to the above: an overlay of many layers must fit into one page of mount options
//! configs/HEX.json     image configurations as they came, named by their digest, which is the image's ID
//! work/RANDOM/         what is being unpacked or removed; locked by its process, swept when its process is gone
//! index.json           names and images
//! index.lock gc.lock work.lock
//! ```
//!
//! Several processes may use one store. The index is replaced by rename under `index.lock`; whoever brings layers in holds
//! `gc.lock` shared, so that no layer is collected before an image refers to it.

mod index;
mod layers;
mod lock;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::config::{ConfigError, ImageConfig};
use crate::digest::{Digest, is_hex};
use crate::reference::Reference;
use index::{ImageRecord, Index};
pub use layers::{LayerError, StagedLayer};
use lock::{Lock, Mode};

/// The store below one directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef {
    /// digest of the configuration
    pub id: Digest,
    /// directories of the layers, topmost first, as `lowerdir` wants them
    pub layers: Vec<PathBuf>,
    /// the configuration
    pub config: ImageConfig,
}

/// An image as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// digest of the configuration
    pub id: Digest,
    /// all names, sorted; none for an image whose name went to another one
    pub names: Vec<Reference>,
    /// bytes of all files of all layers
    pub size: u64,
    /// seconds since the Unix epoch when it came into the store
    pub added_at: u64,
    /// `created` of the configuration, as written
    pub created: Option<String>,
}

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// names that are gone
    pub names: Vec<Reference>,
    /// the image, if it went with its last name
    pub image: Option<Digest>,
    /// layers that went with it
    pub layers: Vec<Digest>,
}

/// Why the store could not do it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// a name of a built-in image
    #[error("image `{0}` is built in and cannot be removed: it would be made again with its next use")]
    Builtin(String),
    /// a file or directory
    #[error("cannot {verb} `{path}` in the image store")]
    Io {
        /// what was tried
        verb: &'static str,
        /// where
        path: PathBuf,
        /// what the system says
        #[source]
        source: io::Error,
    },
    /// the index cannot be decoded
    #[error("the image index `{path}` is damaged; restore it, or remove the directory `{root}` and pull the images again", root = root.display())]
    Damaged {
        /// the index
        path: PathBuf,
        /// the store's root
        root: PathBuf,
        /// where and what
        #[source]
        source: serde_json::Error,
    },
    /// a configuration that is in the store cannot be used
    #[error("image `{id}` cannot be used")]
    Config {
        /// the image
        id: Digest,
        /// why
        #[source]
        source: ConfigError,
    },
    /// a layer is gone
    #[error("image `{id}` is incomplete: its layer `{layer}` is not in the store; pull or import it again")]
    LayerMissing {
        /// the image
        id: Digest,
        /// the layer
        layer: Digest,
    },
    /// a name or ID that is not there
    #[error("no image `{0}` in the store; `minipod image ls` lists what is there")]
    NotFound(String),
    /// an ID prefix that several images share
    #[error("image ID `{prefix}` is ambiguous: {count} images begin with it; write more of it")]
    Ambiguous {
        /// what was given
        prefix: String,
        /// how many
        count: usize,
    },
    /// pods run from it
    #[error("image `{name}` ({id}) is in use; delete its pods first", id = id.short())]
    InUse {
        /// what was given
        name: String,
        /// the image
        id: Digest,
    },
}

/// Held while layers come in, so that they are not collected before an image refers to them.
#[derive(Debug)]
pub struct Hold {
    _lock: Lock,
}

impl Store {
    /// Opens the store, makes what is missing, and sweeps what dead processes left.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self { root: root.to_owned() };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(io_error("create", root))?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(io_error("restrict", root))?;
        for directory in ["layers", "s", "configs", "work"] {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        store.sweep()?;
        store.index()?;
        Ok(store)
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps layers from being collected until it is dropped.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        Ok(Hold { _lock: self.lock("gc.lock", Mode::Shared)? })
    }

    /// The image of that name.
    pub fn by_name(&self, name: &Reference) -> Result<Option<ImageRef>, StoreError> {
        let index = self.index()?;
        index.names.get(name).map(|id| self.image(id, &index)).transpose()
    }

    /// The image that a person means: a name, an ID, or the begin of an ID (at least four characters).
    pub fn find(&self, name_or_id: &str) -> Result<ImageRef, StoreError> {
        let index = self.index()?;
        let id = resolve(&index, name_or_id)?;
        self.image(&id, &index)
    }

    /// Whether the image of that ID is in the store with all its layers.
    pub fn by_id(&self, id: &Digest) -> Result<Option<ImageRef>, StoreError> {
        let index = self.index()?;
        if index.images.contains_key(id) { self.image(id, &index).map(Some) } else { Ok(None) }
    }

    /// All images, by ID.
    pub fn list(&self) -> Result<Vec<ImageSummary>, StoreError> {
        let index = self.index()?;
        let summary = |(id, record): (&Digest, &ImageRecord)| ImageSummary {
            id: id.clone(),
            names: index.names_of(id),
            size: record.layers.iter().map(|layer| self.layer_bytes(layer)).sum(),
            added_at: record.added_at,
            created: record.created.clone(),
        };
        Ok(index.images.iter().map(summary).collect())
    }

    /// Records an image whose layers are all there, under these names; a name that another image had moves over.
    pub fn add_image(&self, config: &[u8], names: &[Reference]) -> Result<ImageRef, StoreError> {
        let id = Digest::of(config);
        let decoded = ImageConfig::decode(config).map_err(|source| StoreError::Config { id: id.clone(), source })?;
        if let Some(layer) = decoded.diff_ids.iter().find(|layer| !self.has_layer(layer)) {
            return Err(StoreError::LayerMissing { id, layer: layer.clone() });
        }
        let path = self.config_path(&id);
        index::replace(&path, config).map_err(io_error("write", &path))?;
        self.change_index(|index| {
            let added_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            index.images.entry(id.clone()).or_insert_with(|| ImageRecord {
                layers: decoded.diff_ids.clone(),
                added_at,
                created: decoded.created.clone(),
            });
            for name in names {
                index.names.insert(name.clone(), id.clone());
            }
            Ok(())
        })?;
        let index = self.index()?;
        self.image(&id, &index)
    }

    /// Gives an image another name.
    pub fn tag(&self, name_or_id: &str, name: &Reference) -> Result<Digest, StoreError> {
        self.change_index(|index| {
            let id = resolve(index, name_or_id)?;
            index.names.insert(name.clone(), id.clone());
            Ok(id)
        })
    }

    /// Removes a name, or with an ID all names of an image. The image goes with its last name, its layers when no other image
    /// has them. `in_use` are the IDs of images that pods run from: they keep their last name.
    pub fn remove(&self, name_or_id: &str, in_use: &BTreeSet<Digest>) -> Result<Removed, StoreError> {
        let mut removed = self.change_index(|index| {
            let id = resolve(index, name_or_id)?;
            let all = index.names_of(&id);
            let given = name_or_id.parse::<Reference>().ok().filter(|name| index.names.get(name) == Some(&id));
            let names = given.map_or_else(|| all.clone(), |name| vec![name]);
            let last = names.len() == all.len();
            if last && in_use.contains(&id) {
                return Err(StoreError::InUse { name: name_or_id.to_owned(), id });
            }
            for name in &names {
                index.names.remove(name);
            }
            if last {
                index.images.remove(&id);
            }
            Ok(Removed { names, image: last.then_some(id), layers: Vec::new() })
        })?;
        if removed.image.is_some() {
            removed.layers = self.collect(&BTreeSet::new())?;
        }
        Ok(removed)
    }

    /// Removes layers and configurations that no image in the index has. Does nothing while layers come in. `in_use` are diff
    /// IDs to keep although no image has them.
    pub fn collect(&self, in_use: &BTreeSet<Digest>) -> Result<Vec<Digest>, StoreError> {
        let Some(_gc) = self.try_lock("gc.lock")? else {
            return Ok(Vec::new());
        };
        let index = self.index()?;
        let wanted: BTreeSet<&Digest> = index.images.values().flat_map(|record| &record.layers).chain(in_use).collect();
        let mut removed = Vec::new();
        for layer in self.stored_layers()? {
            if !wanted.contains(&layer) {
                self.remove_layer(&layer)?;
                removed.push(layer);
            }
        }
        self.remove_configs(&index)?;
        Ok(removed)
    }

    fn image(&self, id: &Digest, index: &Index) -> Result<ImageRef, StoreError> {
        let record = index.images.get(id).ok_or_else(|| StoreError::NotFound(id.to_string()))?;
        let path = self.config_path(id);
        let json = fs::read(&path).map_err(io_error("read", &path))?;
        let config = ImageConfig::decode(&json).map_err(|source| StoreError::Config { id: id.clone(), source })?;
        let mut layers = Vec::with_capacity(record.layers.len());
        for layer in record.layers.iter().rev() {
            if !self.has_layer(layer) {
                return Err(StoreError::LayerMissing { id: id.clone(), layer: layer.clone() });
            }
            layers.push(self.layer_path(layer));
            if self.is_opaque(layer).map_err(io_error("look at", self.root()))? {
                break;
            }
        }
        Ok(ImageRef { id: id.clone(), layers, config })
    }

    fn remove_configs(&self, index: &Index) -> Result<(), StoreError> {
        let directory = self.root.join("configs");
        for entry in fs::read_dir(&directory).map_err(io_error("list", &directory))? {
            let path = entry.map_err(io_error("list", &directory))?.path();
            let id = path.file_stem().and_then(|stem| format!("sha256:{}", stem.to_string_lossy()).parse().ok());
            if !id.is_some_and(|id: Digest| index.images.contains_key(&id)) {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    fn config_path(&self, id: &Digest) -> PathBuf {
        self.root.join("configs").join(format!("{}.json", id.hex()))
    }
}

fn io_error(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { verb, path: path.to_owned(), source }
}

/// A name, an ID, or the begin of an ID.
fn resolve(index: &Index, name_or_id: &str) -> Result<Digest, StoreError> {
    if let Some(id) = name_or_id.parse::<Reference>().ok().and_then(|name| index.names.get(&name)) {
        return Ok(id.clone());
    }
    let not_found = || StoreError::NotFound(name_or_id.to_owned());
    let prefix = name_or_id.strip_prefix("sha256:").unwrap_or(name_or_id);
    let hexadecimal = prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !(is_hex(prefix) || (4..64).contains(&prefix.len()) && hexadecimal) {
        return Err(not_found());
    }
    let mut matching = index.images.keys().filter(|id| id.hex().starts_with(prefix));
    match (matching.next(), matching.count()) {
        (None, _) => Err(not_found()),
        (Some(id), 0) => Ok(id.clone()),
        (Some(_), more) => Err(StoreError::Ambiguous { prefix: prefix.to_owned(), count: more + 1 }),
    }
}
