//! Brings images in from files: archives of `docker save` and `podman save`, OCI archives, plain root file systems.
//!
//! The outer archive is never unpacked: its entries are found by name and read where they are. Digests that an archive
//! states are checked, whatever the file.

mod archive;
mod pack;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::builtin::is_builtin;
use crate::config::{ConfigError, ImageConfig, NewConfig, NewRootfs, NewSettings, host_architecture};
use crate::digest::{Digest, DigestReader, is_hex};
use crate::manifest::{Descriptor, Document, MAX_DOCUMENT, Manifest, ManifestError, choose};
use crate::reference::Reference;
use crate::store::{ImageRef, LayerError, Store, StoreError};
use crate::unpack::Skipped;
use archive::Archive;

/// An image that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// the image
    pub image: ImageRef,
    /// the names that it has now through this import; without any it is known by its ID alone
    pub names: Vec<Reference>,
    /// what its layers had and was left out
    pub skipped: Vec<Skipped>,
}

/// What a plain root file system does not say itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootfsSettings {
    /// `Entrypoint`
    pub entrypoint: Vec<String>,
    /// `Cmd`
    pub cmd: Vec<String>,
    /// `Env`, as `KEY=VALUE`
    pub env: Vec<String>,
}

/// Why a file is no image.
#[derive(Debug, Error)]
pub enum ImportError {
    /// the file does not hold what a tar archive holds; what the decoder says of it may quote the file, which is nobody's business
    #[error(
        "`{path}` is no image archive, or a damaged one: give a file that `docker save` or `podman save` has written"
    )]
    NoTar {
        /// which
        path: PathBuf,
    },
    /// the file
    #[error("cannot read `{path}`")]
    Read {
        /// which
        path: PathBuf,
        /// what the system or the decoder says
        #[source]
        source: io::Error,
    },
    /// no archive of a known form
    #[error(
        "`{path}` is no image archive: it has neither `manifest.json` (docker save) nor `index.json` (OCI); \
         for a plain root file system use `minipod image import --rootfs`"
    )]
    NoArchive {
        /// which
        path: PathBuf,
    },
    /// the archive lists no image
    #[error("the image archive `{path}` is empty")]
    Empty {
        /// which
        path: PathBuf,
    },
    /// one name for several images
    #[error("the archive `{path}` has {count} images; `{name}` can be the name of one only, leave it out")]
    OneName {
        /// which
        path: PathBuf,
        /// how many
        count: usize,
        /// the name
        name: String,
    },
    /// the archive lacks something that it refers to
    #[error("the image archive `{path}` is incomplete: it has no `{entry}`")]
    Missing {
        /// which
        path: PathBuf,
        /// the entry
        entry: String,
    },
    /// an entry is not what the archive says
    #[error("`{entry}` in the image archive `{path}` is damaged: its digest is `{actual}`; get the archive again")]
    WrongDigest {
        /// which
        path: PathBuf,
        /// the entry
        entry: String,
        /// the digest of what is there
        actual: Digest,
    },
    /// a document in the archive
    #[error("cannot decode `{entry}` in the image archive `{path}`")]
    Decode {
        /// which
        path: PathBuf,
        /// the entry
        entry: String,
        /// where and what
        #[source]
        source: serde_json::Error,
    },
    /// a manifest
    #[error("cannot use the manifest in `{path}`")]
    Manifest {
        /// which
        path: PathBuf,
        /// why
        #[source]
        source: ManifestError,
    },
    /// a configuration
    #[error("cannot use the image in `{path}`")]
    Config {
        /// which
        path: PathBuf,
        /// why
        #[source]
        source: ConfigError,
    },
    /// a layer
    #[error("cannot unpack layer `{layer}` of `{path}`")]
    Layer {
        /// which file
        path: PathBuf,
        /// the entry, or the file itself
        layer: String,
        /// why
        #[source]
        source: LayerError,
    },
    /// the store
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// One import from one archive.
struct Import<'a> {
    store: &'a Store,
    archive: Archive,
    path: &'a Path,
}

/// The pieces of one image as the archive names them.
struct Pieces {
    config: Vec<u8>,
    /// entry and compressed digest, lowest first
    layers: Vec<(String, Option<Digest>)>,
    names: Vec<Reference>,
}

