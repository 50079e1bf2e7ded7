//! A kernel that only remembers, and refuses what the real one refuses: a rule that names an unknown set or chain, the destruction of
//! what is referred to, an element of the wrong type.

use std::collections::BTreeMap;
use std::sync::Arc;

use minipod_model::IpFamily;

use crate::contents::Contents;
use crate::kernel::{Kernel, KernelError, Refusal};
use crate::name::{ChainName, SetName};
use crate::observed::{HookKey, Observed, ObservedChain, ObservedJump, ObservedSet};
use crate::plan::{Entries, SetEdit, TableRestore};
use crate::spec::{Chain, ChainKey, Content, Jump, Place, SetKind, SetSpec, Table};
use crate::text::jump_text;

/// A kernel in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FakeKernel {
    /// chains
    pub chains: BTreeMap<ChainKey, Arc<Chain>>,
    /// jumps of ours in built-in chains, first to last
    pub jumps: BTreeMap<HookKey, Vec<Jump>>,
    /// sets
    pub sets: BTreeMap<SetName, SetSpec>,
    /// calls of [`Kernel::restore`], [`Kernel::ensure_jumps`] and [`Kernel::remove_jump`]: what the real kernel runs a program for
    pub programs_run: usize,
}

impl FakeKernel {
    fn set_is_used(&self, name: &SetName) -> bool {
        self.chains.values().flat_map(|chain| &chain.rules).any(|rule| rule.sets().any(|set| set == name))
    }

    fn entries(&mut self, name: &SetName) -> Result<(SetKind, &mut Entries), Refusal> {
        let set = self.sets.get_mut(name).ok_or_else(|| Refusal::NoSet(name.clone()))?;
        let kind = set.kind;
        match &mut set.content {
            Content::Entries(entries) => Ok((kind, Arc::make_mut(entries))),
            Content::Kernel | Content::Addresses(_) | Content::Pairs(_) => Err(Refusal::NoSet(name.clone())),
        }
    }

    fn check_table(&self, family: IpFamily, table: Table) -> Result<(), Refusal> {
        for (key, chain) in self.chains.iter().filter(|(key, _)| key.family == family && key.table == table) {
            for rule in &chain.rules {
                if let Some(set) = rule.sets().find(|set| !self.sets.contains_key(*set)) {
                    return Err(Refusal::NoSet(set.clone()));
                }
                if let Some(next) = rule.chain()
                    && !self.chains.contains_key(&ChainKey { name: next.clone(), ..key.clone() })
                {
                    return Err(Refusal::NoChain(next.clone()));
                }
                if !rule.target.is_allowed_in(table) {
                    return Err(Refusal::Table(table));
                }
            }
        }
        for (hook, jumps) in &self.jumps {
            let here = hook.family == family && hook.table == table;
            let lost = jumps
                .iter()
                .find(|jump| here && !self.chains.contains_key(&ChainKey { family, table, name: jump.chain.clone() }));
            if let Some(lost) = lost {
                return Err(Refusal::ChainInUse(lost.chain.clone()));
            }
        }
        Ok(())
    }
}

impl Kernel for FakeKernel {
    fn observe(&mut self) -> Result<Observed, KernelError> {
        let chains = self.chains.iter().map(|(key, chain)| (key.clone(), ObservedChain::of(key, chain))).collect();
        let jumps = self.jumps.iter().filter(|(_, jumps)| !jumps.is_empty()).map(|(hook, jumps)| {
            let jumps = jumps.iter().enumerate().map(|(index, jump)| ObservedJump {
                position: index + 1,
                chain: jump.chain.clone(),
                text: jump_text(jump),
            });
            (*hook, jumps.collect())
        });
        let sets = self.sets.iter().map(|(name, set)| {
            let entries = set.elements().map(Contents::to_entries).unwrap_or_default();
            (name.clone(), ObservedSet { kind: Some(set.kind), is_small: false, entries })
        });
        Ok(Observed { chains, jumps: jumps.collect(), sets: sets.collect() })
    }

