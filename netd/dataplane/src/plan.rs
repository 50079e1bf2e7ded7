//! Changes of the kernel as values: steps whose order is the order of application (docs/datapath.md, "Changing").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minipod_model::IpFamily;

use crate::name::{ChainName, SetName};
use crate::observed::HookKey;
use crate::spec::{Chain, Entry, Jump, MarkValue, SetKind, Table};

/// What is to be done, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// what has to be done
    pub steps: Vec<Step>,
    /// what is done after that and changes no verdict: chains and sets that nothing needs any more are removed. It can fail, where
    /// somebody else's rule refers to one of them.
    pub cleanup: Vec<Step>,
}

/// One change of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// make a set, with what is in it; nothing refers to it yet
    CreateSet {
        /// its name
        name: SetName,
        /// type and options
        kind: SetKind,
        /// what is in it from the start
        entries: Entries,
    },
    /// make a set anew with the options that are wanted and the content that it has
    RemakeSet {
        /// its name
        name: SetName,
        /// the name while it is built
        beside: SetName,
        /// type and options
        kind: SetKind,
        /// what is in it
        entries: Entries,
    },
    /// change what is in sets, in this order and in one exchange with the kernel
    Edit(Vec<SetEdit>),
    /// write chains of some tables; each table is one transaction
    Restore(Vec<TableRestore>),
    /// make jumps, or put them into their place, in this order within a family
    EnsureJumps(Vec<Jump>),
    /// remove all jumps to a chain of ours from a built-in chain
    RemoveJump {
        /// the built-in chain
        hook: HookKey,
        /// our chain
        chain: ChainName,
    },
    /// destroy a set to which nothing refers
    DestroySet(SetName),
}

/// A change of a table's chains: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRestore {
    /// `iptables` or `ip6tables`
    pub family: IpFamily,
    /// the table
    pub table: Table,
    /// new content; chains that are not there are made
    pub replace: BTreeMap<ChainName, Arc<Chain>>,
    /// chains to which nothing leads any more
    pub delete: BTreeSet<ChainName>,
}

/// A change of what is in a set. Each element is a change by itself; none depends on another of the same step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetEdit {
    /// take elements out; those that are not in it are fine
    Remove(SetName, Vec<Entry>),
    /// put elements in, or give those in it another mark
    Add(SetName, Entries),
}

/// Elements with their marks.
pub type Entries = BTreeMap<Entry, Option<MarkValue>>;

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// a set of our name that is none of ours
    #[error(
        "set `{name}` is there with a type that minipod does not give it (wanted {wanted:?}): remove what uses it, then `ipset destroy {name}`"
    )]
    ForeignSet {
        /// the set
        name: SetName,
        /// the type and options that were wanted
        wanted: SetKind,
    },
}

impl Step {
    /// Whether it changes nothing but the security table.
    #[must_use]
    pub fn is_of_guards(&self) -> bool {
        match self {
            Self::RemoveJump { hook, .. } => hook.table == Table::Security,
            Self::Restore(tables) => tables.iter().all(|restore| restore.table == Table::Security),
            Self::EnsureJumps(jumps) => jumps.iter().all(|jump| jump.table == Table::Security),
            Self::CreateSet { .. } | Self::RemakeSet { .. } | Self::Edit(_) | Self::DestroySet(_) => false,
        }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.cleanup.is_empty()
    }

    /// All steps, in order.
    pub fn all(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().chain(&self.cleanup)
    }

    /// Whether only elements of sets change: no rule is written, no program is run.
    #[must_use]
    pub fn is_elements_only(&self) -> bool {
        self.all().all(|step| matches!(step, Step::Edit(_)))
    }
}

impl SetEdit {
    /// The set.
    #[must_use]
    pub fn set(&self) -> &SetName {
        match self {
            Self::Remove(set, _) | Self::Add(set, _) => set,
        }
    }

    /// How many elements it changes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Remove(_, entries) => entries.len(),
            Self::Add(_, entries) => entries.len(),
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
