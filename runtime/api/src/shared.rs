//! What every request can reach.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::kinds::Cluster;
use crate::store::Store;
use crate::streams::PodStreams;

/// One per server; requests only read it.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cluster: Cluster,
    pub(crate) streams: OnceLock<Arc<dyn PodStreams>>,
    /// ends watches and followed logs, which would go on for ever
    pub(crate) stopping: CancellationToken,
}
