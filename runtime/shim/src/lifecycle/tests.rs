//! Event sequences with a clock of their own.

use std::time::Duration;

use minipod_protocol::shim::{Phase, RestartPolicy};

use super::{Action, Ended, Lifecycle, Moment, NotStarted, Slot};
use crate::testing::{container, sandbox};

fn at(seconds: u64) -> Moment {
    Moment { monotonic: Duration::from_secs(seconds), wall: Duration::from_secs(1_000_000 + seconds) }
}

fn life(policy: RestartPolicy, inits: &[&str], containers: &[&str]) -> Lifecycle {
    let mut sandbox = sandbox();
    sandbox.restart_policy = policy;
    sandbox.init_containers = inits.iter().map(|name| container(name)).collect();
    sandbox.containers = containers.iter().map(|name| container(name)).collect();
    let mut life = Lifecycle::new(&sandbox);
    life.network_ready();
    life
}

fn start(slot: usize, attempt: u32) -> Action {
    Action::Start { slot: Slot(slot), attempt }
}

fn signal(slot: usize, signal: i32) -> Action {
    Action::Signal { slot: Slot(slot), signal }
}

fn code(code: i32) -> Ended {
    Ended { code, signal: None, out_of_memory: false }
}

fn reason(life: &Lifecycle, slot: usize) -> String {
    let (init, containers) = life.states();
    match &init.iter().chain(&containers).nth(slot).expect("container").phase {
        Phase::Waiting(failure) => failure.reason.clone(),
        Phase::Running { .. } => "Running".into(),
        Phase::Terminated(terminated) => terminated.reason.clone(),
    }
}

#[test]
fn nothing_starts_before_the_network_is_there() {
    let mut sandbox = sandbox();
    sandbox.containers = vec![container("a")];
    let mut life = Lifecycle::new(&sandbox);
    assert_eq!(life.due(at(0)), []);
    assert_eq!(life.deadline(), None);
    life.network_ready();
    assert_eq!(life.due(at(0)), [start(0, 0)]);
    assert_eq!(life.due(at(0)), []);
}

#[test]
fn init_containers_run_one_after_the_other_before_the_containers() {
    let mut life = life(RestartPolicy::Never, &["i", "j"], &["a", "b"]);
    for slot in [0, 1] {
        assert_eq!(reason(&life, 2), "PodInitializing");
        assert_eq!(life.due(at(0)), [start(slot, 0)]);
        life.started(Slot(slot), 7, at(0));
        assert_eq!(life.due(at(1)), []);
        life.exited(Slot(slot), code(0), at(1));
    }
    assert_eq!(life.due(at(1)), [start(2, 0), start(3, 0)]);
}

#[test]
fn a_failed_init_container_is_restarted_or_fails_the_pod_by_the_policy() {
    for policy in [RestartPolicy::Always, RestartPolicy::OnFailure] {
        let mut life = life(policy, &["i"], &["a"]);
        assert_eq!(life.due(at(0)), [start(0, 0)]);
        life.started(Slot(0), 7, at(0));
        life.exited(Slot(0), code(3), at(1));
        assert_eq!(life.due(at(1)), [start(0, 1)]);
    }
    let mut life = life(RestartPolicy::Never, &["i"], &["a"]);
    life.due(at(0));
    life.started(Slot(0), 7, at(0));
    life.exited(Slot(0), code(3), at(1));
    assert_eq!(life.due(at(1)), [Action::Finish]);
    assert_eq!((reason(&life, 0), reason(&life, 1)), ("Error".into(), "PodInitializing".into()));
}

#[test]
fn a_crashing_container_backs_off() {
    let mut life = life(RestartPolicy::Always, &[], &["a"]);
    assert_eq!(life.due(at(0)), [start(0, 0)]);
    life.started(Slot(0), 7, at(0));
    life.exited(Slot(0), code(1), at(1));
    assert_eq!(life.due(at(1)), [start(0, 1)], "the first restart comes at once");
    life.started(Slot(0), 8, at(1));
    life.exited(Slot(0), code(1), at(2));
    assert_eq!(reason(&life, 0), "CrashLoopBackOff");
    let (_, states) = life.states();
    assert_eq!((states[0].restarts, states[0].last.as_ref().map(|t| t.exit_code)), (1, Some(1)));
    assert_eq!(life.deadline(), Some(Duration::from_secs(12)));
    assert_eq!(life.due(at(11)), []);
    assert_eq!(life.due(at(12)), [start(0, 2)]);
}

