//! The latest known state of all objects of one kind, fed by a watch.

use std::collections::{BTreeMap, BTreeSet};

use kube::runtime::watcher::Event;

/// Facts by key. After a watch has begun anew, what it no longer shows is removed.
#[derive(Debug)]
pub(crate) struct Table<K, F> {
    entries: BTreeMap<K, F>,
    /// keys seen since the watch began anew
    seen: Option<BTreeSet<K>>,
    complete: bool,
}

/// What an event did to an entry: before and after.
pub(crate) type Change<F> = (Option<F>, Option<F>);

impl<K: Ord + Clone, F: Clone> Table<K, F> {
    pub(crate) fn new() -> Self {
        Self { entries: BTreeMap::new(), seen: None, complete: false }
    }

    /// Whether everything was listed once.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn get(&self, key: &K) -> Option<&F> {
        self.entries.get(key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &F> {
        self.entries.values()
    }

    /// Takes an event in. `read` gives an object's key, and its facts if they are of interest.
    pub(crate) fn apply<O>(&mut self, event: Event<O>, read: impl Fn(&O) -> Option<(K, Option<F>)>) -> Vec<Change<F>> {
        match event {
            Event::Init => {
                self.seen = Some(BTreeSet::new());
                Vec::new()
            }
            Event::InitDone => {
                self.complete = true;
                let Some(seen) = self.seen.take() else { return Vec::new() };
                let gone: Vec<_> = self.entries.keys().filter(|key| !seen.contains(key)).cloned().collect();
                gone.into_iter().map(|key| (self.entries.remove(&key), None)).collect()
            }
            Event::Apply(object) | Event::InitApply(object) => {
                let Some((key, facts)) = read(&object) else { return Vec::new() };
                if let Some(seen) = &mut self.seen {
                    seen.insert(key.clone());
                }
                let before = match facts.clone() {
                    Some(facts) => self.entries.insert(key, facts),
                    None => self.entries.remove(&key),
                };
                vec![(before, facts)]
            }
            Event::Delete(object) => {
                let Some((key, _)) = read(&object) else { return Vec::new() };
                vec![(self.entries.remove(&key), None)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::Table;

    #[test]
    fn what_a_new_list_no_longer_shows_is_gone() {
        let mut table = Table::new();
        let read = |(key, value): &(u8, u8)| Some((*key, Some(*value)));
        for event in [Event::Init, Event::InitApply((1, 10)), Event::InitApply((2, 20)), Event::InitDone] {
            table.apply(event, read);
        }
        assert_eq!(table.apply(Event::Apply((1, 11)), read), [(Some(10), Some(11))]);
        assert_eq!(table.apply(Event::Init, read), []);
        assert_eq!(table.apply(Event::InitApply((1, 11)), read), [(Some(11), Some(11))]);
        assert_eq!(table.apply(Event::InitDone, read), [(Some(20), None)]);
        assert_eq!(table.values().copied().collect::<Vec<_>>(), [11]);
    }
}