/// Brings in every image of an archive. With `name` the archive must have one image, which gets that name and no other.
pub(crate) fn import_archive(
    store: &Store,
    path: &Path,
    name: Option<&Reference>,
) -> Result<Vec<Imported>, ImportError> {
    let _hold = store.hold()?;
    let read = |source: io::Error| match source.raw_os_error() {
        Some(_) => ImportError::Read { path: path.to_owned(), source },
        None => ImportError::NoTar { path: path.to_owned() },
    };
    let archive = Archive::open(path, &store.root().join("work")).map_err(read)?;
    let mut import = Import { store, archive, path };
    let mut images = if import.archive.has("manifest.json") {
        import.docker_images()?
    } else if import.archive.has("index.json") {
        import.oci_images()?
    } else {
        return Err(ImportError::NoArchive { path: path.to_owned() });
    };
    if images.is_empty() {
        return Err(ImportError::Empty { path: path.to_owned() });
    }
    if let Some(name) = name {
        let [image] = images.as_mut_slice() else {
            return Err(ImportError::OneName { path: path.to_owned(), count: images.len(), name: name.to_string() });
        };
        image.names = vec![name.clone()];
    }
    images.into_iter().map(|pieces| import.image(pieces)).collect()
}

/// Makes an image of a directory or of a tar file (compressed or not) that is a root file system.
pub(crate) fn import_rootfs(
    store: &Store,
    path: &Path,
    name: &Reference,
    settings: &RootfsSettings,
) -> Result<Imported, ImportError> {
    let _hold = store.hold()?;
    let read = |source| ImportError::Read { path: path.to_owned(), source };
    let layer = |source| ImportError::Layer { path: path.to_owned(), layer: path.display().to_string(), source };
    let (staged, left_out) = if path.is_dir() {
        pack::through(path, |stream| store.stage_layer(stream)).map_err(read)?
    } else {
        (store.stage_layer(File::open(path).map_err(read)?), Vec::new())
    };
    let staged = staged.map_err(layer)?;
    let mut skipped = left_out;
    skipped.extend(staged.report().skipped.iter().cloned());
    let diff_id = store.publish_layer(staged, None).map_err(layer)?;
    let words = |words: &'_ [String]| words.to_vec();
    let config = NewConfig {
        created: "1970-01-01T00:00:00Z",
        architecture: host_architecture(),
        os: "linux",
        config: NewSettings {
            entrypoint: words(&settings.entrypoint),
            cmd: words(&settings.cmd),
            env: words(&settings.env),
            exposed_ports: serde_json::Map::new(),
        },
        rootfs: NewRootfs { kind: "layers", diff_ids: vec![diff_id] },
    };
    let json = serde_json::to_vec(&config).map_err(|source| ImportError::Decode {
        path: path.to_owned(),
        entry: "configuration".to_owned(),
        source,
    })?;
    let image = store.add_image(&json, std::slice::from_ref(name))?;
    Ok(Imported { image, names: vec![name.clone()], skipped })
}

