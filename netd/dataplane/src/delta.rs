//! What changes when pods come, go, move between signatures or groups and nothing else does: elements of sets. Finding that out costs by
//! what changed, not by what is there, and no rule is compiled for it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use minipod_model::{IpFamily, LinkName};
use netd_policy::intent::{Endpoint, Intent};

use crate::compile::{gate_entry, gate_set, group_sets, pairs_of, pairs_set, signature_mark, signature_set};
use crate::contents::Contents;
use crate::diff::Elements;
use crate::facts::NodeFacts;
use crate::name::SetName;
use crate::spec::{Content, Entry, MarkValue, Spec};

/// What changes.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    /// elements, by set
    pub(crate) sets: BTreeMap<SetName, Elements>,
    /// sets whose elements are kept as the intent has them
    kept: Vec<(SetName, Content)>,
}

/// From `old`, which `spec` enforces, to `new`. `None`: more than elements change, or an address has two claimants, and everything has to
/// be compiled.
pub(crate) fn between(old: &Intent, new: &Intent, facts: &NodeFacts, spec: &Spec) -> Option<Delta> {
    if !has_same_structure(old, new) {
        return None;
    }
    let families: Vec<IpFamily> = facts.families().map(|(family, _)| family).collect();
    let mut delta = Delta::default();
    if !Arc::ptr_eq(&old.groups, &new.groups) {
        for ((id, after), before) in new.groups.iter().zip(old.groups.values()) {
            for family in &families {
                let (before, after) = (before.pods.of(*family), after.pods.of(*family));
                if before != after {
                    delta.keep(
                        group_sets(id, *family).0,
                        Contents::Addresses(before),
                        Content::Addresses(after.clone()),
                    );
                }
            }
        }
    }
    if !Arc::ptr_eq(&old.pairs, &new.pairs) {
        for ((id, after), before) in
            new.pairs.iter().zip(old.pairs.values()).filter(|((_, after), before)| after != before)
        {
            for family in &families {
                let before = pairs_of(before, *family);
                delta.keep(pairs_set(id, *family), Contents::Pairs(&before), Content::Pairs(pairs_of(after, *family)));
            }
        }
    }
    if !Arc::ptr_eq(&old.endpoints, &new.endpoints) {
        delta.endpoints(old, new, facts, spec)?;
    }
    Some(delta)
}

/// Whether rules and the list of sets are the same for both.
fn has_same_structure(old: &Intent, new: &Intent) -> bool {
    let has_same_groups = || {
        let both = old.groups.iter().zip(new.groups.iter());
        old.groups.len() == new.groups.len()
            && both.into_iter().all(|((id, before), (other, after))| id == other && before.nets == after.nets)
    };
    old.signatures == new.signatures
        && (Arc::ptr_eq(&old.groups, &new.groups) || has_same_groups())
        && (Arc::ptr_eq(&old.pairs, &new.pairs) || old.pairs.keys().eq(new.pairs.keys()))
        && old.services == new.services
        && old.cluster_dns == new.cluster_dns
}

impl Delta {
    fn keep(&mut self, name: SetName, before: Contents<'_>, after: Content) {
        if let Some(wanted) = after.elements() {
            let (gone, new) = before.differences(wanted);
            if !gone.is_empty() || !new.is_empty() {
                let old = gone.into_iter().map(|entry| (entry, None)).collect();
                self.sets.insert(name.clone(), Elements { old, new });
            }
        }
        self.kept.push((name, after));
    }

    fn endpoints(&mut self, old: &Intent, new: &Intent, facts: &NodeFacts, spec: &Spec) -> Option<()> {
        let (gone, fresh) = differences(&old.endpoints, &new.endpoints);
        for (link, endpoint) in gone {
            let others = new.endpoints.iter().filter(|(other, _)| *other != link);
            if others.flat_map(|(_, other)| &other.addresses).any(|address| endpoint.addresses.contains(address)) {
                return None;
            }
            for (family, address, mark) in elements_of(endpoint, facts, spec) {
                let gate = self.sets.entry(gate_set(family)).or_default();
                gate.old.insert(gate_entry(address, link), None);
                if mark.is_some() {
                    let map = self.sets.entry(signature_set(family)).or_default();
                    map.old.insert(Entry::Ip(address), mark);
                }
            }
        }
        for (link, endpoint) in fresh {
            for (family, address, mark) in elements_of(endpoint, facts, spec) {
                let gate = self.sets.entry(gate_set(family)).or_default();
                gate.new.insert(gate_entry(address, link), None);
                let entry = Entry::Ip(address);
                let Some(Content::Entries(there)) = spec.sets.get(&signature_set(family)).map(|set| &set.content)
                else {
                    return None;
                };
                let map = self.sets.entry(signature_set(family)).or_default();
                let is_claimed = there.contains_key(&entry) && !map.old.contains_key(&entry);
                if is_claimed || mark.is_some() && map.new.insert(entry, mark).is_some() {
                    return None;
                }
            }
        }
        Some(())
    }
}

type Endpoints = BTreeMap<LinkName, Arc<Endpoint>>;
type Listed<'a> = Vec<(&'a LinkName, &'a Arc<Endpoint>)>;

/// What is in one map and not, or otherwise, in the other. Both are sorted: one pass finds where they differ.
fn differences<'a>(old: &'a Endpoints, new: &'a Endpoints) -> (Listed<'a>, Listed<'a>) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let (mut gone, mut fresh) = (Vec::new(), Vec::new());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return (gone, fresh),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let before = if order == Ordering::Greater { None } else { old.next() };
        let after = if order == Ordering::Less { None } else { new.next() };
        if before.map(|(_, endpoint)| endpoint) != after.map(|(_, endpoint)| endpoint) {
            gone.extend(before);
            fresh.extend(after);
        }
    }
}

/// A pod's addresses of the enabled families, with the mark of its signature.
fn elements_of<'a>(
    endpoint: &'a Endpoint,
    facts: &'a NodeFacts,
    spec: &'a Spec,
) -> impl Iterator<Item = (IpFamily, IpAddr, Option<MarkValue>)> + 'a {
    let mark = signature_mark(&endpoint.signature, facts.marks, &spec.indexes);
    endpoint
        .addresses
        .iter()
        .map(|address| (IpFamily::of(*address), *address))
        .filter(|(family, _)| facts.family(*family).is_some())
        .map(move |(family, address)| (family, address, mark))
}

/// Brings the spec up to date with what has changed.
pub(crate) fn remember(delta: Delta, spec: &mut Spec) {
    for (name, content) in delta.kept {
        if let Some(set) = spec.sets.get_mut(&name) {
            set.content = content;
        }
    }
    for (name, Elements { old, new }) in delta.sets {
        let Some(Content::Entries(entries)) = spec.sets.get_mut(&name).map(|set| &mut set.content) else { continue };
        let entries = Arc::make_mut(entries);
        for entry in old.keys() {
            entries.remove(entry);
        }
        entries.extend(new);
    }
}
