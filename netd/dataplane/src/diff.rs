//! From what is there to what is wanted.
//!
//! No step passes what neither the old nor the new state allows. First everything is made that nothing refers to yet; then everything
//! that tightens, over all sets and families; then rules whose meaning changes; then everything that loosens; last, what nothing refers
//! to any more is removed. A pod that moves from one signature to another has both while others tighten (`mp-next`). Where a single pod moves
//! between groups it enters before it leaves ([`crate::crossing`]).
//!
//! Around all that stand the guards, the security table, where our chains only drop: they are the first that comes and the last that goes.
//! So wherever a change is broken off, there are guards as long as there is a chain that lets denied packets go on as far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minipod_model::IpFamily;

use crate::before::{Before, SetBefore};
use crate::compile::{next_set, signature_set};
use crate::contents::Contents;
use crate::crossing::{self, Crossing};
use crate::name::{ChainName, SetName};
use crate::observed::{HookKey, Observed};
use crate::plan::{Entries, Plan, PlanError, SetEdit, Step, TableRestore};
use crate::spec::{Chain, ChainKey, Entry, Jump, MarkValue, SetSpec, Spec, Table};
use crate::tree::Tree;

/// How to get from `before` to `spec`.
///
/// # Errors
/// Where something of our name is in the way.
pub fn diff(before: &impl Before, spec: &Spec) -> Result<Plan, PlanError> {
    let mut plan = Draft::default();
    plan.sets(before, spec)?;
    plan.chains(before, spec);
    plan.jumps(before, spec);
    Ok(plan.ordered())
}

/// Elements of sets before and after a change that touches nothing else. Elements that stay as they are need not be in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Elements {
    /// before
    pub(crate) old: Entries,
    /// after
    pub(crate) new: Entries,
}

/// How to change only elements, with the same care.
pub(crate) fn diff_elements(sets: &BTreeMap<SetName, Elements>) -> Plan {
    let mut plan = Draft::default();
    for (name, Elements { old, new }) in sets {
        match IpFamily::ALL.into_iter().find(|family| signature_set(*family) == *name) {
            Some(family) => plan.signatures(family, old, &Entries::new(), new),
            None => plan.elements(name, Contents::Entries(old).differences(Contents::Entries(new))),
        }
    }
    plan.ordered()
}

/// How to remove everything of ours.
#[must_use]
pub fn removal(observed: &Observed) -> Plan {
    let mut plan = Draft::default();
    plan.unused_jumps(observed, &BTreeSet::new());
    for key in observed.chains.keys() {
        plan.discard(key);
    }
    plan.destroy.extend(observed.sets.keys().cloned());
    // Here nothing may be left.
    let Plan { mut steps, cleanup } = plan.ordered();
    steps.extend(cleanup);
    Plan { steps, cleanup: Vec::new() }
}

/// Chains to write in one transaction.
#[derive(Debug, Default)]
struct Rewrite {
    replace: BTreeMap<ChainName, Arc<Chain>>,
    delete: BTreeSet<ChainName>,
}

type Rewrites = BTreeMap<(IpFamily, Table), Rewrite>;

/// The steps of a plan by their phase.
#[derive(Debug, Default)]
struct Draft {
    make: Vec<Step>,
    guards: (Rewrites, Vec<Jump>),
    /// chains to which nothing leads, trees with the old and the new leaves
    prepare: Rewrites,
    tighten: Vec<SetEdit>,
    /// chains with another meaning
    change: Rewrites,
    jumps: Vec<Jump>,
    /// jumps that translated what is not to be translated any more
    untranslated: Vec<Step>,
    loosen: Vec<SetEdit>,
    /// moves that are done
    settle: Vec<SetEdit>,
    stale_jumps: Vec<Step>,
    clean: Rewrites,
    destroy: Vec<SetName>,
    stale_guards: (Vec<Step>, Rewrites),
}

impl Draft {
    fn sets(&mut self, before: &impl Before, spec: &Spec) -> Result<(), PlanError> {
        let moving: BTreeSet<SetName> =
            IpFamily::ALL.into_iter().flat_map(|family| [signature_set(family), next_set(family)]).collect();
        for (name, wanted) in &spec.sets {
            let Some(there) = before.set(name) else {
                let entries = wanted.elements().map(Contents::to_entries).unwrap_or_default();
                self.make.push(Step::CreateSet { name: name.clone(), kind: wanted.kind, entries });
                continue;
            };
            self.remake(name, &there, wanted)?;
            if let Some(elements) = wanted.elements()
                && !moving.contains(name)
            {
                self.elements(name, there.entries.differences(elements));
            }
        }
        for family in IpFamily::ALL {
            let name = signature_set(family);
            let half_moved = before.set(&next_set(family)).map(|set| set.entries.to_entries()).unwrap_or_default();
            if let (Some(old), Some(new)) = (before.set(&name), spec.sets.get(&name).and_then(SetSpec::elements)) {
                self.signatures(family, &old.entries.to_entries(), &half_moved, &new.to_entries());
            }
        }
        let unused = before.set_names().filter(|name| !spec.sets.contains_key(name));
        self.destroy.extend(unused.cloned());
        Ok(())
    }

