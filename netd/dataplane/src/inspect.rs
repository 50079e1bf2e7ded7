//! What is installed, held against what is wanted: who explains a verdict must not tell what policies mean and leave out what the rules do.

use crate::before::Before as _;
use crate::diff::diff;
use crate::facts::MarkBits;
use crate::interpret::{Outcome, Packet, Route, State};
use crate::observed::Observed;
use crate::plan::{PlanError, SetEdit, Step};
use crate::spec::{ChainKey, Content, Entry, SetSpec, Spec};
use std::net::IpAddr;

/// As many elements of a set are named.
const SHOWN: usize = 5;

/// The installed rules and sets.
#[derive(Debug)]
pub struct Inspection {
    /// chains and jumps that are as wanted, and sets with what is in them
    installed: Spec,
    marks: MarkBits,
    differences: Vec<String>,
}

impl Inspection {
    pub(crate) fn of(observed: &Observed, wanted: &Spec, marks: MarkBits) -> Result<Self, PlanError> {
        let differences = diff(observed, wanted)?.all().flat_map(describe).collect();
        let chains = wanted.chains.iter().filter(|(key, chain)| observed.is_chain(key, chain) == Some(true));
        let sets = observed.sets.iter().filter_map(|(name, set)| {
            Some((name.clone(), SetSpec { kind: set.kind?, content: Content::of(set.entries.clone()) }))
        });
        let installed = Spec {
            chains: chains.map(|(key, chain)| (key.clone(), chain.clone())).collect(),
            jumps: wanted.jumps.iter().filter(|jump| observed.has_jump(jump)).cloned().collect(),
            sets: sets.collect(),
            ..Spec::default()
        };
        Ok(Self { installed, marks, differences })
    }

    /// Where the kernel is not as wanted, for people.
    #[must_use]
    pub fn differences(&self) -> &[String] {
        &self.differences
    }

    /// What the installed rules do with a packet. A chain that somebody else changed is left out: its meaning is not known.
    #[must_use]
    pub fn walk(&self, packet: &Packet, route: impl Fn(IpAddr) -> Route) -> Outcome {
        State::of_spec(&self.installed, self.marks).walk(packet, route, |_, _| true)
    }
}

/// What a step that would repair it says of what is there.
fn describe(step: &Step) -> Vec<String> {
    match step {
        Step::CreateSet { name, .. } => vec![format!("set {name} is missing")],
        Step::RemakeSet { name, .. } => vec![format!("set {name} takes too few elements")],
        Step::DestroySet(name) => vec![format!("set {name} is there and nothing needs it")],
        Step::Edit(edits) => edits.iter().map(describe_edit).collect(),
        Step::Restore(tables) => tables
            .iter()
            .flat_map(|table| {
                let key = |name: &crate::name::ChainName| {
                    chain_text(&ChainKey { family: table.family, table: table.table, name: name.clone() })
                };
                let wrong =
                    table.replace.keys().map(move |name| format!("chain {} is missing or not as installed", key(name)));
                let needless =
                    table.delete.iter().map(move |name| format!("chain {} is there and nothing needs it", key(name)));
                wrong.chain(needless).collect::<Vec<_>>()
            })
            .collect(),
        Step::EnsureJumps(jumps) => jumps
            .iter()
            .map(|jump| {
                let key = ChainKey { family: jump.family, table: jump.table, name: jump.chain.clone() };
                format!("the jump from {:?} to chain {} is missing or not in its place", jump.hook, chain_text(&key))
            })
            .collect(),
        Step::RemoveJump { hook, chain } => {
            vec![format!("a jump from {:?} to chain {chain} is there and nothing needs it", hook.hook)]
        }
    }
}

fn chain_text(key: &ChainKey) -> String {
    format!("{} ({:?}, {:?})", key.name, key.family, key.table)
}

fn describe_edit(edit: &SetEdit) -> String {
    match edit {
        SetEdit::Remove(set, entries) => {
            format!("set {set} has elements too many or with another mark: {}", list(entries.iter()))
        }
        SetEdit::Add(set, entries) => format!("set {set} lacks elements: {}", list(entries.keys())),
    }
}

fn list<'a>(entries: impl ExactSizeIterator<Item = &'a Entry>) -> String {
    let more = entries.len().saturating_sub(SHOWN);
    let named: Vec<String> = entries.take(SHOWN).map(|entry| format!("{entry:?}")).collect();
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::Inspection;
    use crate::facts::{FamilyFacts, MarkBits, NodeFacts};
    use crate::index::Indexes;
    use crate::name::SetName;
    use crate::observed::Observed;
    use minipod_model::IpFamily;
    use netd_policy::intent::Intent;

    fn observed_and_wanted() -> (Observed, crate::Spec) {
        let facts = NodeFacts { v4: Some(FamilyFacts::default()), ..NodeFacts::default() };
        let spec = crate::compile(&Intent::default(), &facts, &Indexes::default()).expect("a spec");
        (Observed::of(&spec), spec)
    }

    #[test]
    fn what_is_as_wanted_has_no_differences() {
        let (observed, wanted) = observed_and_wanted();
        let inspection = Inspection::of(&observed, &wanted, MarkBits::default()).expect("a plan");
        assert!(inspection.differences().is_empty(), "{:?}", inspection.differences());
    }

    #[test]
    fn what_somebody_changed_is_named() {
        let (mut observed, wanted) = observed_and_wanted();
        observed.jumps.clear();
        observed.sets.remove(&SetName::fixed("gate", IpFamily::V4));
        let inspection = Inspection::of(&observed, &wanted, MarkBits::default()).expect("a plan");
        let said = inspection.differences().join("\n");
        assert!(said.contains("set mp-gate4 is missing"), "{said}");
        assert!(
            said.contains("the jump from Forward to chain MP-FORWARD (V4, Mangle) is missing or not in its place"),
            "{said}"
        );
    }
}
