//! What is there of ours, as far as it can be judged without memory: chains by the hash that they carry, jumps by their position,
//! sets by what is in them.

use std::collections::BTreeMap;

use minipod_model::IpFamily;

use crate::compile::{EGRESS, INGRESS};
use crate::contents::Contents;
use crate::facts::MarkBits;
use crate::index::Indexes;
use crate::name::{ChainName, SetName};
use crate::spec::{Chain, ChainKey, Entry, Hook, MarkValue, Match, SetKind, Spec, Table, Target};
use crate::text::{chain_hash, jump_text};
use crate::tree::Leaves;

/// A built-in chain of a family and table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookKey {
    /// `iptables` or `ip6tables`
    pub family: IpFamily,
    /// the table
    pub table: Table,
    /// the built-in chain
    pub hook: Hook,
}

/// Everything of ours in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// chains named like ours
    pub chains: BTreeMap<ChainKey, ObservedChain>,
    /// jumps to chains named like ours, by the built-in chain that they are in
    pub jumps: BTreeMap<HookKey, Vec<ObservedJump>>,
    /// sets named like ours
    pub sets: BTreeMap<SetName, ObservedSet>,
}

/// A chain as it is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedChain {
    /// the hash that it carries, if it is that of its rules
    pub hash: Option<String>,
    /// rules that lead from a mark to a chain and ask nothing else
    pub leaves: Vec<(MarkValue, ChainName)>,
}

/// A jump of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedJump {
    /// its place in the built-in chain, from 1
    pub position: usize,
    /// where it leads
    pub chain: ChainName,
    /// the rule as `iptables` prints it
    pub text: String,
}

/// A set of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedSet {
    /// type and options; `None` for a type that we do not use
    pub kind: Option<SetKind>,
    /// made with a lower limit of elements than ours
    pub is_small: bool,
    /// what is in it
    pub entries: BTreeMap<Entry, Option<MarkValue>>,
}

impl Observed {
    /// What is there once a spec is applied. Sets that the kernel fills appear empty.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let chains = spec.chains.iter().map(|(key, chain)| (key.clone(), ObservedChain::of(key, chain))).collect();
        let mut jumps: BTreeMap<HookKey, Vec<ObservedJump>> = BTreeMap::new();
        for jump in &spec.jumps {
            let there = jumps.entry(HookKey { family: jump.family, table: jump.table, hook: jump.hook }).or_default();
            let position = there.len() + 1;
            there.push(ObservedJump { position, chain: jump.chain.clone(), text: jump_text(jump) });
        }
        let sets = spec.sets.iter().map(|(name, set)| {
            let entries = set.elements().map(Contents::to_entries).unwrap_or_default();
            (name.clone(), ObservedSet { kind: Some(set.kind), is_small: false, entries })
        });
        Self { chains, jumps, sets: sets.collect() }
    }

    /// Whether nothing of ours is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty() && self.sets.is_empty()
    }

    /// The numbers that rules and sets use now.
    #[must_use]
    pub fn indexes(&self, marks: MarkBits) -> Indexes {
        let mut indexes = Indexes::default();
        let leaves = self.chains.values().flat_map(|chain| &chain.leaves);
        for (mark, chain) in leaves.filter(|(mark, _)| mark.mask == marks.scratch()) {
            let index = marks.index_of(mark.value);
            if let Some(tag) = chain.tag_if(EGRESS).or_else(|| chain.tag_if(INGRESS)) {
                indexes.signatures.insert(tag.to_owned(), index);
            }
        }
        indexes
    }

    /// The leaves below a tree's root, where their chains are still there.
    #[must_use]
    pub(crate) fn leaves_below(&self, root: &ChainKey, marks: MarkBits) -> Leaves {
        let mut leaves = Leaves::new();
        let below = self.chains.iter().filter(|(key, _)| {
            key.family == root.family && key.table == root.table && key.name.is_at_or_below(&root.name)
        });
        for (mark, chain) in below.flat_map(|(_, chain)| &chain.leaves) {
            let leaf = ChainKey { family: root.family, table: root.table, name: chain.clone() };
            if mark.mask == marks.scratch() && !chain.is_at_or_below(&root.name) && self.chains.contains_key(&leaf) {
                leaves.insert(marks.index_of(mark.value), chain.clone());
            }
        }
        leaves
    }
}

impl ObservedChain {
    /// A chain as it will be judged.
    #[must_use]
    pub fn of(key: &ChainKey, chain: &Chain) -> Self {
        let leaves = chain.rules.iter().filter_map(|rule| match (rule.matches.as_slice(), &rule.target) {
            ([Match::Mark(mark)], Target::Goto(chain)) => Some((*mark, chain.clone())),
            _ => None,
        });
        Self { hash: Some(chain_hash(key.family, &key.name, chain)), leaves: leaves.collect() }
    }
}
