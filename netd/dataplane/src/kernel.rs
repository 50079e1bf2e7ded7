//! The kernel as far as a [`Plan`](crate::plan::Plan) needs it: the one interface through which anything is changed. There are two: the
//! real one ([`crate::linux::LinuxKernel`]) and one that only remembers ([`crate::fake::FakeKernel`]); one suite of tests holds for both.

use crate::name::{ChainName, SetName};
use crate::observed::{HookKey, Observed};
use crate::plan::{Entries, Plan, SetEdit, Step, TableRestore};
use crate::spec::{Jump, SetKind, Table};

/// A kernel, or something that refuses what a kernel refuses. Every call is one change: it happens or it does not, except for lists of
/// elements, of which those before a refused one are in effect.
pub trait Kernel {
    /// What is there of ours.
    ///
    /// # Errors
    /// It cannot be read.
    fn observe(&mut self) -> Result<Observed, KernelError>;

    /// Makes an empty set.
    ///
    /// # Errors
    /// One of that name is there already.
    fn create_set(&mut self, name: &SetName, kind: SetKind) -> Result<(), KernelError>;

    /// Removes and adds elements, set by set in this order. What is there already gets its new mark; what is not there need not be
    /// removed.
    ///
    /// # Errors
    /// A set is missing or does not take an element.
    fn edit_sets(&mut self, edits: &[SetEdit]) -> Result<(), KernelError>;

    /// Gives a set another name.
    ///
    /// # Errors
    /// It is missing, a rule refers to it, or there is one of that name.
    fn rename_set(&mut self, from: &SetName, to: &SetName) -> Result<(), KernelError>;

    /// Exchanges two sets; rules see the other content at once.
    ///
    /// # Errors
    /// One is missing, or they differ in type or family.
    fn swap_sets(&mut self, one: &SetName, other: &SetName) -> Result<(), KernelError>;

    /// Destroys a set, also one that is not there.
    ///
    /// # Errors
    /// A rule refers to it.
    fn destroy_set(&mut self, name: &SetName) -> Result<(), KernelError>;

    /// Replaces chains and removes others, each table all or nothing.
    ///
    /// # Errors
    /// A rule names a set or a chain that is not there, or a rule elsewhere leads to a chain that is to be removed. Tables before the
    /// refused one are written.
    fn restore(&mut self, tables: &[TableRestore]) -> Result<(), KernelError>;

    /// Makes jumps, each in its place in its built-in chain and once.
    ///
    /// # Errors
    /// A chain is not there; jumps before it are made.
    fn ensure_jumps(&mut self, jumps: &[Jump]) -> Result<(), KernelError>;

    /// Removes all jumps to a chain from a built-in chain.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove_jump(&mut self, hook: HookKey, chain: &ChainName) -> Result<(), KernelError>;
}

impl<K: Kernel + ?Sized> Kernel for &mut K {
    fn observe(&mut self) -> Result<Observed, KernelError> {
        (**self).observe()
    }

    fn create_set(&mut self, name: &SetName, kind: SetKind) -> Result<(), KernelError> {
        (**self).create_set(name, kind)
    }

    fn edit_sets(&mut self, edits: &[SetEdit]) -> Result<(), KernelError> {
        (**self).edit_sets(edits)
    }

    fn rename_set(&mut self, from: &SetName, to: &SetName) -> Result<(), KernelError> {
        (**self).rename_set(from, to)
    }

    fn swap_sets(&mut self, one: &SetName, other: &SetName) -> Result<(), KernelError> {
        (**self).swap_sets(one, other)
    }

    fn destroy_set(&mut self, name: &SetName) -> Result<(), KernelError> {
        (**self).destroy_set(name)
    }

    fn restore(&mut self, tables: &[TableRestore]) -> Result<(), KernelError> {
        (**self).restore(tables)
    }

    fn ensure_jumps(&mut self, jumps: &[Jump]) -> Result<(), KernelError> {
        (**self).ensure_jumps(jumps)
    }

    fn remove_jump(&mut self, hook: HookKey, chain: &ChainName) -> Result<(), KernelError> {
        (**self).remove_jump(hook, chain)
    }
}

