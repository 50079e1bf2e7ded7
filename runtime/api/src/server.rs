//! The API server as a whole: opened once per node, then used in the process and over a unix socket.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use axum::Router;
use ipnet::IpNet;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bootstrap;
use crate::kinds::Cluster;
use crate::rest;
use crate::shared::Shared;
use crate::status::ApiError;
use crate::store::{OpenStoreError, RedbStore, Store};
use crate::streams::PodStreams;

/// What a server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// the store's file, e.g. `/var/lib/minipod/store.redb`
    pub store: PathBuf,
    /// the ranges of cluster IPs, at most one per family; the first is the family of services that do not say
    pub service_cidrs: Vec<IpNet>,
}

/// Why a server cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// the store
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// the service ranges
    #[error(
        "service ranges {ranges:?} cannot be used: {problem}; give one range, or one per family, e.g. `10.96.0.0/16` and `fd00:10:96::/112`"
    )]
    ServiceCidrs {
        /// as configured
        ranges: Vec<IpNet>,
        /// what is wrong
        problem: &'static str,
    },
    /// an object that every cluster has could not be made
    #[error("cannot create {kind} `{name}`, which every cluster has")]
    Bootstrap {
        /// kind of the object
        kind: &'static str,
        /// its name
        name: &'static str,
        /// why
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// someone listens there
    #[error("another process listens on `{}`; stop the other `minipod node` first", path.display())]
    InUse {
        /// the socket
        path: PathBuf,
    },
    /// the file system refused
    #[error("cannot listen on `{}`; check that its directory can be written by root", path.display())]
    Io {
        /// the socket
        path: PathBuf,
        /// why
        #[source]
        source: io::Error,
    },
}

/// The API server. Cheap to clone; all clones are one server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// Opens the store and makes what every cluster has: the namespaces `default`, `kube-system` and `kube-public`, and the
    /// service `kube-system/kube-dns`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        let cluster = Cluster::new(&config.service_cidrs)
            .map_err(|problem| OpenError::ServiceCidrs { ranges: config.service_cidrs.clone(), problem })?;
        let store = RedbStore::open(&config.store)?;
        let server = Self::with_store(Arc::new(store), cluster);
        server.ensure_cluster_objects().await?;
        Ok(server)
    }

    /// Makes what every cluster has, as far as it is missing: somebody may have deleted the service of the cluster DNS.
    ///
    /// # Errors
    /// [`OpenError::Bootstrap`]
    pub async fn ensure_cluster_objects(&self) -> Result<(), OpenError> {
        let made = bootstrap::ensure_objects(&self.shared).await;
        made.map_err(|(kind, name, source)| OpenError::Bootstrap { kind, name, source: Box::<ApiError>::new(source) })
    }

    pub(crate) fn with_store(store: Arc<dyn Store>, cluster: Cluster) -> Self {
        let shared = Shared { store, cluster, streams: OnceLock::new(), stopping: CancellationToken::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Who serves logs, exec and attach from now on. Before the first call they are answered with 503; later calls change
    /// nothing.
    pub fn set_pod_streams(&self, streams: Arc<dyn PodStreams>) {
        let _ = self.shared.streams.set(streams);
    }

    /// The REST interface as a service, for an in-process client (`kube::Client::new(server.router(), "default")`). `exec` and
    /// `attach` need a connection that can be upgraded, so they work over the socket only.
    pub fn router(&self) -> Router {
        rest::router(Arc::clone(&self.shared))
    }

    /// Listens on a unix socket that only root can use (mode 0600), until `stop`. Listens already when it returns. A socket
    /// that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn serve_unix(&self, path: &Path, stop: CancellationToken) -> Result<JoinHandle<()>, ServeError> {
        let listener = listen(path).await?;
        let router = self.router();
        let stopping = self.shared.stopping.clone();
        Ok(tokio::spawn(async move {
            let signal = async move {
                stop.cancelled().await;
                stopping.cancel();
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(signal).await {
                tracing::error!(%error, "the API socket failed");
            }
        }))
    }

    /// Ends all watches and followed logs, in the process too.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
    }
}

/// Binds under another name and renames, so that the socket never exists with wider permissions and replaces a stale one at once.
async fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(ServeError::InUse { path: path.to_owned() });
    }
    let io = |source| ServeError::Io { path: path.to_owned(), source };
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary).map_err(io)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600)).map_err(io)?;
    std::fs::rename(&temporary, path).map_err(io)?;
    Ok(listener)
}
