//! The whole as one value: what was applied last, and the kernel that it was applied to.

use netd_policy::intent::Intent;

use crate::compile::{CompileError, compile};
use crate::facts::NodeFacts;
use crate::kernel::{Kernel, KernelError, execute};
use crate::observed::Observed;
use crate::plan::{Plan, PlanError, Step, diff, removal};
use crate::spec::Spec;

/// Keeps a kernel as an intent wants it.
///
/// Ownership: everything in the kernel that is named like ours, in one network namespace. Atomicity: see [`crate::plan`]; after an error
/// the kernel is somewhere between the old and the new state, and the next call looks before it acts. Threads: one caller at a time.
#[derive(Debug)]
pub struct Dataplane<K> {
    kernel: K,
    /// what is there
    there: Observed,
    /// what was wanted last
    wanted: Option<Wanted>,
    /// the last change failed: `there` cannot be believed
    is_unsure: bool,
}

#[derive(Debug)]
struct Wanted {
    intent: Intent,
    facts: NodeFacts,
    spec: Spec,
}

/// What a call changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// chains written or removed
    pub chains: usize,
    /// jumps made, moved or removed
    pub jumps: usize,
    /// sets made or destroyed
    pub sets: usize,
    /// elements added or removed
    pub elements: usize,
}

/// Why the kernel is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// no rules can be made
    #[error("cannot make rules of the policies and services")]
    Compile(#[from] CompileError),
    /// something is in the way
    #[error("cannot change the node's rules")]
    Plan(#[from] PlanError),
    /// the kernel
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl<K: Kernel> Dataplane<K> {
    /// Takes over what is there; changes nothing.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn adopt(mut kernel: K) -> Result<Self, DataplaneError> {
        let there = kernel.observe()?;
        Ok(Self { kernel, there, wanted: None, is_unsure: false })
    }

    /// Whether anything of ours was there when it was last looked at or changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.there.is_empty()
    }

    /// Makes the kernel enforce `intent`.
    ///
    /// # Errors
    /// After an error the kernel enforces something between the last state and this one; the call can be repeated.
    pub fn apply(&mut self, intent: &Intent, facts: &NodeFacts) -> Result<Changes, DataplaneError> {
        if self.is_unsure {
            self.there = self.kernel.observe()?;
            self.is_unsure = false;
        }
        let previous = self.there.indexes(facts.marks);
        let spec = compile(intent, facts, &previous)?;
        let changes = self.converge(&spec)?;
        self.there = Observed::of(&spec);
        self.wanted = Some(Wanted { intent: intent.clone(), facts: facts.clone(), spec });
        Ok(changes)
    }

    /// Looks at the kernel and puts right what somebody else changed. Before the first [`Dataplane::apply`] there is nothing to compare
    /// with and nothing is done.
    ///
    /// # Errors
    /// As [`Dataplane::apply`].
    pub fn repair(&mut self) -> Result<Changes, DataplaneError> {
        let Some(wanted) = self.wanted.take() else { return Ok(Changes::default()) };
        self.is_unsure = true;
        let result = self.kernel.observe().map_err(DataplaneError::from).and_then(|there| {
            self.there = there;
            self.converge(&wanted.spec)
        });
        if result.is_ok() {
            self.there = Observed::of(&wanted.spec);
            self.is_unsure = false;
        }
        self.wanted = Some(wanted);
        result
    }

    /// Removes everything of ours, and nothing else.
    ///
    /// # Errors
    /// What the kernel refuses; the call can be repeated.
    pub fn remove_all(&mut self) -> Result<Changes, DataplaneError> {
        self.wanted = None;
        self.is_unsure = true;
        let plan = removal(&self.kernel.observe()?);
        execute(&mut self.kernel, &plan)?;
        self.there = Observed::default();
        self.is_unsure = false;
        Ok(Changes::of(&plan))
    }

    /// The state that was wanted last.
    #[must_use]
    pub fn spec(&self) -> Option<&Spec> {
        self.wanted.as_ref().map(|wanted| &wanted.spec)
    }

    /// The kernel.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    fn converge(&mut self, spec: &Spec) -> Result<Changes, DataplaneError> {
        let plan = diff(&self.there, spec)?;
        self.is_unsure = true;
        execute(&mut self.kernel, &plan)?;
        self.is_unsure = false;
        Ok(Changes::of(&plan))
    }
}

impl Changes {
    /// Whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn of(plan: &Plan) -> Self {
        let mut changes = Self::default();
        for step in &plan.steps {
            match step {
                Step::CreateSet { entries, .. } => {
                    changes.sets += 1;
                    changes.elements += entries.len();
                }
                Step::RemakeSet { .. } | Step::DestroySet(_) => changes.sets += 1,
                Step::Remove { entries, .. } => changes.elements += entries.len(),
                Step::Add { entries, .. } => changes.elements += entries.len(),
                Step::Restore { replace, delete, .. } => changes.chains += replace.len() + delete.len(),
                Step::EnsureJump(_) | Step::RemoveJump { .. } => changes.jumps += 1,
            }
        }
        changes
    }
}
