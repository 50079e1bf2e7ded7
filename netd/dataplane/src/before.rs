//! What a plan starts from: a kernel that was looked at ([`Observed`]) or the state that was made last ([`Spec`]). The second is compared
//! value by value, which costs less than the hashes by which the first is judged.

use crate::contents::Contents;
use crate::facts::MarkBits;
use crate::name::{ChainName, SetName};
use crate::observed::{HookKey, Observed};
use crate::plan::Entries;
use crate::spec::{Chain, ChainKey, Jump, Place, SetKind, Spec};
use crate::text::{chain_hash, jump_text};
use crate::tree::Leaves;

/// A state to start from.
pub trait Before {
    /// All chains.
    fn chain_keys(&self) -> impl Iterator<Item = &ChainKey>;
    /// Whether a chain is like `chain`; `None` if it is not there.
    fn is_chain(&self, key: &ChainKey, chain: &Chain) -> Option<bool>;
    /// Where marks lead from a tree's root.
    fn leaves(&self, root: &ChainKey, marks: MarkBits) -> Leaves;
    /// The names of all sets.
    fn set_names(&self) -> impl Iterator<Item = &SetName>;
    /// A set.
    fn set(&self, name: &SetName) -> Option<SetBefore<'_>>;
    /// Whether a jump is there, once and in its place.
    fn has_jump(&self, jump: &Jump) -> bool;
    /// All jumps: where they are, and where they lead.
    fn jumps(&self) -> impl Iterator<Item = (HookKey, &ChainName)>;
}

/// A set to start from.
#[derive(Debug, Clone, Copy)]
pub struct SetBefore<'a> {
    /// type and options; `None` for a type that we do not use
    pub kind: Option<SetKind>,
    /// made with a lower limit of elements than ours
    pub is_small: bool,
    /// what is in it; nothing for a set that the kernel fills
    pub entries: Contents<'a>,
}

static NOTHING: Entries = Entries::new();

impl Before for Observed {
    fn chain_keys(&self) -> impl Iterator<Item = &ChainKey> {
        self.chains.keys()
    }

    fn is_chain(&self, key: &ChainKey, chain: &Chain) -> Option<bool> {
        let there = self.chains.get(key)?;
        Some(there.hash.as_ref().is_some_and(|hash| *hash == chain_hash(key.family, &key.name, chain)))
    }

    fn leaves(&self, root: &ChainKey, marks: MarkBits) -> Leaves {
        self.leaves_below(root, marks)
    }

    fn set_names(&self) -> impl Iterator<Item = &SetName> {
        self.sets.keys()
    }

    fn set(&self, name: &SetName) -> Option<SetBefore<'_>> {
        let set = self.sets.get(name)?;
        Some(SetBefore { kind: set.kind, is_small: set.is_small, entries: Contents::Entries(&set.entries) })
    }

    fn has_jump(&self, jump: &Jump) -> bool {
        let hook = HookKey { family: jump.family, table: jump.table, hook: jump.hook };
        let there = self.jumps.get(&hook).into_iter().flatten().filter(|there| there.chain == jump.chain);
        let there: Vec<_> = there.collect();
        matches!(there.as_slice(), [only] if only.text == jump_text(jump) && (only.position == 1 || jump.place == Place::Last))
    }

    fn jumps(&self) -> impl Iterator<Item = (HookKey, &ChainName)> {
        self.jumps.iter().flat_map(|(hook, jumps)| jumps.iter().map(|jump| (*hook, &jump.chain)))
    }
}

impl Before for Spec {
    fn chain_keys(&self) -> impl Iterator<Item = &ChainKey> {
        self.chains.keys()
    }

    fn is_chain(&self, key: &ChainKey, chain: &Chain) -> Option<bool> {
        self.chains.get(key).map(|there| std::ptr::eq(there.as_ref(), chain) || **there == *chain)
    }

    fn leaves(&self, root: &ChainKey, marks: MarkBits) -> Leaves {
        let tree = self.trees.get(root).filter(|tree| tree.marks == marks);
        tree.map(|tree| tree.leaves.clone()).unwrap_or_default()
    }

    fn set_names(&self) -> impl Iterator<Item = &SetName> {
        self.sets.keys()
    }

    fn set(&self, name: &SetName) -> Option<SetBefore<'_>> {
        let set = self.sets.get(name)?;
        let entries = set.elements().unwrap_or(Contents::Entries(&NOTHING));
        Some(SetBefore { kind: Some(set.kind), is_small: false, entries })
    }

    fn has_jump(&self, jump: &Jump) -> bool {
        self.jumps.contains(jump)
    }

    fn jumps(&self) -> impl Iterator<Item = (HookKey, &ChainName)> {
        self.jumps.iter().map(|jump| (HookKey { family: jump.family, table: jump.table, hook: jump.hook }, &jump.chain))
    }
}
