//! Sorted sets that are cheap to copy and to compare. A copy shares its chunks with the original until one of them changes, and a change
//! copies one chunk; comparing two versions of a set skips what they share. So what was in force an hour ago and what is wanted now can be
//! two values, and finding where they differ costs by where they differ.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use minipod_model::IpFamily;

/// A chunk that has become larger is cut in two.
const CHUNK_MAX: usize = if cfg!(test) { 16 } else { 512 };

/// A sorted set.
#[derive(Clone)]
pub struct SharedSet<T> {
    /// none of them empty; all elements of one are smaller than those of the next
    chunks: Arc<Vec<Arc<Vec<T>>>>,
    len: usize,
}

impl<T> Default for SharedSet<T> {
    fn default() -> Self {
        Self { chunks: Arc::default(), len: 0 }
    }
}

impl<T: Ord + Copy> SharedSet<T> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it is in there.
    #[must_use]
    pub fn contains(&self, element: &T) -> bool {
        self.chunks.get(self.chunk_for(element)).is_some_and(|chunk| chunk.binary_search(element).is_ok())
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// In order, from the first that is not smaller.
    pub fn starting_at(&self, first: &T) -> impl Iterator<Item = &T> {
        let at = self.chunk_for(first);
        let skipped = self.chunks.get(at).map_or(0, |chunk| chunk.partition_point(|element| element < first));
        self.chunks[at..].iter().flat_map(|chunk| chunk.iter()).skip(skipped)
    }

    /// Puts an element in; `false` if it was there.
    pub fn insert(&mut self, element: T) -> bool {
        let at = self.chunk_for(&element).min(self.chunks.len().saturating_sub(1));
        let Some(chunk) = self.chunks.get(at) else {
            *self = Self { chunks: Arc::new(vec![Arc::new(vec![element])]), len: 1 };
            return true;
        };
        let Err(place) = chunk.binary_search(&element) else { return false };
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.insert(place, element);
        if chunk.len() > CHUNK_MAX {
            let rest = chunk.split_off(chunk.len() / 2);
            chunks.insert(at + 1, Arc::new(rest));
        }
        self.len += 1;
        true
    }

    /// Takes an element out; `false` if it was not there.
    pub fn remove(&mut self, element: &T) -> bool {
        let at = self.chunk_for(element);
        let Some(Ok(place)) = self.chunks.get(at).map(|chunk| chunk.binary_search(element)) else { return false };
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.remove(place);
        if chunk.is_empty() {
            chunks.remove(at);
        }
        self.len -= 1;
        true
    }

    /// What is only in `self`, and what is only in `other`, each in order.
    #[must_use]
    pub fn differences(&self, other: &Self) -> (Vec<T>, Vec<T>) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        if Arc::ptr_eq(&self.chunks, &other.chunks) {
            return (ours, theirs);
        }
        let (mut one, mut two) = (Cursor::new(&self.chunks), Cursor::new(&other.chunks));
        loop {
            if one.skip_shared(&mut two) {
                continue;
            }
            let order = match (one.element(), two.element()) {
                (None, None) => return (ours, theirs),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.cmp(&b),
            };
            match order {
                Ordering::Less => ours.extend(one.take()),
                Ordering::Greater => theirs.extend(two.take()),
                Ordering::Equal => drop((one.take(), two.take())),
            }
        }
    }

    /// The first chunk that may hold the element.
    fn chunk_for(&self, element: &T) -> usize {
        self.chunks.partition_point(|chunk| chunk.last().is_some_and(|last| last < element))
    }
}

/// A place in the chunks of a set.
struct Cursor<'a, T> {
    chunks: &'a [Arc<Vec<T>>],
    at: usize,
}

impl<'a, T: Copy> Cursor<'a, T> {
    fn new(chunks: &'a [Arc<Vec<T>>]) -> Self {
        Self { chunks, at: 0 }
    }

    fn element(&self) -> Option<T> {
        self.chunks.first().map(|chunk| chunk[self.at])
    }

    fn take(&mut self) -> Option<T> {
        let element = self.element()?;
        self.at += 1;
        if self.at == self.chunks[0].len() {
            self.next_chunk();
        }
        Some(element)
    }

