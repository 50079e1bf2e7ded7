//! Pulls an image from a registry: manifest, configuration, the layers that are missing. Anonymous; every byte is checked
//! against the digest that led to it, and every layer against the configuration too.

mod error;
mod layer;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, stream};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference as Location};
use tokio::task::spawn_blocking;

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::manifest::{Descriptor, Document, MAX_DOCUMENT, Manifest, ManifestError, choose};
use crate::progress::{Event, Progress};
use crate::reference::Reference;
use crate::registries::Source;
use crate::store::{ImageRef, Store};
use error::Blame;
pub use error::PullError;

const ACCEPTED: &[&str] =
    &[OCI_IMAGE_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// As long a registry may say nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Layers that come at the same time.
const PARALLEL_LAYERS: usize = 3;

/// Turns for things that only one task may do at a time, by key.
#[derive(Debug)]
pub(crate) struct Turns<K> {
    by_key: Arc<Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>>,
}

impl<K> Clone for Turns<K> {
    fn clone(&self) -> Self {
        Self { by_key: Arc::clone(&self.by_key) }
    }
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self { by_key: Arc::default() }
    }
}

impl<K: Clone + Eq + Hash> Turns<K> {
    /// The turn for this key; locked by whoever has it.
    pub(crate) fn of(&self, key: &K) -> Arc<tokio::sync::Mutex<()>> {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        by_key.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(by_key.entry(key.clone()).or_default())
    }
}

/// One pull.
pub(crate) struct Pull {
    client: Client,
    /// where the image is fetched from
    source: Location,
    blame: Blame,
    store: Arc<Store>,
    progress: Arc<dyn Progress>,
    /// one fetch of a layer at a time, also when several images have it
    turns: Turns<Digest>,
    /// a layer failed, the others need not go on
    failed: AtomicBool,
}

impl Pull {
    pub(crate) fn new(
        reference: &Reference,
        source: Source,
        store: &Store,
        progress: Arc<dyn Progress>,
        turns: Turns<Digest>,
    ) -> Result<Self, PullError> {
        let location = location_of(reference, &source);
        let blame = Blame { reference: reference.clone(), source };
        let client = client_for(&blame.source).map_err(|error| blame.unreachable(error.into()))?;
        Ok(Self {
            client,
            source: location,
            blame,
            store: Arc::new(store.clone()),
            progress,
            turns,
            failed: AtomicBool::new(false),
        })
    }

    /// Does it; at the end the store has the image under its name.
    pub(crate) async fn run(&self) -> Result<ImageRef, PullError> {
        let hold = self.blocking(Store::hold).await??;
        self.progress.event(Event::Resolving {
            reference: self.blame.reference.to_string(),
            registry: self.blame.source.registry.clone(),
        });
        let manifest = self.manifest().await?;
        let config = self.document("the configuration", &manifest.config).await?;
        let decoded = ImageConfig::decode(&config)
            .map_err(|source| PullError::Config { reference: self.blame.reference.to_string(), source })?;
        let missing = self.missing(&manifest, &decoded)?;
        self.progress.event(Event::Resolved {
            missing: missing.values().map(|layer| (layer.digest.clone(), layer.size)).collect(),
            present: manifest.layers.len().saturating_sub(missing.len()),
        });
        // Boxed: a closure that borrows would make the whole future one that no task takes.
        let mut layers = Vec::with_capacity(missing.len());
        for (diff_id, layer) in &missing {
            layers.push(self.layer(layer, diff_id).boxed());
        }
        // After a failure the others stop at once, but their threads are waited for: what they unpacked is gone when this ends.
        let fetched: Vec<Result<(), PullError>> =
            stream::iter(layers).buffer_unordered(PARALLEL_LAYERS).collect().await;
        fetched.into_iter().collect::<Result<(), PullError>>()?;
        let name = self.blame.reference.clone();
        let image = self.blocking(move |store| store.add_image(&config, &[name])).await??;
        drop(hold);
        Ok(image)
    }

    /// The manifest for this machine, through one index of platforms at most.
    async fn manifest(&self) -> Result<Manifest, PullError> {
        let index = match self.manifest_at(&self.source).await? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(index) => index,
        };
        let ours = choose(&index).map_err(|source| self.blame.manifest(source))?;
        let location = self.source.clone_with_digest(ours.digest.to_string());
        match self.manifest_at(&location).await? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(self.blame.manifest(ManifestError::Neither)),
        }
    }

    async fn manifest_at(&self, location: &Location) -> Result<Document, PullError> {
        let pulled = self.client.pull_manifest_raw(location, &RegistryAuth::Anonymous, ACCEPTED).await;
        let (json, _) = pulled.map_err(|error| self.blame.client("the manifest", error))?;
        let actual = Digest::of(&json);
        if let Some(expected) = location.digest().filter(|expected| *expected != actual.to_string()) {
            return Err(self.blame.wrong_digest("the manifest", expected, &actual.to_string()));
        }
        Document::decode(&json).map_err(|source| self.blame.manifest(source))
    }

    /// A small blob, checked.
    async fn document(&self, what: &str, descriptor: &Descriptor) -> Result<Vec<u8>, PullError> {
        let digest = descriptor.digest.to_string();
        let pulled = self.client.pull_blob_stream(&self.source, digest.as_str()).await;
        let mut stream = pulled.map_err(|error| self.blame.client(what, error))?.stream;
        let mut contents = Vec::new();
        let limit = descriptor.size.min(MAX_DOCUMENT);
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => contents.extend_from_slice(&chunk),
                // Checked below, where both digests are named.
                Err(error) if layer::is_digest_error(&error) => break,
                Err(error) => return Err(self.blame.interrupted(what, error)),
            }
            if contents.len() as u64 > limit {
                break;
            }
        }
        let actual = Digest::of(&contents);
        if actual == descriptor.digest {
            Ok(contents)
        } else {
            Err(self.blame.wrong_digest(what, &digest, &actual.to_string()))
        }
    }

    /// The layers that the store lacks, by diff ID; an image may have a layer twice.
    fn missing<'a>(
        &self,
        manifest: &'a Manifest,
        config: &'a ImageConfig,
    ) -> Result<BTreeMap<&'a Digest, &'a Descriptor>, PullError> {
        let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
        if layers != diff_ids {
            return Err(self.blame.manifest(ManifestError::LayerCount { layers, diff_ids }));
        }
        let pairs = config.diff_ids.iter().zip(&manifest.layers);
        Ok(pairs.filter(|(diff_id, _)| !self.store.has_layer(diff_id)).collect())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, PullError> {
        let store = Arc::clone(&self.store);
        spawn_blocking(move || work(&store)).await.map_err(|error| self.blame.aborted(error))
    }
}

/// A reference's place after mirroring. With a digest the tag is of no meaning.
fn location_of(reference: &Reference, source: &Source) -> Location {
    let (registry, repository) = (source.registry.clone(), source.repository.clone());
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Location::with_digest(registry, repository, digest.to_string()),
        (None, tag) => {
            Location::with_tag(registry, repository, tag.unwrap_or(crate::reference::DEFAULT_TAG).to_owned())
        }
    }
}

fn client_for(source: &Source) -> Result<Client, oci_client::errors::OciDistributionError> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another part of the process may have installed one already; any will do.
        let _installed = rustls::crypto::ring::default_provider().install_default();
    });
    Client::try_from(ClientConfig {
        protocol: if source.insecure { ClientProtocol::Http } else { ClientProtocol::Https },
        // Nothing is verified over plain HTTP; asking for certificates would only fail where none are installed.
        accept_invalid_certificates: source.insecure,
        platform_resolver: None,
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("minipod/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}