#[test]
fn a_pod_ends_when_its_containers_have_ended_for_good() {
    let mut life = life(RestartPolicy::OnFailure, &[], &["a", "b"]);
    life.due(at(0));
    life.started(Slot(0), 7, at(0));
    life.started(Slot(1), 8, at(0));
    life.exited(Slot(0), code(0), at(1));
    assert_eq!(life.due(at(1)), []);
    life.exited(Slot(1), code(0), at(2));
    assert_eq!(life.due(at(2)), [Action::Finish]);
    assert_eq!(life.due(at(3)), []);
}

#[test]
fn a_stop_signals_then_kills_and_restarts_nothing() {
    let mut life = life(RestartPolicy::Always, &[], &["a", "b"]);
    life.due(at(0));
    life.started(Slot(0), 7, at(0));
    life.started(Slot(1), 8, at(0));
    assert_eq!(life.stop(Duration::from_secs(30), at(1)), [signal(0, 15), signal(1, 15)]);
    life.exited(Slot(0), code(0), at(2));
    assert_eq!(life.due(at(2)), []);
    assert_eq!(life.stop(Duration::from_secs(5), at(3)), [], "a second stop only shortens the grace");
    assert_eq!(life.deadline(), Some(Duration::from_secs(8)));
    assert_eq!(life.stop(Duration::from_secs(50), at(4)), []);
    assert_eq!(life.due(at(8)), [signal(1, 9)]);
    life.exited(Slot(1), Ended { code: 137, signal: Some(9), out_of_memory: false }, at(8));
    assert_eq!(life.due(at(8)), [Action::Finish]);
}

#[test]
fn a_stop_without_grace_kills_at_once_and_a_stop_before_the_start_finishes() {
    let mut running = life(RestartPolicy::Always, &[], &["a"]);
    running.due(at(0));
    running.started(Slot(0), 7, at(0));
    assert_eq!(running.stop(Duration::ZERO, at(1)), [signal(0, 9)]);
    let mut waiting = life(RestartPolicy::Always, &["i"], &["a"]);
    assert_eq!(waiting.stop(Duration::from_secs(30), at(1)), []);
    assert_eq!(waiting.due(at(1)), [Action::Finish]);
}

#[test]
fn a_killed_container_is_restarted_by_the_policy() {
    let mut life = life(RestartPolicy::Always, &[], &["a"]);
    assert_eq!(life.kill(Slot(0), Duration::ZERO, String::new(), at(0)), None);
    life.due(at(0));
    life.started(Slot(0), 7, at(0));
    assert_eq!(life.kill(Slot(0), Duration::from_secs(3), "probe".into(), at(1)), Some(signal(0, 15)));
    assert_eq!(life.due(at(4)), [signal(0, 9)]);
    life.exited(Slot(0), Ended { code: 137, signal: Some(9), out_of_memory: false }, at(4));
    assert_eq!(life.due(at(4)), [start(0, 1)]);
    assert_eq!(life.states().1[0].last.as_ref().map(|t| t.message.as_str()), Some("probe"));
}

#[test]
fn what_cannot_be_made_is_tried_again_and_what_cannot_be_executed_counts_as_an_exit() {
    let mut life = life(RestartPolicy::Never, &[], &["a"]);
    life.due(at(0));
    life.not_started(Slot(0), NotStarted::Create("no space".into()), at(0));
    assert_eq!(reason(&life, 0), "CreateContainerError");
    assert_eq!(life.due(at(0)), [start(0, 0)]);
    life.not_started(Slot(0), NotStarted::Create("no space".into()), at(0));
    assert_eq!(life.deadline(), Some(Duration::from_secs(10)));
    assert_eq!(life.due(at(10)), [start(0, 0)]);
    life.not_started(Slot(0), NotStarted::Start("no such file".into()), at(10));
    assert_eq!(reason(&life, 0), "StartError");
    assert_eq!(life.due(at(10)), [Action::Finish]);
}

#[test]
fn memory_is_named_as_the_cause_only_of_a_failure() {
    for (ended, expected) in [
        (Ended { code: 137, signal: Some(9), out_of_memory: true }, "OOMKilled"),
        (Ended { code: 0, signal: None, out_of_memory: true }, "Completed"),
        (Ended { code: 137, signal: Some(9), out_of_memory: false }, "Error"),
    ] {
        let mut life = life(RestartPolicy::Never, &[], &["a"]);
        life.due(at(0));
        life.started(Slot(0), 7, at(0));
        life.exited(Slot(0), ended, at(1));
        assert_eq!(reason(&life, 0), expected);
    }
}

#[test]
fn only_a_running_container_is_found() {
    let mut life = life(RestartPolicy::Never, &[], &["a"]);
    assert_eq!(life.running("b").expect_err("unknown").reason, "NotFound");
    assert_eq!(life.running("a").expect_err("not started").reason, "NotRunning");
    life.due(at(0));
    life.started(Slot(0), 7, at(0));
    assert_eq!(life.running("a"), Ok(Slot(0)));
}