    fn remake(&mut self, name: &SetName, there: &SetBefore<'_>, wanted: &SetSpec) -> Result<(), PlanError> {
        if there.kind != Some(wanted.kind) {
            return Err(PlanError::ForeignSet { name: name.clone(), wanted: wanted.kind });
        }
        if there.is_small {
            self.make.push(Step::RemakeSet {
                name: name.clone(),
                beside: name.replacement(),
                kind: wanted.kind,
                entries: there.entries.to_entries(),
            });
        }
        Ok(())
    }

    /// An element with another mark is out first: between the two it means nothing.
    fn elements(&mut self, set: &SetName, (gone, fresh): (Vec<Entry>, Entries)) {
        remove(&mut self.tighten, set, gone);
        add(&mut self.loosen, set, fresh);
    }

    /// The map from pods to signatures. Its elements are removed (tighten), added (loosen) and moved, and a move does both.
    /// `old_next`: moves that were begun and not finished.
    fn signatures(&mut self, family: IpFamily, old: &Entries, old_next: &Entries, new: &Entries) {
        let (name, next_name) = (signature_set(family), next_set(family));
        let (mut gone, mut moved, mut set) = (Vec::new(), Entries::new(), Entries::new());
        for (entry, mark) in old {
            let wanted = new.get(entry);
            let half_moved = old_next.get(entry);
            match wanted {
                Some(wanted) if wanted == mark && half_moved.is_none() => {}
                // It went to where it is wanted: go on.
                Some(wanted) if half_moved == Some(wanted) => drop(set.insert(entry.clone(), *wanted)),
                Some(wanted) if half_moved.is_none() && same_bits(*mark, *wanted) => {
                    moved.insert(entry.clone(), *wanted);
                    set.insert(entry.clone(), *wanted);
                }
                Some(wanted) => {
                    gone.push(entry.clone());
                    set.insert(entry.clone(), *wanted);
                }
                None => gone.push(entry.clone()),
            }
        }
        set.extend(new.iter().filter(|(entry, _)| !old.contains_key(entry)).map(|(e, mark)| (e.clone(), *mark)));
        let mut settled: BTreeSet<Entry> = old_next.keys().cloned().collect();
        settled.extend(moved.keys().cloned());
        remove(&mut self.tighten, &name, gone);
        add(&mut self.tighten, &next_name, moved);
        add(&mut self.loosen, &name, set);
        remove(&mut self.settle, &next_name, settled.into_iter().collect());
    }

    fn chains(&mut self, before: &impl Before, spec: &Spec) {
        let unions = unions(before, spec);
        for (key, chain) in &unions {
            if before.is_chain(key, chain) != Some(true) {
                rewrite(&mut self.prepare, key).replace.insert(key.name.clone(), Arc::clone(chain));
            }
        }
        for (key, chain) in &spec.chains {
            let (is_right, phase) = match (unions.get(key), before.is_chain(key, chain)) {
                (_, is_right) if key.table == Table::Security => (is_right == Some(true), &mut self.guards.0),
                (Some(union), _) => (union == chain, &mut self.clean),
                (None, Some(is_right)) => (is_right, &mut self.change),
                (None, None) => (false, &mut self.prepare),
            };
            if !is_right {
                rewrite(phase, key).replace.insert(key.name.clone(), Arc::clone(chain));
            }
        }
        let unused = before.chain_keys().chain(unions.keys()).filter(|key| !spec.chains.contains_key(key));
        for key in unused {
            self.discard(key);
        }
    }

    fn discard(&mut self, key: &ChainKey) {
        let clean = if key.table == Table::Security { &mut self.stale_guards.1 } else { &mut self.clean };
        rewrite(clean, key).delete.insert(key.name.clone());
    }

    fn jumps(&mut self, before: &impl Before, spec: &Spec) {
        let mut wanted = BTreeSet::new();
        for jump in &spec.jumps {
            let hook = HookKey { family: jump.family, table: jump.table, hook: jump.hook };
            wanted.insert((hook, &jump.chain));
            if !before.has_jump(jump) {
                let jumps = if jump.table == Table::Security { &mut self.guards.1 } else { &mut self.jumps };
                jumps.push(jump.clone());
            }
        }
        self.unused_jumps(before, &wanted);
    }

    fn unused_jumps(&mut self, before: &impl Before, wanted: &BTreeSet<(HookKey, &ChainName)>) {
        let unused: BTreeSet<_> = before.jumps().filter(|there| !wanted.contains(there)).collect();
        for (hook, chain) in unused {
            let stale = match hook.table {
                Table::Security => &mut self.stale_guards.0,
                Table::Nat => &mut self.untranslated,
                Table::Raw | Table::Mangle | Table::Filter => &mut self.stale_jumps,
            };
            stale.push(Step::RemoveJump { hook, chain: chain.clone() });
        }
    }

