//! What changes when pods come, go, move between signatures or groups and nothing else does: elements of sets. Finding that out costs by
//! what changed, not by what is there, and no rule is compiled for it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use minipod_model::{IpFamily, LinkName};
use netd_policy::intent::{Endpoint, Intent};

use crate::compile::{gate_entry, gate_set, group_sets, pair_entry, pairs_set, signature_mark, signature_set};
use crate::diff::Elements;
use crate::facts::NodeFacts;
use crate::name::SetName;
use crate::plan::Entries;
use crate::spec::{Entry, MarkValue, Spec};

/// What changes.
#[derive(Debug, Default)]
pub(crate) struct Delta<'a> {
    /// elements, by set
    pub(crate) sets: BTreeMap<SetName, Elements>,
    /// endpoints that are gone or changed
    gone: Listed<'a>,
    /// endpoints that are new or changed
    fresh: Listed<'a>,
}

/// From `old`, which `spec` enforces, to `new`. `None`: more than elements change, or an address has two claimants, and everything has to
/// be compiled.
pub(crate) fn between<'a>(old: &'a Intent, new: &'a Intent, facts: &NodeFacts, spec: &Spec) -> Option<Delta<'a>> {
    if !has_same_structure(old, new) {
        return None;
    }
    let families: Vec<IpFamily> = facts.families().map(|(family, _)| family).collect();
    let mut delta = Delta::default();
    for (id, after) in &new.groups {
        let before = &old.groups.get(id)?.pods;
        let name = |family| group_sets(id, family).0;
        addresses(&mut delta.sets, before, &after.pods, &families, name);
    }
    for (id, after) in &new.pairs {
        let before = old.pairs.get(id)?;
        if before != after {
            for family in &families {
                let entries = |pairs: &BTreeSet<_>| pairs.iter().filter_map(|pair| pair_entry(pair, *family)).collect();
                let elements = changed(&entries(before), &entries(after));
                delta.sets.insert(pairs_set(id, *family), elements);
            }
        }
    }
    (delta.gone, delta.fresh) = differences(&old.endpoints, &new.endpoints);
    delta.endpoints(new, facts, spec)?;
    Some(delta)
}

/// Whether rules and the list of sets are the same for both.
fn has_same_structure(old: &Intent, new: &Intent) -> bool {
    old.signatures == new.signatures
        && old.groups.len() == new.groups.len()
        && new.groups.iter().all(|(id, group)| old.groups.get(id).is_some_and(|other| other.nets == group.nets))
        && old.pairs.keys().eq(new.pairs.keys())
        && old.services == new.services
        && old.cluster_dns == new.cluster_dns
}

fn addresses(
    sets: &mut BTreeMap<SetName, Elements>,
    before: &BTreeSet<IpAddr>,
    after: &BTreeSet<IpAddr>,
    families: &[IpFamily],
    name: impl Fn(IpFamily) -> SetName,
) {
    if before == after {
        return;
    }
    for (address, is_new) in
        before.difference(after).map(|a| (a, false)).chain(after.difference(before).map(|a| (a, true)))
    {
        let family = IpFamily::of(*address);
        if families.contains(&family) {
            let elements = sets.entry(name(family)).or_default();
            let side = if is_new { &mut elements.new } else { &mut elements.old };
            side.insert(Entry::Ip(*address), None);
        }
    }
}

fn changed(old: &BTreeSet<Entry>, new: &BTreeSet<Entry>) -> Elements {
    let only = |one: &BTreeSet<Entry>, other: &BTreeSet<Entry>| -> Entries {
        one.difference(other).map(|entry| (entry.clone(), None)).collect()
    };
    Elements { old: only(old, new), new: only(new, old) }
}

impl Delta<'_> {
    fn endpoints(&mut self, new: &Intent, facts: &NodeFacts, spec: &Spec) -> Option<()> {
        for (link, endpoint) in &self.gone {
            let others = new.endpoints.iter().filter(|(other, _)| other != link);
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
        for (link, endpoint) in &self.fresh {
            for (family, address, mark) in elements_of(endpoint, facts, spec) {
                let gate = self.sets.entry(gate_set(family)).or_default();
                gate.new.insert(gate_entry(address, link), None);
                let entry = Entry::Ip(address);
                let there = spec.sets.get(&signature_set(family)).and_then(|set| set.entries())?;
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

type Endpoints = BTreeMap<LinkName, Endpoint>;
type Listed<'a> = Vec<(&'a LinkName, &'a Endpoint)>;

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

/// Brings the spec up to date with elements that changed.
pub(crate) fn remember(sets: &BTreeMap<SetName, Elements>, spec: &mut Spec) {
    for (name, Elements { old, new }) in sets {
        let Some(entries) = spec.sets.get_mut(name).and_then(|set| set.entries_mut()) else { continue };
        for entry in old.keys() {
            entries.remove(entry);
        }
        entries.extend(new.iter().map(|(entry, mark)| (entry.clone(), *mark)));
    }
}

/// Makes `old` equal to `new`, which has the same structure, without copying what is equal.
pub(crate) fn follow(old: &mut Intent, new: &Intent) {
    for (group, wanted) in old.groups.values_mut().zip(new.groups.values()) {
        if group.pods != wanted.pods {
            group.pods.clone_from(&wanted.pods);
        }
    }
    for (pairs, wanted) in old.pairs.values_mut().zip(new.pairs.values()) {
        if pairs != wanted {
            pairs.clone_from(wanted);
        }
    }
    let (gone, fresh) = differences(&old.endpoints, &new.endpoints);
    let gone: Vec<LinkName> = gone.into_iter().map(|(link, _)| link.clone()).collect();
    let fresh: Vec<(LinkName, Endpoint)> =
        fresh.into_iter().map(|(link, endpoint)| (link.clone(), endpoint.clone())).collect();
    for link in gone {
        old.endpoints.remove(&link);
    }
    old.endpoints.extend(fresh);
}
