//! One layer on its way from the registry into the store: the network fills a channel, a blocking thread digests,
//! decompresses and unpacks what comes out. Nothing becomes visible before both digests are right.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use oci_client::client::SizedStream;
use oci_client::errors::DigestError;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::Pull;
use super::error::PullError;
use crate::digest::{Digest, DigestReader};
use crate::manifest::Descriptor;
use crate::progress::Event;
use crate::store::{LayerError, StagedLayer, Store};
use crate::unpack::UnpackError;

/// Chunks that may wait between network and disk.
const CHANNEL: usize = 32;
/// How often a layer is fetched before the pull fails, when only the connection is at fault.
const ATTEMPTS: usize = 3;

type Chunk = io::Result<Vec<u8>>;

/// What the unpacking thread found.
struct Unpacked {
    staged: Result<StagedLayer, LayerError>,
    /// digest of the whole stream; none if it was not read to its end
    digest: Option<Digest>,
}

impl Pull {
    /// Brings one layer into the store, unless it is there.
    pub(super) async fn layer(&self, layer: &Descriptor, diff_id: &Digest) -> Result<(), PullError> {
        let fetched = self.fetch(layer, diff_id).await;
        if fetched.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        fetched
    }

    async fn fetch(&self, layer: &Descriptor, diff_id: &Digest) -> Result<(), PullError> {
        let turn = self.turns.of(diff_id);
        let _turn = turn.lock().await;
        if self.store.has_layer(diff_id) {
            return Ok(());
        }
        let mut attempt = 1;
        let staged = loop {
            match self.stage(layer).await {
                Err(PullError::Interrupted { .. } | PullError::Unreachable { .. })
                    if attempt < ATTEMPTS && !self.has_failed() =>
                {
                    attempt += 1;
                }
                other => break other?,
            }
        };
        let (store, expected) = (self.store.clone(), diff_id.clone());
        let published = spawn_blocking(move || store.publish_layer(staged, Some(&expected))).await;
        published
            .map_err(|error| self.blame.aborted(error))?
            .map_err(|error| self.blame.layer(&layer.digest, error))?;
        self.progress.event(Event::Stored { layer: layer.digest.clone() });
        Ok(())
    }

    async fn stage(&self, layer: &Descriptor) -> Result<StagedLayer, PullError> {
        let what = format!("layer `{}`", layer.digest);
        let stream = self.client.pull_blob_stream(&self.source, layer.digest.to_string().as_str()).await;
        let stream = stream.map_err(|error| self.blame.client(&what, error))?;
        let (sender, receiver) = mpsc::channel(CHANNEL);
        let store = self.store.clone();
        let unpacking = spawn_blocking(move || unpack(&store, receiver));
        let sent = self.send(stream, layer, sender).await;
        let unpacked = unpacking.await.map_err(|error| self.blame.aborted(error))?;
        if let Err(source) = sent {
            return Err(self.blame.interrupted(&what, source));
        }
        match unpacked.digest {
            Some(actual) if actual != layer.digest => {
                Err(self.blame.wrong_digest(&what, &layer.digest.to_string(), &actual.to_string()))
            }
            _ => unpacked.staged.map_err(|error| self.blame.layer(&layer.digest, error)),
        }
    }

    /// Hands over what comes, at most as much as the manifest promised and one chunk more, so that the digest differs.
    async fn send(&self, mut stream: SizedStream, layer: &Descriptor, sender: mpsc::Sender<Chunk>) -> io::Result<()> {
        let mut received = 0;
        while let Some(chunk) = stream.stream.next().await {
            let chunk = if self.has_failed() { Err(io::ErrorKind::ConnectionAborted.into()) } else { chunk };
            let chunk = match chunk {
                Ok(chunk) => chunk,
                // Our own check finds it as well and names both digests.
                Err(error) if is_digest_error(&error) => return Ok(()),
                Err(error) => {
                    let _gone = sender.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
                    return Err(error);
                }
            };
            received += chunk.len() as u64;
            self.progress.event(Event::Received { layer: layer.digest.clone(), received });
            // A thread that hangs up has an error to tell.
            if sender.send(Ok(chunk.into())).await.is_err() || received > layer.size {
                break;
            }
        }
        Ok(())
    }
}

impl Pull {
    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

pub(super) fn is_digest_error(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<DigestError>)
}

fn unpack(store: &Arc<Store>, chunks: mpsc::Receiver<Chunk>) -> Unpacked {
    let mut compressed = DigestReader::new(ChunkReader { chunks, current: io::Cursor::new(Vec::new()) });
    let staged = store.stage_layer(&mut compressed);
    // Only when the contents are at fault it matters whether they are the promised ones.
    let contents =
        matches!(&staged, Ok(_) | Err(LayerError::Unpack(UnpackError::Corrupt { .. } | UnpackError::Refused { .. })));
    let digest = if contents { compressed.finish().ok().map(|(digest, _)| digest) } else { None };
    Unpacked { staged, digest }
}

/// The receiving end as a stream of bytes.
struct ChunkReader {
    chunks: mpsc::Receiver<Chunk>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = io::Cursor::new(chunk?),
                None => return Ok(0),
            }
        }
    }
}