    /// Steps over a chunk that both share, if both stand at its beginning. They do whenever they reach one: all that is smaller than its
    /// first element has been taken from both.
    fn skip_shared(&mut self, other: &mut Self) -> bool {
        let (Some(one), Some(two)) = (self.chunks.first(), other.chunks.first()) else { return false };
        let shared = self.at == 0 && other.at == 0 && Arc::ptr_eq(one, two);
        if shared {
            self.next_chunk();
            other.next_chunk();
        }
        shared
    }

    fn next_chunk(&mut self) {
        self.chunks = &self.chunks[1..];
        self.at = 0;
    }
}

impl<T: Ord + Copy> PartialEq for SharedSet<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks) || self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<T: Ord + Copy> Eq for SharedSet<T> {}

impl<T: Ord + Copy + fmt::Debug> fmt::Debug for SharedSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<T: Ord + Copy> FromIterator<T> for SharedSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut all: Vec<T> = elements.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        // Room to grow before a chunk is cut.
        let chunks = all.chunks(CHUNK_MAX / 2).map(|chunk| Arc::new(chunk.to_vec()));
        Self { chunks: Arc::new(chunks.collect()), len: all.len() }
    }
}

impl<T: Ord + Copy> Extend<T> for SharedSet<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        for element in elements {
            self.insert(element);
        }
    }
}

impl<T: Ord + Copy, const N: usize> From<[T; N]> for SharedSet<T> {
    fn from(elements: [T; N]) -> Self {
        elements.into_iter().collect()
    }
}

/// Addresses of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    v4: SharedSet<IpAddr>,
    v6: SharedSet<IpAddr>,
}

impl Addresses {
    /// Those of one family.
    #[must_use]
    pub fn of(&self, family: IpFamily) -> &SharedSet<IpAddr> {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is in there.
    #[must_use]
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.of(IpFamily::of(*address)).contains(address)
    }

    /// In order, those of IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = &IpAddr> {
        self.v4.iter().chain(self.v6.iter())
    }

    /// Puts an address in; `false` if it was there.
    pub fn insert(&mut self, address: IpAddr) -> bool {
        self.of_mut(IpFamily::of(address)).insert(address)
    }

    /// Takes an address out; `false` if it was not there.
    pub fn remove(&mut self, address: &IpAddr) -> bool {
        self.of_mut(IpFamily::of(*address)).remove(address)
    }

    fn of_mut(&mut self, family: IpFamily) -> &mut SharedSet<IpAddr> {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv4);
        Self { v4: v4.into_iter().collect(), v6: v6.into_iter().collect() }
    }
}

impl Extend<IpAddr> for Addresses {
    fn extend<I: IntoIterator<Item = IpAddr>>(&mut self, addresses: I) {
        for address in addresses {
            self.insert(address);
        }
    }
}

impl<const N: usize> From<[IpAddr; N]> for Addresses {
    fn from(addresses: [IpAddr; N]) -> Self {
        addresses.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::SharedSet;

    proptest! {
        #[test]
        fn a_shared_set_is_like_a_set_and_knows_how_two_versions_differ(
            first in vec(0_u16..3000, 0..2000),
            steps in vec((any::<bool>(), 0_u16..3000), 0..700),
        ) {
            let old: SharedSet<u16> = first.iter().copied().collect();
            let (mut new, mut expected): (SharedSet<u16>, BTreeSet<u16>) = (old.clone(), first.into_iter().collect());
            let before = expected.clone();
            for (put, element) in steps {
                if put {
                    prop_assert_eq!(new.insert(element), expected.insert(element));
                } else {
                    prop_assert_eq!(new.remove(&element), expected.remove(&element));
                }
                prop_assert_eq!(new.contains(&element), put);
            }
            prop_assert!(old.iter().eq(before.iter()), "the older version is as it was");
            prop_assert!(new.iter().eq(expected.iter()));
            prop_assert_eq!(new.len(), expected.len());
            prop_assert!(new.starting_at(&1500).eq(expected.range(1500..)));
            let (gone, fresh) = old.differences(&new);
            prop_assert!(gone.iter().eq(before.difference(&expected)));
            prop_assert!(fresh.iter().eq(expected.difference(&before)));
            prop_assert_eq!(&new, &expected.into_iter().collect::<SharedSet<u16>>());
            prop_assert!(new.chunks.iter().all(|chunk| !chunk.is_empty()));
        }
    }
}
