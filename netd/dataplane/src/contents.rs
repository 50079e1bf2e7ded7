//! What is in a set, whatever form it is kept in. Elements that follow from an intent are kept as the intent has them, so that nothing is copied and
//! two versions are compared by where they differ.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use netd_policy::intent::Pair;
use netd_policy::shared::SharedSet;

use crate::plan::Entries;
use crate::spec::{Content, Entry, MarkValue};

/// The elements of a set.
#[derive(Debug, Clone, Copy)]
pub enum Contents<'a> {
    /// of any kind
    Entries(&'a Entries),
    /// addresses
    Addresses(&'a SharedSet<IpAddr>),
    /// addresses with a port
    Pairs(&'a SharedSet<Pair>),
}

impl Content {
    /// These elements.
    pub fn of(entries: impl IntoIterator<Item = (Entry, Option<MarkValue>)>) -> Self {
        Self::Entries(Arc::new(entries.into_iter().collect()))
    }

    /// The elements; `None` where the kernel fills the set.
    #[must_use]
    pub fn elements(&self) -> Option<Contents<'_>> {
        Some(match self {
            Self::Entries(entries) => Contents::Entries(entries),
            Self::Addresses(addresses) => Contents::Addresses(addresses),
            Self::Pairs(pairs) => Contents::Pairs(pairs),
            Self::Kernel => return None,
        })
    }
}

impl<'a> Contents<'a> {
    /// How many.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::Entries(entries) => entries.len(),
            Self::Addresses(addresses) => addresses.len(),
            Self::Pairs(pairs) => pairs.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// In the order of [`Entry`].
    #[must_use]
    pub fn iter(self) -> Box<dyn Iterator<Item = (Entry, Option<MarkValue>)> + 'a> {
        match self {
            Self::Entries(entries) => Box::new(entries.iter().map(|(entry, mark)| (entry.clone(), *mark))),
            Self::Addresses(addresses) => Box::new(addresses.iter().map(|address| (Entry::Ip(*address), None))),
            Self::Pairs(pairs) => Box::new(pairs.iter().map(|pair| (pair_entry(*pair), None))),
        }
    }

    /// As a map of its own.
    #[must_use]
    pub fn to_entries(self) -> Entries {
        self.iter().collect()
    }

    /// What is in here and not, or with another mark, in `new`; and what is so the other way round.
    #[must_use]
    pub fn differences(self, new: Self) -> (Vec<Entry>, Entries) {
        match (self, new) {
            (Self::Addresses(old), Self::Addresses(new)) => {
                let (gone, fresh) = old.differences(new);
                (
                    gone.into_iter().map(Entry::Ip).collect(),
                    fresh.into_iter().map(|address| (Entry::Ip(address), None)).collect(),
                )
            }
            (Self::Pairs(old), Self::Pairs(new)) => {
                let (gone, fresh) = old.differences(new);
                (
                    gone.into_iter().map(pair_entry).collect(),
                    fresh.into_iter().map(|pair| (pair_entry(pair), None)).collect(),
                )
            }
            (Self::Entries(old), Self::Entries(new)) if std::ptr::eq(old, new) => (Vec::new(), BTreeMap::new()),
            (old, new) => {
                let (old, new) = (old.to_entries(), new.to_entries());
                let gone =
                    old.iter().filter(|(entry, mark)| new.get(entry) != Some(mark)).map(|(entry, _)| entry.clone());
                let gone = gone.collect();
                (gone, new.into_iter().filter(|(entry, mark)| old.get(entry) != Some(mark)).collect())
            }
        }
    }
}

/// A pair as an element.
fn pair_entry(pair: Pair) -> Entry {
    Entry::IpPort(pair.address, pair.protocol, pair.port)
}
