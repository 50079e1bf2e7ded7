//! Any path to an intent gives the same state, and every prefix of a plan passes only what the state before or the state after passes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::random::{Choice, LOCAL, choice, intent, packets, service_address, signatures, spec_of, walk};
use crate::sample::{add_pod, facts, facts_of_a_start, facts_with_vxlan, link};
use minipod_model::IpFamily;
use netd_dataplane::diff::diff;
use netd_dataplane::fake::FakeKernel;
use netd_dataplane::interpret::{Packet, State};
use netd_dataplane::kernel::execute_step;
use netd_dataplane::plan::{Plan, SetEdit, Step};
use netd_dataplane::spec::Table;
use netd_dataplane::{Dataplane, DenyAction, Kernel, MarkBits, NodeFacts, Spec, compile};
use netd_policy::Transport;
use netd_policy::intent::{Allowed, Intent};
use proptest::prelude::*;

proptest! {
    #![proptest_config(crate::sample::cases(64))]

    #[test]
    fn any_path_to_an_intent_gives_the_same_state(
        signatures in signatures(),
        first in choice(),
        changes in proptest::collection::vec((choice(), 0..4_u8), 1..6),
    ) {
        let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
        let mut now = first;
        dataplane.apply(&intent(&signatures, &now), &facts()).expect("applies");
        for (next, what) in changes {
            // Mostly one thing changes at a time.
            match what {
                0 => now.members = next.members,
                1 => now.pods[0] = next.pods[0],
                2 => now.pairs = next.pairs,
                _ => now = next,
            }
            let wanted = intent(&signatures, &now);
            dataplane.apply(&wanted, &facts()).expect("applies");
            let spec = spec_of(&wanted);
            let there = dataplane.kernel().observe().expect("observes");
            prop_assert_eq!(there, netd_dataplane::observed::Observed::of(&spec));
            prop_assert_eq!(dataplane.spec(), Some(&spec));
            let mut restarted = Dataplane::adopt(dataplane.kernel().clone()).expect("adopts");
            let again = restarted.apply(&wanted, &facts()).expect("applies");
            prop_assert!(again.is_empty(), "after a restart there is nothing to change: {again:?}");
        }
    }
}

#[test]
fn pods_that_come_and_go_run_no_program() {
    let mut now = crate::sample::rich();
    let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
    dataplane.apply(&now, &facts()).expect("applies");
    let programs = dataplane.kernel().programs_run;
    add_pod(&mut now, 9, "web");
    crate::sample::group(&mut now, "foo", &[2, 3, 9], &[]);
    let changes = dataplane.apply(&now, &facts()).expect("applies");
    // In each family: the gate, the signature, the group.
    assert_eq!(changes.elements, 6);
    add_pod(&mut now, 9, "strict");
    let changes = dataplane.apply(&now, &facts()).expect("applies");
    assert_eq!(changes.elements, 2, "a move is one step");
    Arc::make_mut(&mut now.endpoints).remove(&link("p9"));
    dataplane.apply(&now, &facts()).expect("applies");
    assert_eq!(dataplane.kernel().programs_run, programs);
}

/// A plan as single changes: each element by itself.
fn single_changes(plan: &Plan) -> Vec<Step> {
    let mut steps = Vec::new();
    for step in plan.all() {
        match step {
            Step::Edit(edits) => {
                for edit in edits {
                    let singles: Vec<SetEdit> = match edit {
                        SetEdit::Remove(set, entries) => {
                            entries.iter().map(|entry| SetEdit::Remove(set.clone(), vec![entry.clone()])).collect()
                        }
                        SetEdit::Add(set, entries) => entries
                            .iter()
                            .map(|(entry, mark)| SetEdit::Add(set.clone(), BTreeMap::from([(entry.clone(), *mark)])))
                            .collect(),
                    };
                    steps.extend(singles.into_iter().map(|edit| Step::Edit(vec![edit])));
                }
            }
            Step::EnsureJumps(jumps) => {
                steps.extend(jumps.iter().map(|jump| Step::EnsureJumps(vec![jump.clone()])));
            }
            Step::Restore(tables) => {
                steps.extend(tables.iter().map(|table| Step::Restore(vec![table.clone()])));
            }
            other => steps.push(other.clone()),
        }
    }
    steps
}

/// What somebody else's rules in the filter table do.
#[derive(Debug, Clone, Copy)]
enum Others {
    /// nothing
    Absent,
    /// accept everything before ours
    Accept,
}

