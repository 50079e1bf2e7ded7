//! How far the watches have come, each by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::versions::Kind;

/// Up to which revision of the store each kind has been told to the engine. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<watch::Sender<BTreeMap<Kind, u64>>>);

/// The watch of a kind has not come as far as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the watch of {kind:?} objects has come to resource version {reached}, the API server is at {wanted}")]
pub struct Behind {
    /// the kind
    pub kind: Kind,
    /// how far it has come
    pub reached: u64,
    /// how far it should have
    pub wanted: u64,
}

impl Progress {
    /// Everything of this kind up to `revision` has been told.
    pub(super) fn note(&self, kind: Kind, revision: u64) {
        self.0.send_if_modified(|reached| {
            let reached = reached.entry(kind).or_default();
            let further = revision > *reached;
            *reached = revision.max(*reached);
            further
        });
    }

    /// Waits until everything of every kind up to `revision` has been told.
    ///
    /// # Errors
    /// The watch that is furthest behind, when that takes longer than `patience`.
    pub async fn reaches(&self, revision: u64, patience: Duration) -> Result<(), Behind> {
        let mut progress = self.0.subscribe();
        let there = progress.wait_for(|reached| furthest_behind(reached, revision).is_none());
        // The sender is `self`: it cannot have gone.
        if tokio::time::timeout(patience, there).await.is_ok() {
            return Ok(());
        }
        furthest_behind(&self.0.borrow(), revision).map_or(Ok(()), Err)
    }
}

fn furthest_behind(reached: &BTreeMap<Kind, u64>, wanted: u64) -> Option<Behind> {
    let of = |kind: Kind| reached.get(&kind).copied().unwrap_or(0);
    let kind = Kind::ALL.into_iter().min_by_key(|kind| of(*kind))?;
    (of(kind) < wanted).then(|| Behind { kind, reached: of(kind), wanted })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Behind, Progress};
    use crate::versions::Kind;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_revision_is_reached_when_every_kind_has_reached_it() {
        let progress = Progress::default();
        for kind in Kind::ALL {
            progress.note(kind, 5);
        }
        assert_eq!(progress.reaches(5, LONG).await, Ok(()));
        progress.note(Kind::Pod, 7);
        progress.note(Kind::Pod, 6);
        let behind = Behind { kind: Kind::Namespace, reached: 5, wanted: 7 };
        assert_eq!(progress.reaches(7, Duration::ZERO).await, Err(behind));
        let waiting = tokio::spawn({
            let progress = progress.clone();
            async move { progress.reaches(7, LONG).await }
        });
        for kind in Kind::ALL {
            progress.note(kind, 7);
        }
        assert_eq!(waiting.await.expect("no panic"), Ok(()));
    }
}
