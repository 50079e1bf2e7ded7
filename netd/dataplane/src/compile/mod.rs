//! From what policies and services ask and what the node is, to the chains and sets that do it (docs/datapath.md, "Hooks" and
//! "Sets"). Pure: equal input, equal output.

mod addresses;
mod deny;
mod filter;
mod gate;
mod mangle;
mod services;
mod signature;
mod vxlan;

pub(crate) use gate::{gate_entry, gate_set};
pub(crate) use mangle::{next_set, signature_set};
pub use signature::tag_of as signature_tag;
pub(crate) use signature::{EGRESS, INGRESS, group_sets, pairs_of, pairs_set, signature_mark};

use std::collections::BTreeSet;
use std::sync::Arc;

use minipod_model::IpFamily;
use netd_policy::intent::Intent;

use crate::contents::Contents;
use crate::facts::{FamilyFacts, NodeFacts};
use crate::index::{self, Indexes, OutOfIndexes};
use crate::name::{ChainName, SetName};
use crate::spec::{
    Chain, ChainKey, ConnState, Entry, Hook, Jump, MarkValue, Match, Place, Rule, SetKind, SetSpec, Spec, Table, Target,
};
use crate::tree::Tree;

/// Why no rules can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// more signatures than marks can tell apart
    #[error(transparent)]
    OutOfIndexes(#[from] OutOfIndexes),
    /// more elements than the kernel is told to take
    #[error("set `{set}` would have {elements} elements; at most {max} are supported")]
    SetTooLarge {
        /// the set
        set: SetName,
        /// how many
        elements: usize,
        /// how many it may have
        max: usize,
    },
}

/// `maxelem` of every hash set. The kernel's tables grow with what is in them, so a high limit costs nothing.
pub const SET_ELEMENTS_MAX: usize = 1 << 20;

/// The kernel state that `intent` asks for on a node of these `facts`. Numbers that `previous` gave away keep their meaning.
///
/// # Errors
/// Where the kernel's limits do not suffice; nothing is left out silently.
pub fn compile(intent: &Intent, facts: &NodeFacts, previous: &Indexes) -> Result<Spec, CompileError> {
    compile_after(None, intent, facts, previous)
}

/// An intent and what was made of it on a node of the same facts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made<'a> {
    pub(crate) intent: &'a Intent,
    pub(crate) spec: &'a Spec,
}

/// The same as [`compile`]; what has not changed since `made` is taken from there.
pub(crate) fn compile_after(
    made: Option<Made<'_>>,
    intent: &Intent,
    facts: &NodeFacts,
    previous: &Indexes,
) -> Result<Spec, CompileError> {
    let max = facts.marks.index_max();
    let signature_tags: BTreeSet<String> = intent.signatures.keys().map(signature::tag_of).collect();
    let indexes = Indexes {
        signatures: index::assign("signatures", &previous.signatures, signature_tags.iter().map(String::as_str), max)?,
    };
    let mut spec = Spec { indexes, ..Spec::default() };
    for (family, family_facts) in facts.families() {
        Compiler { family, facts, family_facts, intent, made, spec: &mut spec }.all();
    }
    for (name, set) in &spec.sets {
        let elements = set.elements().map_or(0, Contents::len);
        if elements > SET_ELEMENTS_MAX {
            return Err(CompileError::SetTooLarge { set: name.clone(), elements, max: SET_ELEMENTS_MAX });
        }
    }
    Ok(spec)
}

/// Compiles one family into a spec.
struct Compiler<'a> {
    family: IpFamily,
    facts: &'a NodeFacts,
    family_facts: &'a FamilyFacts,
    intent: &'a Intent,
    made: Option<Made<'a>>,
    spec: &'a mut Spec,
}

impl Compiler<'_> {
    fn all(mut self) {
        self.vxlan_sets();
        self.gates();
        self.mangle();
        self.denied();
        self.signatures();
        self.services();
        self.masquerade();
        self.filter();
    }

    fn chain(&mut self, table: Table, name: ChainName, chain: Chain) {
        self.spec.chains.insert(ChainKey { family: self.family, table, name }, Arc::new(chain));
    }

    fn chains(&mut self, table: Table, chains: impl IntoIterator<Item = (ChainName, Chain)>) {
        for (name, chain) in chains {
            self.chain(table, name, chain);
        }
    }

    fn tree(&mut self, table: Table, root: ChainName, tree: Tree) {
        self.chains(table, tree.chains(&root));
        self.spec.trees.insert(ChainKey { family: self.family, table, name: root }, tree);
    }

    fn jump(&mut self, table: Table, hook: Hook, matches: Vec<Match>, chain: ChainName) {
        self.spec.jumps.push(Jump { family: self.family, table, hook, place: Place::First, matches, chain });
    }

    fn set(&mut self, name: SetName, kind: SetKind, entries: impl IntoIterator<Item = Entry>) {
        self.spec.sets.insert(name, SetSpec::of(kind, entries));
    }

    /// The mark that stands for nothing.
    fn no_index(&self) -> MarkValue {
        MarkValue { value: 0, mask: self.facts.marks.scratch() }
    }

    fn clear_scratch(&self) -> Rule {
        Rule::always(Target::SetMark(self.no_index()))
    }
}

fn state(state: ConnState) -> Match {
    Match::State(BTreeSet::from([state]))
}
