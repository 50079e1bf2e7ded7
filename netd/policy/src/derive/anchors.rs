//! Finds the selectors that can concern a pod without looking at the others. A selector is filed under one of its requirements that a label
//! must be there for (the one with the fewest values), or, where it has none, under its namespaces; a pod asks for what is filed under its
//! labels and its namespace's. What is found may concern the pod and is then asked exactly.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use minipod_model::selector::Operator;
use minipod_model::{Labels, Selector};

use crate::compile::PeerScope;

/// Selectors, as `T`, by what they are filed under: a hash, since a collision costs no more than a look at one selector too many.
#[derive(Debug, Clone)]
pub(super) struct Anchors<T> {
    filed: HashMap<u64, BTreeSet<T>>,
}

impl<T> Default for Anchors<T> {
    fn default() -> Self {
        Self { filed: HashMap::new() }
    }
}

impl<T: Ord + Clone> Anchors<T> {
    /// Files `what`, which selects `pods` of the namespaces in `scope`.
    pub(super) fn file(&mut self, scope: &PeerScope, pods: &Selector, what: &T) {
        for anchor in anchors(scope, pods) {
            self.filed.entry(anchor).or_default().insert(what.clone());
        }
    }

    /// Takes it out again.
    pub(super) fn remove(&mut self, scope: &PeerScope, pods: &Selector, what: &T) {
        for anchor in anchors(scope, pods) {
            if let Some(filed) = self.filed.get_mut(&anchor) {
                filed.remove(what);
                if filed.is_empty() {
                    self.filed.remove(&anchor);
                }
            }
        }
    }

    /// All that can select a pod with these labels in a namespace of this name and these labels.
    pub(super) fn find(&self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> BTreeSet<T> {
        let mut asked = vec![all(Some(namespace)), all(None)];
        for (key, value) in labels {
            for scope in [Some(namespace), None] {
                asked.extend([label(scope, key, Some(value)), label(scope, key, None)]);
            }
        }
        for (key, value) in namespace_labels {
            asked.extend([namespace_label(key, Some(value)), namespace_label(key, None)]);
        }
        asked.iter().filter_map(|anchor| self.filed.get(anchor)).flatten().cloned().collect()
    }
}

fn anchors(scope: &PeerScope, pods: &Selector) -> Vec<u64> {
    match scope {
        PeerScope::Named(name) => {
            let by_label = by_label(pods, |key, value| label(Some(name), key, value));
            by_label.unwrap_or_else(|| vec![all(Some(name))])
        }
        PeerScope::Selected(namespaces) => by_label(pods, |key, value| label(None, key, value))
            .or_else(|| by_label(namespaces, namespace_label))
            .unwrap_or_else(|| vec![all(None)]),
    }
}

/// One anchor for every value of the requirement that has the fewest; `None` if no label has to be there.
fn by_label(selector: &Selector, anchor: impl Fn(&str, Option<&str>) -> u64) -> Option<Vec<u64>> {
    let needs = selector.requirements().filter_map(|requirement| match requirement.operator() {
        Operator::In(values) => {
            Some((values.len(), requirement.key(), values.iter().map(|value| Some(value.as_str())).collect()))
        }
        Operator::Exists => Some((usize::MAX, requirement.key(), vec![None])),
        Operator::NotIn(_) | Operator::DoesNotExist => None,
    });
    let (_, key, values): (usize, &str, Vec<Option<&str>>) = needs.min_by_key(|(count, ..)| *count)?;
    Some(values.into_iter().map(|value| anchor(key, value)).collect())
}

fn label(namespace: Option<&str>, key: &str, value: Option<&str>) -> u64 {
    hash(&("pod", namespace, key, value))
}

fn namespace_label(key: &str, value: Option<&str>) -> u64 {
    hash(&("namespace", key, value))
}

fn all(namespace: Option<&str>) -> u64 {
    hash(&("all", namespace))
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
