//! The recent changes, kept so that a watch can resume and a list can show an earlier revision. Bounded by number, age and
//! size; what is older is compacted, and asking for it is answered with an error, never with a gap.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Change, Record, StoreError};

/// Bounds of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// changes kept at most
    pub(super) changes: usize,
    /// bytes of values kept at most, those of the latest state not counted apart
    pub(super) bytes: usize,
    /// changes older than this go
    pub(super) age: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { changes: 10_000, bytes: 8 << 20, age: Duration::from_secs(300) }
    }
}

#[derive(Debug)]
pub(super) struct Log {
    bounds: Bounds,
    changes: VecDeque<(Instant, Change)>,
    bytes: usize,
    /// every change after this revision is in the log
    compacted: u64,
    /// the latest revision
    revision: u64,
}

impl Log {
    pub(super) fn new(bounds: Bounds, revision: u64) -> Self {
        Self { bounds, changes: VecDeque::new(), bytes: 0, compacted: revision, revision }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Adds the changes of one commit.
    pub(super) fn push(&mut self, now: Instant, revision: u64, changes: impl IntoIterator<Item = Change>) {
        self.revision = revision;
        for change in changes {
            self.bytes += size(&change);
            self.changes.push_back((now, change));
        }
        self.compact(now);
    }

    /// Drops what is out of bounds; a revision goes as a whole.
    fn compact(&mut self, now: Instant) {
        while let Some((at, change)) = self.changes.front() {
            let expired = now.saturating_duration_since(*at) > self.bounds.age;
            if !expired && self.changes.len() <= self.bounds.changes && self.bytes <= self.bounds.bytes {
                return;
            }
            let revision = change.revision;
            while let Some((_, change)) = self.changes.front()
                && change.revision == revision
            {
                self.bytes -= size(change);
                self.changes.pop_front();
            }
            self.compacted = revision;
        }
    }

    /// Whether `revision` can be resumed from or shown.
    pub(super) fn check(&self, revision: u64) -> Result<(), StoreError> {
        if revision < self.compacted {
            return Err(StoreError::Compacted { wanted: revision, oldest: self.compacted });
        }
        if revision > self.revision {
            return Err(StoreError::Future { wanted: revision, current: self.revision });
        }
        Ok(())
    }

    /// The changes after `revision` below `prefix`.
    pub(super) fn after(&self, revision: u64, prefix: &str) -> Result<Vec<Change>, StoreError> {
        self.check(revision)?;
        let start = self.changes.partition_point(|(_, change)| change.revision <= revision);
        Ok(self
            .changes
            .range(start..)
            .filter(|(_, change)| change.key.starts_with(prefix))
            .map(|(_, change)| change.clone())
            .collect())
    }

    /// Takes the records of the latest state below `prefix` back to what they were at `revision`.
    pub(super) fn rewind(
        &self,
        revision: u64,
        prefix: &str,
        records: &mut BTreeMap<String, Record>,
    ) -> Result<(), StoreError> {
        for change in self.after(revision, prefix)?.into_iter().rev() {
            match change.before {
                Some(record) => records.insert(change.key, record),
                None => records.remove(&change.key),
            };
        }
        Ok(())
    }
}

fn size(change: &Change) -> usize {
    change.key.len() + change.after.as_ref().map_or(0, bytes::Bytes::len) + 128
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use super::{Bounds, Log};
    use crate::store::{Change, Record, StoreError};

    fn put(revision: u64, key: &str, before: Option<u64>) -> Change {
        Change {
            revision,
            key: key.to_owned(),
            before: before.map(|mod_revision| Record { value: Bytes::from_static(b"{}"), mod_revision }),
            after: Some(Bytes::from_static(b"{}")),
        }
    }

    fn log(changes: usize) -> Log {
        let mut log = Log::new(Bounds { changes, ..Bounds::default() }, 10);
        let now = Instant::now();
        log.push(now, 11, [put(11, "/a/1", None)]);
        log.push(now, 12, [put(12, "/b/1", None), put(12, "/a/2", None)]);
        log.push(now, 13, [put(13, "/a/1", Some(11))]);
        log
    }

    #[test]
    fn a_watch_gets_every_change_after_its_revision() {
        let keys = |revision| log(100).after(revision, "/a/").map(|c| c.into_iter().map(|c| c.revision).collect());
        assert_eq!(keys(10).ok(), Some(vec![11, 12, 13]));
        assert_eq!(keys(12).ok(), Some(vec![13]));
        assert_eq!(keys(13).ok(), Some(vec![]));
        assert!(matches!(keys(14), Err(StoreError::Future { wanted: 14, current: 13 })));
        assert!(matches!(keys(9), Err(StoreError::Compacted { wanted: 9, oldest: 10 })));
    }

    #[test]
    fn compaction_drops_whole_revisions() {
        let log = log(2);
        assert!(matches!(log.after(11, ""), Err(StoreError::Compacted { wanted: 11, oldest: 12 })));
        assert_eq!(log.after(12, "").map(|c| c.len()).ok(), Some(1));
    }

    #[test]
    fn compaction_drops_what_is_old() {
        let mut log = log(100);
        let later = Instant::now() + Duration::from_secs(3600);
        log.push(later, 14, [put(14, "/a/9", None)]);
        assert!(matches!(log.after(12, ""), Err(StoreError::Compacted { oldest: 13, .. })));
        assert_eq!(log.after(13, "").map(|c| c.len()).ok(), Some(1));
    }

    #[test]
    fn an_earlier_revision_is_shown_as_it_was() {
        let record = |mod_revision| Record { value: Bytes::from_static(b"{}"), mod_revision };
        let latest = BTreeMap::from([("/a/1".to_owned(), record(13)), ("/a/2".to_owned(), record(12))]);
        let at = |revision| {
            let mut records = latest.clone();
            log(100).rewind(revision, "/a/", &mut records).map(|()| records.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(at(13).ok(), Some(vec!["/a/1".to_owned(), "/a/2".to_owned()]));
        assert_eq!(at(11).ok(), Some(vec!["/a/1".to_owned()]));
        assert_eq!(at(10).ok(), Some(vec![]));
    }
}
