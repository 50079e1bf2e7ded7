//! What changes when pods come, go, move between signatures or groups and nothing else does: elements of sets. Finding that out costs by
//! what changed, not by what is there, and no rule is compiled for it.

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

/// Elements that change, by set.
pub(crate) type Delta = BTreeMap<SetName, Elements>;

/// From `old`, which `spec` enforces, to `new`. `None`: more than elements change, or an address has two claimants, and everything has to
/// be compiled.
pub(crate) fn between(old: &Intent, new: &Intent, facts: &NodeFacts, spec: &Spec) -> Option<Delta> {
    if !has_same_structure(old, new) {
        return None;
    }
    let families: Vec<IpFamily> = facts.families().map(|(family, _)| family).collect();
    let mut delta = Delta::new();
    for (id, after) in &new.groups {
        let before = &old.groups.get(id)?.pods;
        let name = |family| group_sets(id, family).0;
        addresses(&mut delta, before, &after.pods, &families, name);
    }
    for (id, after) in &new.pairs {
        let before = old.pairs.get(id)?;
        if before != after {
            for family in &families {
                let entries = |pairs: &BTreeSet<_>| pairs.iter().filter_map(|pair| pair_entry(pair, *family)).collect();
                let elements = changed(entries(before), entries(after));
                delta.insert(pairs_set(id, *family), elements);
            }
        }
    }
    endpoints(&mut delta, old, new, facts, spec)?;
    Some(delta)
}

/// Whether rules and the list of sets are the same for both.
fn has_same_structure(old: &Intent, new: &Intent) -> bool {
    old.signatures == new.signatures
        && old.groups.len() == new.groups.len()
        && new.groups.iter().all(|(id, group)| old.groups.get(id).is_some_and(|other| other.nets == group.nets))
        && old.pairs.keys().eq(new.pairs.keys())
        && old.services == new.services
}

fn addresses(
    delta: &mut Delta,
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
            let elements = delta.entry(name(family)).or_default();
            let side = if is_new { &mut elements.new } else { &mut elements.old };
            side.insert(Entry::Ip(*address), None);
        }
    }
}

fn changed(old: BTreeSet<Entry>, new: BTreeSet<Entry>) -> Elements {
    let only = |one: &BTreeSet<Entry>, other: &BTreeSet<Entry>| -> Entries {
        one.difference(other).map(|entry| (entry.clone(), None)).collect()
    };
    Elements { old: only(&old, &new), new: only(&new, &old) }
}

fn endpoints(delta: &mut Delta, old: &Intent, new: &Intent, facts: &NodeFacts, spec: &Spec) -> Option<()> {
    let gone = old.endpoints.iter().filter(|(link, endpoint)| new.endpoints.get(*link) != Some(endpoint));
    let fresh = new.endpoints.iter().filter(|(link, endpoint)| old.endpoints.get(*link) != Some(endpoint));
    for (link, endpoint) in gone {
        let others = new.endpoints.iter().filter(|(other, _)| *other != link);
        if others.flat_map(|(_, other)| &other.addresses).any(|address| endpoint.addresses.contains(address)) {
            return None;
        }
        for (family, address, mark) in elements_of(endpoint, facts, spec) {
            let gate = delta.entry(gate_set(family)).or_default();
            gate.old.insert(gate_entry(address, link), None);
            let map = delta.entry(signature_set(family)).or_default();
            map.old.insert(Entry::Ip(address), mark);
        }
    }
    for (link, endpoint) in fresh {
        add(delta, link, endpoint, facts, spec)?;
    }
    for family in IpFamily::ALL {
        if let Some(map) = delta.get_mut(&signature_set(family)) {
            map.old.retain(|_, mark| mark.is_some());
            map.new.retain(|_, mark| mark.is_some());
        }
    }
    Some(())
}

fn add(delta: &mut Delta, link: &LinkName, endpoint: &Endpoint, facts: &NodeFacts, spec: &Spec) -> Option<()> {
    for (family, address, mark) in elements_of(endpoint, facts, spec) {
        let entry = Entry::Ip(address);
        let gate = delta.entry(gate_set(family)).or_default();
        gate.new.insert(gate_entry(address, link), None);
        let map = delta.entry(signature_set(family)).or_default();
        let there = spec.sets.get(&signature_set(family)).and_then(|set| set.entries())?;
        let is_claimed = there.contains_key(&entry) && !map.old.contains_key(&entry);
        if map.new.insert(entry, mark).is_some() || is_claimed {
            return None;
        }
    }
    Some(())
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

/// Brings what is remembered up to date with a delta.
pub(crate) fn remember(delta: &Delta, spec: &mut Spec) {
    for (name, Elements { old, new }) in delta {
        let Some(entries) = spec.sets.get_mut(name).and_then(|set| set.entries_mut()) else { continue };
        for entry in old.keys() {
            entries.remove(entry);
        }
        entries.extend(new.iter().map(|(entry, mark)| (entry.clone(), *mark)));
    }
}

/// Makes `old` equal to `new`, which has the same structure, without copying what is equal.
pub(crate) fn follow(old: &mut Intent, new: &Intent) {
    for (id, group) in &mut old.groups {
        match new.groups.get(id) {
            Some(wanted) if wanted.pods != group.pods => group.pods.clone_from(&wanted.pods),
            _ => {}
        }
    }
    for (id, pairs) in &mut old.pairs {
        match new.pairs.get(id) {
            Some(wanted) if wanted != pairs => pairs.clone_from(wanted),
            _ => {}
        }
    }
    old.endpoints.retain(|link, endpoint| new.endpoints.get(link) == Some(endpoint));
    for (link, endpoint) in &new.endpoints {
        if !old.endpoints.contains_key(link) {
            old.endpoints.insert(link.clone(), endpoint.clone());
        }
    }
}