fn state_of(kernel: &FakeKernel, others: Others) -> State<'_> {
    let state = State::of_fake(kernel, MarkBits::default());
    match others {
        Others::Absent => state,
        Others::Accept => state.accepting_in(Table::Filter),
    }
}

/// Where the packet gets through to, after translation.
fn arrival(state: &State<'_>, packet: &Packet) -> Option<(IpAddr, Option<u16>)> {
    let outcome = walk(state, packet);
    // What is still for a cluster IP is refused by its route too, whoever accepts it in filter.
    let is_service =
        [20, 21].map(|number| service_address(number, IpFamily::of(packet.source))).contains(&outcome.destination.0);
    (outcome.arrives() && !is_service).then_some(outcome.destination)
}

/// Where each packet gets through to.
fn passing(state: &State<'_>, packets: &[Packet]) -> Vec<Option<(IpAddr, Option<u16>)>> {
    packets.iter().map(|packet| arrival(state, packet)).collect()
}

/// Whether the packet gets to `destination` in a state, translated or straight.
fn gets_to(state: &State<'_>, packet: &Packet, destination: (IpAddr, Option<u16>)) -> bool {
    let straight = Packet {
        destination: destination.0,
        transport: match (packet.transport, destination.1) {
            (Transport::Port(protocol, _), Some(port)) => Transport::Port(protocol, port),
            (transport, _) => transport,
        },
        ..packet.clone()
    };
    [packet, &straight].into_iter().any(|packet| arrival(state, packet) == Some(destination))
}

fn plan_to(kernel: &mut FakeKernel, intent: &Intent, facts: &NodeFacts) -> (Plan, Spec) {
    let observed = kernel.observe().expect("observes");
    let spec = compile(intent, facts, &observed.indexes(facts.marks)).expect("compiles");
    (diff(&observed, &spec).expect("a plan"), spec)
}

/// Applies a plan and checks every state on the way.
fn check_prefixes(kernel: &mut FakeKernel, plan: &Plan, strict: bool, others: Others) -> Result<(), TestCaseError> {
    let mut packets = packets();
    packets.extend(crate::vxlan::packets());
    let old = kernel.clone();
    let mut new = kernel.clone();
    for step in plan.all() {
        execute_step(&mut new, step).expect("the plan can be applied");
    }
    let (old_state, new_state) = (state_of(&old, others), state_of(&new, others));
    let (old_passing, new_passing) = (passing(&old_state, &packets), passing(&new_state, &packets));
    for (number, step) in single_changes(plan).iter().enumerate() {
        execute_step(kernel, step).expect("the plan can be applied");
        let now = passing(&state_of(kernel, others), &packets);
        for (index, packet) in packets.iter().enumerate() {
            if let Some(destination) = now[index] {
                let was = gets_to(&old_state, packet, destination) || gets_to(&new_state, packet, destination);
                prop_assert!(was, "step {number} {step:?} passes {packet:?} to {destination:?}");
            }
            let both = old_passing[index].is_some() && old_passing[index] == new_passing[index];
            if strict && both {
                prop_assert!(now[index].is_some(), "step {number} {step:?} stops {packet:?}");
            }
        }
    }
    prop_assert_eq!(kernel.observe().expect("observes"), new.observe().expect("observes"));
    Ok(())
}

#[test]
fn no_step_opens_a_gap_where_vxlan_comes_or_goes() {
    let intent = crate::sample::rich();
    let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
    dataplane.apply(&intent, &facts()).expect("applies");
    let mut kernel = dataplane.kernel().clone();
    for facts in [facts_with_vxlan(), facts()] {
        let (plan, _) = plan_to(&mut kernel, &intent, &facts);
        assert!(!plan.is_empty());
        check_prefixes(&mut kernel, &plan, true, Others::Absent).expect("no gap");
    }
}

#[test]
fn guards_come_first_and_go_last() {
    let rejects = NodeFacts { deny_action: DenyAction::Reject, ..facts() };
    let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
    dataplane.apply(&crate::sample::rich(), &facts()).expect("applies");
    let mut kernel = dataplane.kernel().clone();

    let (plan, _) = plan_to(&mut kernel, &crate::sample::rich(), &rejects);
    let writes: Vec<&Step> =
        plan.all().filter(|step| matches!(step, Step::Restore(_) | Step::EnsureJumps(_))).collect();
    let guards = writes.iter().take_while(|step| step.is_of_guards()).count();
    assert!(guards > 0 && guards < writes.len(), "{writes:?}");
    check_prefixes(&mut kernel, &plan, true, Others::Accept).expect("no gap");

    // With everybody under another signature: chains stay behind that mark packets, until they are deleted.
    let mut other = crate::sample::rich();
    for signature in Arc::make_mut(&mut other.signatures).values_mut() {
        Arc::make_mut(signature).egress = Some(Allowed::default());
    }
    let (plan, _) = plan_to(&mut kernel, &other, &facts());
    let last: Vec<&Step> = plan.all().skip_while(|step| !step.is_of_guards()).collect();
    assert!(!last.is_empty() && last.iter().all(|step| step.is_of_guards()), "{last:?}");
    check_prefixes(&mut kernel, &plan, false, Others::Accept).expect("no gap");
}