impl Import<'_> {
    fn docker_images(&mut self) -> Result<Vec<Pieces>, ImportError> {
        let json = self.document("manifest.json")?;
        let images: Vec<DockerImage> = self.decode("manifest.json", &json)?;
        images.into_iter().map(|image| self.docker_image(image)).collect()
    }

    fn docker_image(&mut self, image: DockerImage) -> Result<Pieces, ImportError> {
        let config = self.document(&image.config)?;
        let stem = image.config.rsplit('/').next().unwrap_or_default();
        let stem = stem.strip_suffix(".json").unwrap_or(stem);
        let actual = Digest::of(&config);
        if is_hex(stem) && actual.hex() != stem {
            return Err(self.wrong_digest(&image.config, actual));
        }
        let tags = image.repo_tags.unwrap_or_default();
        let names = tags.iter().filter_map(|tag| tag.parse().ok()).collect();
        Ok(Pieces { config, layers: image.layers.into_iter().map(|layer| (layer, None)).collect(), names })
    }

    fn oci_images(&mut self) -> Result<Vec<Pieces>, ImportError> {
        let json = self.document("index.json")?;
        let Document::Index(images) = self.manifest(&json)? else {
            return Err(self.bad_manifest(ManifestError::Neither));
        };
        // Several entries are either several images, each with a name, or one image for several platforms.
        let chosen: Vec<Descriptor> = if images.len() > 1 && images.iter().all(|image| name_of(image).is_none()) {
            vec![choose(&images).map_err(|source| self.bad_manifest(source))?.clone()]
        } else {
            images
        };
        chosen.iter().map(|image| self.oci_image(image)).collect()
    }

    fn oci_image(&mut self, image: &Descriptor) -> Result<Pieces, ImportError> {
        let names = name_of(image).into_iter().collect();
        let manifest = self.oci_manifest(image)?;
        let config = self.blob(&manifest.config)?;
        let layer = |layer: Descriptor| (blob_path(&layer.digest), Some(layer.digest));
        Ok(Pieces { config, layers: manifest.layers.into_iter().map(layer).collect(), names })
    }

    /// The manifest that a descriptor leads to, through one index of platforms at most.
    fn oci_manifest(&mut self, descriptor: &Descriptor) -> Result<Manifest, ImportError> {
        let json = self.blob(descriptor)?;
        let index = match self.manifest(&json)? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(index) => index,
        };
        let ours = choose(&index).map_err(|source| self.bad_manifest(source))?.clone();
        let json = self.blob(&ours)?;
        match self.manifest(&json)? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(self.bad_manifest(ManifestError::Neither)),
        }
    }

    fn image(&mut self, mut pieces: Pieces) -> Result<Imported, ImportError> {
        // An archive from elsewhere must not take the place of what is built in.
        pieces.names.retain(|name| !is_builtin(name));
        let config = ImageConfig::decode(&pieces.config)
            .map_err(|source| ImportError::Config { path: self.path.to_owned(), source })?;
        let (layers, diff_ids) = (pieces.layers.len(), config.diff_ids.len());
        if layers != diff_ids {
            return Err(self.bad_manifest(ManifestError::LayerCount { layers, diff_ids }));
        }
        let mut skipped = Vec::new();
        for ((entry, digest), diff_id) in pieces.layers.iter().zip(&config.diff_ids) {
            if !self.store.has_layer(diff_id) {
                skipped.extend(self.layer(entry, digest.as_ref(), diff_id)?);
            }
        }
        let image = self.store.add_image(&pieces.config, &pieces.names)?;
        Ok(Imported { image, names: pieces.names, skipped })
    }

    fn layer(&mut self, entry: &str, digest: Option<&Digest>, diff_id: &Digest) -> Result<Vec<Skipped>, ImportError> {
        let bad = |source| ImportError::Layer { path: self.path.to_owned(), layer: entry.to_owned(), source };
        let stream = self.archive.entry(entry).map_err(|source| read_error(self.path, source))?;
        let Some(stream) = stream else {
            return Err(ImportError::Missing { path: self.path.to_owned(), entry: entry.to_owned() });
        };
        let mut compressed = DigestReader::new(stream);
        let staged = self.store.stage_layer(&mut compressed);
        let (actual, _) = compressed.finish().map_err(|source| read_error(self.path, source))?;
        if digest.is_some_and(|expected| *expected != actual) {
            return Err(self.wrong_digest(entry, actual));
        }
        let staged = staged.map_err(bad)?;
        let skipped = staged.report().skipped.clone();
        self.store.publish_layer(staged, Some(diff_id)).map_err(bad)?;
        Ok(skipped)
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, ImportError> {
        let entry = blob_path(&descriptor.digest);
        let contents = self.document(&entry)?;
        let actual = Digest::of(&contents);
        if actual == descriptor.digest { Ok(contents) } else { Err(self.wrong_digest(&entry, actual)) }
    }

    fn document(&mut self, entry: &str) -> Result<Vec<u8>, ImportError> {
        let stream = self.archive.entry(entry).map_err(|source| read_error(self.path, source))?;
        let Some(stream) = stream else {
            return Err(ImportError::Missing { path: self.path.to_owned(), entry: entry.to_owned() });
        };
        let mut contents = Vec::new();
        let read = stream.take(MAX_DOCUMENT + 1).read_to_end(&mut contents);
        read.map_err(|source| read_error(self.path, source))?;
        if contents.len() as u64 > MAX_DOCUMENT {
            let source = io::Error::new(io::ErrorKind::FileTooLarge, format!("`{entry}` is larger than 8 MiB"));
            return Err(read_error(self.path, source));
        }
        Ok(contents)
    }

    fn decode<'json, T: Deserialize<'json>>(&self, entry: &str, json: &'json [u8]) -> Result<T, ImportError> {
        serde_json::from_slice(json).map_err(|source| ImportError::Decode {
            path: self.path.to_owned(),
            entry: entry.to_owned(),
            source,
        })
    }

    fn manifest(&self, json: &[u8]) -> Result<Document, ImportError> {
        Document::decode(json).map_err(|source| self.bad_manifest(source))
    }

    fn bad_manifest(&self, source: ManifestError) -> ImportError {
        ImportError::Manifest { path: self.path.to_owned(), source }
    }

    fn wrong_digest(&self, entry: &str, actual: Digest) -> ImportError {
        ImportError::WrongDigest { path: self.path.to_owned(), entry: entry.to_owned(), actual }
    }
}

fn read_error(path: &Path, source: io::Error) -> ImportError {
    ImportError::Read { path: path.to_owned(), source }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The name that an OCI archive gives an image: containerd's annotation has a complete one, the standard one mostly a tag only,
/// which alone names nothing.
fn name_of(image: &Descriptor) -> Option<Reference> {
    let complete = image.annotations.get("io.containerd.image.name");
    let standard = image.annotations.get("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']));
    complete.or(standard).and_then(|name| name.parse().ok())
}