    fn create_set(&mut self, name: &SetName, kind: SetKind) -> Result<(), KernelError> {
        if self.sets.contains_key(name) {
            return Err(Refusal::SetExists(name.clone()).into());
        }
        self.sets.insert(name.clone(), SetSpec::of(kind, []));
        Ok(())
    }

    fn edit_sets(&mut self, edits: &[SetEdit]) -> Result<(), KernelError> {
        for edit in edits {
            match edit {
                SetEdit::Remove(set, entries) => {
                    let (_, there) = self.entries(set)?;
                    for entry in entries {
                        there.remove(entry);
                    }
                }
                SetEdit::Add(set, entries) => {
                    let (kind, there) = self.entries(set)?;
                    for (entry, mark) in entries {
                        if !kind.holds(entry) || mark.is_some() && !kind.has_marks() {
                            return Err(Refusal::Entry { set: set.clone(), entry: format!("{entry:?}") }.into());
                        }
                        there.insert(entry.clone(), *mark);
                    }
                }
            }
        }
        Ok(())
    }

    fn rename_set(&mut self, from: &SetName, to: &SetName) -> Result<(), KernelError> {
        if !self.sets.contains_key(from) {
            return Err(Refusal::NoSet(from.clone()).into());
        }
        if self.set_is_used(from) {
            return Err(Refusal::SetInUse(from.clone()).into());
        }
        if self.sets.contains_key(to) {
            return Err(Refusal::SetExists(to.clone()).into());
        }
        let set = self.sets.remove(from);
        self.sets.extend(set.map(|set| (to.clone(), set)));
        Ok(())
    }

    fn swap_sets(&mut self, one: &SetName, other: &SetName) -> Result<(), KernelError> {
        let missing = [one, other].into_iter().find(|name| !self.sets.contains_key(*name));
        if let Some(missing) = missing {
            return Err(Refusal::NoSet(missing.clone()).into());
        }
        let (Some(first), Some(second)) = (self.sets.get(one).cloned(), self.sets.get(other).cloned()) else {
            return Ok(());
        };
        if first.kind != second.kind {
            return Err(Refusal::SetTypes(one.clone(), other.clone()).into());
        }
        self.sets.insert(one.clone(), second);
        self.sets.insert(other.clone(), first);
        Ok(())
    }

    fn destroy_set(&mut self, name: &SetName) -> Result<(), KernelError> {
        if self.set_is_used(name) {
            return Err(Refusal::SetInUse(name.clone()).into());
        }
        self.sets.remove(name);
        Ok(())
    }

    fn restore(&mut self, tables: &[TableRestore]) -> Result<(), KernelError> {
        self.programs_run += 1;
        for TableRestore { family, table, replace, delete } in tables {
            let (family, table) = (*family, *table);
            let before = self.chains.clone();
            for (name, chain) in replace {
                self.chains.insert(ChainKey { family, table, name: name.clone() }, chain.clone());
            }
            for name in delete {
                self.chains.remove(&ChainKey { family, table, name: name.clone() });
            }
            self.check_table(family, table).inspect_err(|_| self.chains = before)?;
        }
        Ok(())
    }

    fn ensure_jumps(&mut self, jumps: &[Jump]) -> Result<(), KernelError> {
        for jump in jumps {
            self.programs_run += 1;
            let key = ChainKey { family: jump.family, table: jump.table, name: jump.chain.clone() };
            if !self.chains.contains_key(&key) {
                return Err(Refusal::NoChain(key.name).into());
            }
            let hook = HookKey { family: jump.family, table: jump.table, hook: jump.hook };
            let there = self.jumps.entry(hook).or_default();
            there.retain(|other| other.chain != jump.chain);
            match jump.place {
                Place::First => there.insert(0, jump.clone()),
                Place::Last => there.push(jump.clone()),
            }
        }
        Ok(())
    }

    fn remove_jump(&mut self, hook: HookKey, chain: &ChainName) -> Result<(), KernelError> {
        self.programs_run += 1;
        if let Some(there) = self.jumps.get_mut(&hook) {
            there.retain(|jump| jump.chain != *chain);
        }
        self.jumps.retain(|_, jumps| !jumps.is_empty());
        Ok(())
    }
}