/// The kernel did not do it.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// sets
    #[error("cannot change the node's sets")]
    Sets(#[from] minipod_kernel::ipset::IpsetError),
    /// rules
    #[error("cannot change the node's rules")]
    Rules(#[from] minipod_kernel::iptables::IptablesError),
    /// a name that the kernel's interface does not take
    #[error("`{0}` is no name of a set")]
    SetName(String),
    /// a thread ended early
    #[error("the thread that changes IPv6 rules ended early")]
    Thread,
    /// the fake kernel
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What the fake kernel would not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// the set is not there
    #[error("there is no set `{0}`")]
    NoSet(SetName),
    /// the set is there already
    #[error("set `{0}` exists already")]
    SetExists(SetName),
    /// a rule refers to the set
    #[error("set `{0}` is in use")]
    SetInUse(SetName),
    /// the element is not of the set's type or family
    #[error("set `{set}` does not take {entry}")]
    Entry {
        /// the set
        set: SetName,
        /// the element
        entry: String,
    },
    /// two sets cannot be swapped
    #[error("sets `{0}` and `{1}` differ in type")]
    SetTypes(SetName, SetName),
    /// the chain is not there
    #[error("there is no chain `{0}`")]
    NoChain(ChainName),
    /// a rule or jump leads to the chain
    #[error("chain `{0}` is in use")]
    ChainInUse(ChainName),
    /// the table does not take the rule
    #[error("table {0:?} does not take this rule")]
    Table(Table),
}

/// Applies a plan step by step, in its order. Returns what could not be cleaned up.
///
/// # Errors
/// The first step that fails; those before it are in effect, so the caller has to observe anew.
pub fn execute(kernel: &mut impl Kernel, plan: &Plan) -> Result<Vec<KernelError>, KernelError> {
    for step in &plan.steps {
        execute_step(kernel, step)?;
    }
    Ok(clean_up(kernel, &plan.cleanup))
}

/// Does what can be done of a plan's cleanup. Returns what could not.
pub(crate) fn clean_up(kernel: &mut impl Kernel, cleanup: &[Step]) -> Vec<KernelError> {
    let mut left = Vec::new();
    for step in cleanup {
        // Guards stay while something is left that they may have to keep back.
        if left.is_empty() || !step.is_of_guards() {
            left.extend(execute_step(kernel, step).err());
        }
    }
    left
}

/// Applies one step.
///
/// # Errors
/// What the kernel refuses.
pub fn execute_step(kernel: &mut impl Kernel, step: &Step) -> Result<(), KernelError> {
    match step {
        Step::CreateSet { name, kind, entries } if entries.is_empty() => kernel.create_set(name, *kind),
        // It gets its name when it is full. A half-filled one would be taken for a set in use by whoever goes on after a change that was
        // broken off here: he would move pods to what refers to it first, and complete it then.
        Step::CreateSet { name, kind, entries } => {
            let beside = name.replacement();
            build(kernel, &beside, *kind, entries)?;
            kernel.rename_set(&beside, name)
        }
        Step::RemakeSet { name, beside, kind, entries } => {
            build(kernel, beside, *kind, entries)?;
            kernel.swap_sets(name, beside)?;
            kernel.destroy_set(beside)
        }
        Step::Edit(edits) => kernel.edit_sets(edits),
        Step::Restore(tables) => kernel.restore(tables),
        Step::EnsureJumps(jumps) => kernel.ensure_jumps(jumps),
        Step::RemoveJump { hook, chain } => kernel.remove_jump(*hook, chain),
        Step::DestroySet(name) => kernel.destroy_set(name),
    }
}

/// Makes a set under a name that nothing refers to.
fn build(kernel: &mut impl Kernel, beside: &SetName, kind: SetKind, entries: &Entries) -> Result<(), KernelError> {
    kernel.destroy_set(beside)?;
    kernel.create_set(beside, kind)?;
    kernel.edit_sets(&[SetEdit::Add(beside.clone(), entries.clone())])
}
