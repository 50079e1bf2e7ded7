//! The whole as one value: what was applied last, and the kernel that it was applied to.

use std::error::Error as _;

use netd_policy::can_forbid;
use netd_policy::intent::Intent;

use crate::compile::{CompileError, Made, SET_ELEMENTS_MAX, compile, compile_after};
use crate::contents::Contents;
use crate::delta;
use crate::diff::{Elements, diff, diff_elements, removal};
use crate::facts::NodeFacts;
use crate::index::Indexes;
use crate::inspect::Inspection;
use crate::kernel::{Kernel, KernelError, clean_up, execute, execute_step};
use crate::name::SetName;
use crate::observed::Observed;
use crate::plan::{Plan, PlanError, SetEdit, Step};
use crate::spec::{SetSpec, Spec};

/// Keeps a kernel as an intent wants it.
///
/// Ownership: everything in the kernel that is named like ours, in one network namespace. Atomicity: see [`crate::diff`]; after an error
/// the kernel is somewhere between the old and the new state, and the next call looks before it acts. Threads: one caller at a time.
#[derive(Debug)]
pub struct Dataplane<K> {
    kernel: K,
    there: There,
    /// what the last change left to be removed
    cleanup: Vec<Step>,
}

/// What is believed to be there.
#[derive(Debug)]
enum There {
    /// a change failed, and what was wanted last
    Unsure(Option<Box<Wanted>>),
    /// as it was found
    Found(Observed),
    /// as it was made
    Made(Box<Wanted>),
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
    /// something that was allowed may be forbidden now: live connections have to be judged again
    pub tightens: bool,
    /// chains and sets that nothing needs any more and that could not be removed, and why; tried again with the next repair
    pub leftovers: Vec<String>,
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
        let there = There::Found(kernel.observe()?);
        Ok(Self { kernel, there, cleanup: Vec::new() })
    }

    /// Whether nothing of ours was there when it was last looked at or changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.there, There::Found(observed) if observed.is_empty())
    }

    /// Makes the kernel enforce `intent`. Where only pods come, go or change their labels, only elements of sets are touched: no rule is
    /// compiled and no program is run. What somebody else removed in the meantime is made again.
    ///
    /// # Errors
    /// After an error the kernel enforces something between the last state and this one; the call can be repeated.
    pub fn apply(&mut self, intent: &Intent, facts: &NodeFacts) -> Result<Changes, DataplaneError> {
        let changes = self.put_in_force(intent, facts)?;
        Ok(changes.and(self.tidy()))
    }

    /// The first half of [`Dataplane::apply`]: `intent` is in force, and what nothing needs any more is still there, until the next call or
    /// [`Dataplane::tidy`]. Whoever waits for the verdict need not wait for that.
    ///
    /// # Errors
    /// As [`Dataplane::apply`].
    pub fn put_in_force(&mut self, intent: &Intent, facts: &NodeFacts) -> Result<Changes, DataplaneError> {
        let tidied = self.tidy();
        Ok(self.change(intent, facts)?.and(tidied))
    }

    /// Removes what the last change has left. It changes no verdict.
    pub fn tidy(&mut self) -> Changes {
        let cleanup = std::mem::take(&mut self.cleanup);
        let left = clean_up(&mut self.kernel, &cleanup);
        Changes::of_cleanup(&cleanup, &left)
    }

    fn change(&mut self, intent: &Intent, facts: &NodeFacts) -> Result<Changes, DataplaneError> {
        if let Ok(Some(changes)) = self.apply_elements(intent, facts) {
            return Ok(changes);
        }
        // What is not known to have been in force may have let anything pass.
        let mut tightens = true;
        let planned = match &self.there {
            There::Made(wanted) => {
                tightens = wanted.facts != *facts || can_forbid(&wanted.intent, intent);
                let has_same_marks = wanted.facts.marks == facts.marks;
                let previous = if has_same_marks { wanted.spec.indexes.clone() } else { Indexes::default() };
                let has_same_facts = wanted.facts == *facts;
                let made = has_same_facts.then_some(Made { intent: &wanted.intent, spec: &wanted.spec });
                let spec = compile_after(made, intent, facts, &previous)?;
                let plan = diff(&wanted.spec, &spec)?;
                Some((spec, plan))
            }
            There::Found(observed) => Some(plan_from(observed, intent, facts)?),
            There::Unsure(_) => None,
        };
        if let Some((spec, plan)) = planned
            && self.execute(&plan).is_ok()
        {
            self.made(intent, facts, spec);
            return Ok(Changes { tightens, ..Changes::of_steps(&plan) });
        }
        // What is there is not what was left there.
        let observed = self.kernel.observe()?;
        let (spec, plan) = plan_from(&observed, intent, facts)?;
        self.execute(&plan)?;
        self.made(intent, facts, spec);
        Ok(Changes { tightens: true, ..Changes::of_steps(&plan) })
    }

    /// Looks at the kernel and puts right what somebody else changed. Before the first [`Dataplane::apply`] there is nothing to compare
    /// with and nothing is done.
    ///
    /// # Errors
    /// As [`Dataplane::apply`].
    pub fn repair(&mut self) -> Result<Changes, DataplaneError> {
        self.tidy();
        let (There::Made(wanted) | There::Unsure(Some(wanted))) =
            std::mem::replace(&mut self.there, There::Unsure(None))
        else {
            self.there = There::Found(self.kernel.observe()?);
            return Ok(Changes::default());
        };
        let result = self.converge(&wanted.spec);
        self.there = if result.is_ok() { There::Made(wanted) } else { There::Unsure(Some(wanted)) };
        result
    }

    /// Removes everything of ours, and nothing else.
    ///
    /// # Errors
    /// What the kernel refuses; the call can be repeated.
    pub fn remove_all(&mut self) -> Result<Changes, DataplaneError> {
        self.cleanup.clear();
        self.there = There::Unsure(None);
        let plan = removal(&self.kernel.observe()?);
        self.execute(&plan)?;
        self.there = There::Found(Observed::default());
        Ok(Changes::of_steps(&plan).and(self.tidy()))
    }

    /// Removes chains and jumps of ours as they were found, and leaves sets, to which rules of another variant may refer.
    ///
    /// # Errors
    /// What the kernel refuses; the call can be repeated.
    pub(crate) fn remove_rules(&mut self) -> Result<Changes, DataplaneError> {
        let mut observed = match std::mem::replace(&mut self.there, There::Unsure(None)) {
            There::Found(observed) => observed,
            There::Made(_) | There::Unsure(_) => self.kernel.observe()?,
        };
        observed.sets.clear();
        let plan = removal(&observed);
        self.execute(&plan)?;
        Ok(Changes::of_steps(&plan).and(self.tidy()))
    }

    /// What is in the kernel now, held against what was wanted last; `None` before the first [`Dataplane::apply`].
    ///
    /// # Errors
    /// It cannot be read, or something of our name is in the way.
    pub fn inspect(&mut self) -> Result<Option<Inspection>, DataplaneError> {
        self.tidy();
        let observed = self.kernel.observe()?;
        let (There::Made(wanted) | There::Unsure(Some(wanted))) = &self.there else { return Ok(None) };
        Ok(Some(Inspection::of(&observed, &wanted.spec, wanted.facts.marks)?))
    }

    /// The state that was wanted last.
    #[must_use]
    pub fn spec(&self) -> Option<&Spec> {
        match &self.there {
            There::Made(wanted) | There::Unsure(Some(wanted)) => Some(&wanted.spec),
            There::Found(_) | There::Unsure(None) => None,
        }
    }

    /// What the state that was wanted last was made of.
    #[must_use]
    pub fn intent(&self) -> Option<&Intent> {
        match &self.there {
            There::Made(wanted) | There::Unsure(Some(wanted)) => Some(&wanted.intent),
            There::Found(_) | There::Unsure(None) => None,
        }
    }

    /// The kernel.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// `None`: more than elements change.
    fn apply_elements(&mut self, intent: &Intent, facts: &NodeFacts) -> Result<Option<Changes>, DataplaneError> {
        let There::Made(wanted) = &self.there else { return Ok(None) };
        if wanted.facts != *facts {
            return Ok(None);
        }
        let Some(delta) = delta::between(&wanted.intent, intent, facts, &wanted.spec) else { return Ok(None) };
        let plan = diff_elements(&delta.sets);
        let too_large = |(name, elements): (&SetName, &Elements)| {
            let there = wanted.spec.sets.get(name).and_then(SetSpec::elements).map_or(0, Contents::len);
            there + elements.new.len() > SET_ELEMENTS_MAX
        };
        if delta.sets.iter().any(too_large) {
            return Ok(None);
        }
        let tightens = can_forbid(&wanted.intent, intent);
        self.execute(&plan)?;
        if let There::Made(wanted) = &mut self.there {
            delta::remember(delta, &mut wanted.spec);
            wanted.intent = intent.clone();
        }
        Ok(Some(Changes { tightens, ..Changes::of_steps(&plan) }))
    }

    fn made(&mut self, intent: &Intent, facts: &NodeFacts, spec: Spec) {
        self.there = There::Made(Box::new(Wanted { intent: intent.clone(), facts: facts.clone(), spec }));
    }

    fn converge(&mut self, spec: &Spec) -> Result<Changes, DataplaneError> {
        let plan = diff(&self.kernel.observe()?, spec)?;
        let left = execute(&mut self.kernel, &plan)?;
        Ok(Changes::of_steps(&plan).and(Changes::of_cleanup(&plan.cleanup, &left)))
    }

    /// Carries out a plan's steps; its cleanup is left.
    fn execute(&mut self, plan: &Plan) -> Result<(), DataplaneError> {
        let mut steps = plan.steps.iter();
        let result = steps.try_for_each(|step| execute_step(&mut self.kernel, step));
        if result.is_ok() {
            self.cleanup.clone_from(&plan.cleanup);
        } else {
            self.there = match std::mem::replace(&mut self.there, There::Unsure(None)) {
                There::Made(wanted) | There::Unsure(Some(wanted)) => There::Unsure(Some(wanted)),
                There::Found(_) | There::Unsure(None) => There::Unsure(None),
            };
        }
        Ok(result?)
    }
}

