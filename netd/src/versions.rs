//! Which of two reports about an object is the newer one.
//!
//! Objects reach the engine on two ways: by watches, each kind in the order of its resource versions, and by the reads that an
//! attach makes so that the pod's policy is final when it is answered (datapath, "When is a policy final for a new pod?").
//! A read may be older or newer than what the watch has delivered. Pure: it only compares.

use std::collections::{BTreeMap, BTreeSet};

use netd_policy::object::ObjectKey;

/// The kinds that netd watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// core/v1 Pod
    Pod,
    /// core/v1 Namespace
    Namespace,
    /// networking.k8s.io/v1 `NetworkPolicy`
    NetworkPolicy,
    /// core/v1 Service
    Service,
    /// discovery.k8s.io/v1 `EndpointSlice`
    EndpointSlice,
    /// core/v1 Node
    Node,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Pod, Self::Namespace, Self::NetworkPolicy, Self::Service, Self::EndpointSlice, Self::Node];
}

/// What has been seen of each kind and object.
#[derive(Debug, Clone, Default)]
pub struct Versions {
    /// kinds of which a complete list has arrived
    listed: BTreeSet<Kind>,
    /// the newest version that the watch of a kind has delivered: everything up to it has been applied
    watched: BTreeMap<Kind, u64>,
    /// objects that a read has brought ahead of their watch
    ahead: BTreeMap<(Kind, ObjectKey), u64>,
}

impl Versions {
    /// A complete list, as the watch of a kind begins with it, as of `version`. What reads had brought ahead is forgotten: the
    /// watch goes on from the list and brings it again.
    pub fn list(&mut self, kind: Kind, version: u64) {
        self.listed.insert(kind);
        self.watched.insert(kind, version);
        self.ahead.retain(|(other, _), _| *other != kind);
    }

    /// Whether an event of the watch is news: not if a read already brought something newer.
    pub fn admit_watched(&mut self, kind: Kind, key: &ObjectKey, version: u64) -> bool {
        let watched = self.watched.entry(kind).or_default();
        *watched = version.max(*watched);
        let entry = (kind, key.clone());
        match self.ahead.get(&entry) {
            Some(ahead) if *ahead > version => false,
            Some(_) => {
                self.ahead.remove(&entry);
                true
            }
            None => true,
        }
    }

    /// Whether an object that was read is news: not if the watch has come as far, or an earlier read further.
    pub fn admit_read(&mut self, kind: Kind, key: &ObjectKey, version: u64) -> bool {
        if !self.is_ahead(kind, version) {
            return false;
        }
        let ahead = self.ahead.entry((kind, key.clone())).or_default();
        let news = version > *ahead;
        *ahead = version.max(*ahead);
        news
    }

    /// Whether something read at `version` may be newer than what the watch of its kind has delivered.
    #[must_use]
    pub fn is_ahead(&self, kind: Kind, version: u64) -> bool {
        self.watched.get(&kind).is_none_or(|watched| version > *watched)
    }

    /// Whether a list that was read at `version` and lacks this object says that the object is gone.
    #[must_use]
    pub fn is_gone(&self, kind: Kind, key: &ObjectKey, version: u64) -> bool {
        self.is_ahead(kind, version) && self.ahead.get(&(kind, key.clone())).is_none_or(|ahead| version > *ahead)
    }

    /// Whether a complete list of every kind has arrived. Before that nothing is written to the kernel.
    #[must_use]
    pub fn complete(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.listed.contains(kind))
    }
}

#[cfg(test)]
mod tests {
    use netd_policy::object::ObjectKey;

    use super::{Kind, Versions};

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("default", name)
    }

    #[test]
    fn a_read_older_than_the_watch_is_no_news() {
        let mut versions = Versions::default();
        versions.list(Kind::Pod, 10);
        assert!(versions.admit_watched(Kind::Pod, &key("a"), 12));
        assert!(!versions.admit_read(Kind::Pod, &key("a"), 11));
        assert!(!versions.admit_read(Kind::Pod, &key("b"), 12), "the watch delivered b's deletion or the same version");
        assert!(versions.admit_read(Kind::Pod, &key("b"), 13));
    }

    #[test]
    fn the_watch_does_not_take_back_what_a_read_brought() {
        let mut versions = Versions::default();
        versions.list(Kind::Pod, 1);
        assert!(versions.admit_read(Kind::Pod, &key("a"), 5));
        assert!(!versions.admit_watched(Kind::Pod, &key("a"), 3));
        assert!(versions.admit_watched(Kind::Pod, &key("a"), 5));
        assert!(versions.admit_watched(Kind::Pod, &key("a"), 6));
    }

    #[test]
    fn what_a_newer_list_lacks_is_gone() {
        let mut versions = Versions::default();
        versions.list(Kind::NetworkPolicy, 4);
        assert!(!versions.is_gone(Kind::NetworkPolicy, &key("p"), 4), "the watch is as new as the list");
        assert!(versions.is_gone(Kind::NetworkPolicy, &key("p"), 5));
        assert!(versions.admit_read(Kind::NetworkPolicy, &key("p"), 9));
        assert!(!versions.is_gone(Kind::NetworkPolicy, &key("p"), 8), "a later read saw it");
    }

    #[test]
    fn complete_means_every_kind() {
        let mut versions = Versions::default();
        for kind in Kind::ALL {
            assert!(!versions.complete());
            versions.list(kind, 0);
        }
        assert!(versions.complete());
    }
}