    fn ordered(mut self) -> Plan {
        self.move_at_once();
        let crossing = self.crossing();
        // Nothing happens between the two: their rules can be written together.
        if self.tighten.is_empty() {
            let prepare = std::mem::take(&mut self.prepare);
            merge(&mut self.change, prepare);
        }
        let mut steps = self.make;
        let (chains, jumps) = self.guards;
        steps.extend(restores(chains));
        steps.extend((!jumps.is_empty()).then_some(Step::EnsureJumps(jumps)));
        steps.extend(restores(self.prepare));
        steps.extend(edit(self.tighten));
        steps.extend(restores(self.change));
        steps.extend((!self.jumps.is_empty()).then_some(Step::EnsureJumps(self.jumps)));
        steps.extend(self.untranslated);
        // Each of these only if the one before it was done: separate exchanges.
        steps.extend(edit(crossing.enter));
        steps.extend(edit(crossing.leave));
        steps.extend(edit(self.loosen));
        steps.extend(edit(self.settle));
        steps.extend(self.stale_jumps);
        let mut cleanup: Vec<Step> = restores(self.clean).into_iter().collect();
        cleanup.extend(self.destroy.into_iter().map(Step::DestroySet));
        let (jumps, chains) = self.stale_guards;
        cleanup.extend(jumps);
        cleanup.extend(restores(chains));
        Plan { steps, cleanup }
    }

    /// What a single pod that changes its labels does; nothing else may change, rules least of all.
    fn crossing(&mut self) -> Crossing {
        let is_alone = self.make.is_empty()
            && self.prepare.is_empty()
            && self.change.is_empty()
            && self.jumps.is_empty()
            && self.untranslated.is_empty();
        if is_alone { crossing::take(&mut self.tighten, &mut self.loosen) } else { Crossing::default() }
    }

    /// A single move that is the only change is one step, from the old state to the new: it needs no state between.
    fn move_at_once(&mut self) {
        for family in IpFamily::ALL {
            let next = next_set(family);
            let of_family = |edit: &SetEdit| edit.set().family().is_none_or(|other| other == family);
            let is_one = |edits: &[SetEdit], set: &SetName| {
                let here: Vec<_> = edits.iter().filter(|edit| of_family(edit)).collect();
                matches!(here.as_slice(), [only] if only.set() == set && only.len() == 1)
            };
            let alone = is_one(&self.tighten, &next)
                && is_one(&self.loosen, &signature_set(family))
                && is_one(&self.settle, &next)
                && self.change.is_empty();
            if alone {
                self.tighten.retain(|step| !of_family(step));
                self.settle.retain(|step| !of_family(step));
            }
        }
    }
}

/// Whether two marks differ in their value only, so that both can be in use at once.
fn same_bits(one: Option<MarkValue>, other: Option<MarkValue>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one.mask == other.mask)
}

/// The chains of the spec's trees with the leaves that are there beside those that are wanted.
fn unions(before: &impl Before, spec: &Spec) -> BTreeMap<ChainKey, Arc<Chain>> {
    let mut chains = BTreeMap::new();
    let there: BTreeSet<&ChainKey> = before.chain_keys().collect();
    for (root, tree) in spec.trees.iter().filter(|(root, _)| there.contains(root)) {
        let mut leaves = before.leaves(root, tree.marks);
        leaves.extend(tree.leaves.iter().map(|(index, chain)| (*index, chain.clone())));
        let union = Tree { leaves, ..tree.clone() };
        for (name, chain) in union.chains(&root.name) {
            chains.insert(ChainKey { name, ..root.clone() }, Arc::new(chain));
        }
    }
    chains
}

fn rewrite<'a>(rewrites: &'a mut Rewrites, key: &ChainKey) -> &'a mut Rewrite {
    rewrites.entry((key.family, key.table)).or_default()
}

/// Adds rewrites of chains that `into` does not have.
fn merge(into: &mut Rewrites, from: Rewrites) {
    for (key, rewrite) in from {
        let all = into.entry(key).or_default();
        all.replace.extend(rewrite.replace);
        all.delete.extend(rewrite.delete);
    }
}

fn restores(rewrites: Rewrites) -> Option<Step> {
    let tables = rewrites.into_iter().map(|((family, table), Rewrite { replace, delete })| TableRestore {
        family,
        table,
        replace,
        delete,
    });
    let tables: Vec<TableRestore> = tables.collect();
    (!tables.is_empty()).then_some(Step::Restore(tables))
}

fn edit(edits: Vec<SetEdit>) -> Option<Step> {
    (!edits.is_empty()).then_some(Step::Edit(edits))
}

fn remove(edits: &mut Vec<SetEdit>, set: &SetName, entries: Vec<Entry>) {
    if !entries.is_empty() {
        edits.push(SetEdit::Remove(set.clone(), entries));
    }
}

fn add(edits: &mut Vec<SetEdit>, set: &SetName, entries: Entries) {
    if !entries.is_empty() {
        edits.push(SetEdit::Add(set.clone(), entries));
    }
}
