//! What a caller may watch while an image comes in. The crate reports; drawing a bar is the command line's.

use crate::digest::Digest;

/// Something that happened while an image was resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// the registry is being asked
    Resolving {
        /// the complete reference
        reference: String,
        /// host that is asked
        registry: String,
    },
    /// the manifest is known
    Resolved {
        /// layers that are not in the store yet, with their compressed size in bytes
        missing: Vec<(Digest, u64)>,
        /// layers that are in the store already
        present: usize,
    },
    /// bytes of a layer arrived; `received` counts from the layer's begin and starts again when the layer is fetched again
    Received {
        /// the layer's compressed digest
        layer: Digest,
        /// compressed bytes so far
        received: u64,
    },
    /// a layer is unpacked, checked and in the store
    Stored {
        /// the layer's compressed digest
        layer: Digest,
    },
}

/// Receives events, from any thread, and must not block.
pub trait Progress: Send + Sync {
    /// One event.
    fn event(&self, event: Event);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn event(&self, _event: Event) {}
}

impl<F: Fn(Event) + Send + Sync> Progress for F {
    fn event(&self, event: Event) {
        self(event);
    }
}