fn plan_from(observed: &Observed, intent: &Intent, facts: &NodeFacts) -> Result<(Spec, Plan), DataplaneError> {
    let spec = compile(intent, facts, &observed.indexes(facts.marks))?;
    let plan = diff(observed, &spec)?;
    Ok((spec, plan))
}

impl Changes {
    /// Whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains + self.jumps + self.sets + self.elements == 0
    }

    /// What a plan's steps changed. What the rules meant before is not known here.
    fn of_steps(plan: &Plan) -> Self {
        Self { tightens: !plan.is_empty(), ..Self::count(&plan.steps) }
    }

    /// What a cleanup changed, and why parts of it could not be done: which of them were is not counted then.
    fn of_cleanup(cleanup: &[Step], left: &[KernelError]) -> Self {
        let leftovers = left.iter().map(|error| match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        });
        let done = if left.is_empty() { cleanup } else { &[] };
        Self { leftovers: leftovers.collect(), ..Self::count(done) }
    }

    /// Both together.
    fn and(self, other: Self) -> Self {
        Self {
            chains: self.chains + other.chains,
            jumps: self.jumps + other.jumps,
            sets: self.sets + other.sets,
            elements: self.elements + other.elements,
            tightens: self.tightens || other.tightens,
            leftovers: [self.leftovers, other.leftovers].concat(),
        }
    }

    fn count(steps: &[Step]) -> Self {
        let mut changes = Self::default();
        for step in steps {
            match step {
                Step::CreateSet { entries, .. } => {
                    changes.sets += 1;
                    changes.elements += entries.len();
                }
                Step::RemakeSet { .. } | Step::DestroySet(_) => changes.sets += 1,
                Step::Edit(edits) => changes.elements += edits.iter().map(SetEdit::len).sum::<usize>(),
                Step::Restore(tables) => {
                    changes.chains +=
                        tables.iter().map(|table| table.replace.len() + table.delete.len()).sum::<usize>();
                }
                Step::EnsureJumps(jumps) => changes.jumps += jumps.len(),
                Step::RemoveJump { .. } => changes.jumps += 1,
            }
        }
        changes
    }
}