proptest! {
    #![proptest_config(crate::sample::cases(24))]

    #[test]
    fn no_step_passes_what_neither_the_old_nor_the_new_state_allows(
        signatures in signatures(),
        choices in proptest::collection::vec(choice(), 3),
        starts in proptest::collection::vec(facts_of_a_start(), 3),
        others in prop_oneof![Just(Others::Absent), Just(Others::Accept)],
        interrupted_at in 0.0..1.0_f64,
    ) {
        let intents: Vec<Intent> = choices.iter().map(|choice| intent(&signatures, choice)).collect();
        let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
        dataplane.apply(&intents[0], &starts[0]).expect("applies");
        let mut kernel = dataplane.kernel().clone();

        let (plan, _) = plan_to(&mut kernel, &intents[1], &starts[1]);
        let mut interrupted = kernel.clone();
        check_prefixes(&mut kernel, &plan, false, others)?;

        // A change that was interrupted anywhere, and then another.
        let steps = single_changes(&plan);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
        let done = (steps.len() as f64 * interrupted_at) as usize;
        for step in &steps[..done] {
            execute_step(&mut interrupted, step).expect("the plan can be applied");
        }
        let (plan, spec) = plan_to(&mut interrupted, &intents[2], &starts[2]);
        check_prefixes(&mut interrupted, &plan, false, others)?;
        prop_assert_eq!(interrupted.observe().expect("observes"), netd_dataplane::observed::Observed::of(&spec));
    }

    #[test]
    fn a_pod_that_changes_its_labels_keeps_what_both_allow(
        signatures in signatures(),
        choice in choice(),
        pod in 1..=6_u8,
        signature in 0..4_usize,
        member_of in proptest::collection::vec(any::<bool>(), 4),
        is_named: bool,
        facts in facts_of_a_start(),
    ) {
        let mut next = choice.clone();
        if let Some(Some(there)) = next.pods.get_mut(usize::from(pod) - 1) {
            *there = signature;
        }
        for (members, is_member) in next.members.iter_mut().zip(member_of) {
            if is_member { members.insert(pod); } else { members.remove(&pod); }
        }
        if pod <= LOCAL {
            if is_named { next.pairs.insert(pod); } else { next.pairs.remove(&pod); }
        }
        // As a node that has both signatures already: then nothing but elements changes.
        let both = |now: &Choice, other: &Choice| {
            let mut intent = intent(&signatures, now);
            let other = crate::random::intent(&signatures, other);
            Arc::make_mut(&mut intent.signatures).extend(other.signatures.iter().map(|(id, s)| (id.clone(), Arc::clone(s))));
            intent
        };
        let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
        dataplane.apply(&both(&choice, &next), &facts).expect("applies");
        let mut kernel = dataplane.kernel().clone();
        let (plan, _) = plan_to(&mut kernel, &both(&next, &choice), &facts);
        prop_assert!(plan.is_elements_only(), "{plan:?}");
        check_prefixes(&mut kernel, &plan, true, Others::Absent)?;
    }

    #[test]
    fn pods_that_move_between_signatures_keep_what_both_allow(
        signatures in signatures(),
        choice in choice(),
        moved in proptest::collection::vec(0..4_usize, LOCAL as usize),
        facts in facts_of_a_start(),
    ) {
        let pods = choice.pods.iter().zip(moved).map(|(pod, to)| pod.map(|_| to)).collect();
        let next = Choice { pods, ..choice.clone() };
        let mut dataplane = Dataplane::adopt(FakeKernel::default()).expect("nothing is there");
        dataplane.apply(&intent(&signatures, &choice), &facts).expect("applies");
        let mut kernel = dataplane.kernel().clone();
        let (plan, _) = plan_to(&mut kernel, &intent(&signatures, &next), &facts);
        check_prefixes(&mut kernel, &plan, true, Others::Absent)?;
    }
}
