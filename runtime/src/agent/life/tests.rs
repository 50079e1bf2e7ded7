//! Event sequences with a clock of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use minipod_protocol::shim::{ContainerState, Failure, Phase, RestartPolicy, State, Terminated};
use serde_json::json;

use super::{Action, Event, ImageView, Life, Want, want};

const END: Want = Want::End { grace_seconds: 30 };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn wall() -> Timestamp {
    Timestamp::from_second(1_000_000).expect("a time")
}

fn pod(policy: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {"restartPolicy": policy, "containers": [{"name": "a", "image": "x"}]},
    }))
    .expect("a pod")
}

fn ready(life: &mut Life, container: &str, now: Duration) {
    let image = ImageView { name: Some("x".into()), id: Some("sha256:1".into()), failure: None };
    life.apply(Event::ImageReady { container: container.into(), image }, now, wall());
}

fn container(phase: Phase, restarts: u32) -> ContainerState {
    ContainerState { name: "a".into(), phase, last: None, restarts }
}

fn running() -> Phase {
    Phase::Running { pid: 7, started_at: 1_000 }
}

fn exited(code: i32) -> Phase {
    Phase::Terminated(Terminated {
        reason: if code == 0 { "Completed" } else { "Error" }.into(),
        message: String::new(),
        exit_code: code,
        signal: None,
        started_at: 1_000,
        finished_at: 2_000,
    })
}

fn state(phase: Phase) -> State {
    State {
        uid: "u1".into(),
        pid: 6,
        start_time: 1,
        network: None,
        failure: None,
        init_containers: Vec::new(),
        containers: vec![container(phase, 0)],
        stopping: false,
        network_released: false,
        finished: false,
    }
}

fn finished(phase: Phase) -> State {
    State { finished: true, network_released: true, ..state(phase) }
}

/// A pod whose shim runs its container.
fn up(policy: &str) -> Life {
    let mut life = Life::new(&pod(policy), 0, wall());
    assert_eq!(life.decide(Want::Run, true, at(0)), [Action::EnsureImage { container: "a".into() }]);
    assert_eq!(life.decide(Want::Run, true, at(0)), [], "asked once");
    ready(&mut life, "a", at(1));
    assert_eq!(life.decide(Want::Run, true, at(1)), [Action::Start]);
    assert_eq!(life.decide(Want::Run, true, at(1)), []);
    life.apply(Event::Started, at(2), wall());
    life.apply(Event::State(Box::new(state(running()))), at(2), wall());
    assert_eq!(life.decide(Want::Run, true, at(2)), []);
    assert_eq!(life.deadline(Want::Run), None, "nothing is due while it runs");
    life
}

fn ends(life: &mut Life, last: State, now: Duration) {
    life.apply(Event::ShimEnded(Some(Box::new(last))), now, wall());
}

fn clean(life: &mut Life, want: Want, now: Duration) {
    assert_eq!(life.decide(want, false, now), [Action::Clean]);
    assert_eq!(life.decide(want, false, now), []);
    life.apply(Event::Cleaned, now, wall());
}

#[test]
fn the_object_says_what_is_wanted() {
    assert_eq!(want(None), Want::Vanished);
    let mut pod = pod("Always");
    assert_eq!(want(Some(&pod)), Want::Run);
    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(wall()));
    assert_eq!(want(Some(&pod)), Want::End { grace_seconds: 30 });
    pod.metadata.deletion_grace_period_seconds = Some(0);
    assert_eq!(want(Some(&pod)), Want::End { grace_seconds: 0 });
}

#[test]
fn a_deleted_pod_is_stopped_cleaned_deleted_and_forgotten() {
    let mut life = up("Always");
    assert_eq!(life.decide(END, true, at(3)), [Action::Stop { grace_seconds: 30 }]);
    assert_eq!(life.decide(END, true, at(3)), []);
    assert_eq!(life.decide(Want::End { grace_seconds: 5 }, true, at(4)), [Action::Stop { grace_seconds: 5 }]);
    assert_eq!(life.decide(END, true, at(4)), [], "a longer grace changes nothing");
    ends(&mut life, State { stopping: true, ..finished(exited(0)) }, at(5));
    clean(&mut life, END, at(5));
    assert_eq!(life.decide(END, false, at(5)), [], "its last status is written first");
    assert_eq!(life.decide(END, true, at(5)), [Action::DeleteObject]);
    life.apply(Event::DeleteFailed, at(5), wall());
    assert_eq!(life.decide(END, true, at(5)), []);
    let again = life.deadline(END).expect("tried again");
    assert_eq!(life.decide(END, true, again), [Action::DeleteObject]);
    life.apply(Event::Deleted, again, wall());
    assert_eq!(life.decide(END, true, again), [], "its files went before its object");
    assert!(life.is_gone());
}

#[test]
fn a_stop_that_the_shim_did_not_take_is_repeated() {
    let mut life = up("Always");
    assert_eq!(life.decide(END, true, at(3)), [Action::Stop { grace_seconds: 30 }]);
    life.stop_failed(at(3));
    assert_eq!(life.decide(END, true, at(3)), []);
    let again = life.deadline(END).expect("repeated");
    assert_eq!(life.decide(END, true, again), [Action::Stop { grace_seconds: 30 }]);
}

#[test]
fn a_shim_that_does_not_carry_out_a_stop_is_killed() {
    let mut life = up("Always");
    assert_eq!(life.decide(END, true, at(3)), [Action::Stop { grace_seconds: 30 }]);
    assert_eq!(life.deadline(END), Some(at(43)));
    assert_eq!(life.decide(Want::End { grace_seconds: 2 }, true, at(4)), [Action::Stop { grace_seconds: 2 }]);
    assert_eq!(life.deadline(END), Some(at(16)), "the shorter grace counts");
    life.stop_failed(at(14));
    assert_eq!(life.decide(END, true, at(15)), [Action::Stop { grace_seconds: 30 }]);
    assert_eq!(life.deadline(END), Some(at(16)), "a repeated stop gives no more time");
    assert_eq!(life.decide(END, true, at(16)), [Action::Kill]);
    assert_eq!(life.decide(END, true, at(17)), []);
    assert_eq!(life.decide(END, true, at(26)), [Action::Kill], "as long as it is there");
    life.apply(Event::ShimEnded(None), at(27), wall());
    assert_eq!(life.decide(END, true, at(27)), [Action::Clean]);
}

#[test]
fn a_shim_that_hangs_is_killed_also_when_the_object_vanished() {
    let mut life = up("Always");
    assert_eq!(life.decide(Want::Vanished, true, at(3)), [Action::Stop { grace_seconds: 1 }]);
    assert_eq!(life.deadline(Want::Vanished), Some(at(14)));
    assert_eq!(life.decide(Want::Vanished, true, at(14)), [Action::Kill]);
}

#[test]
fn a_pod_deleted_before_its_start_starts_nothing() {
    let mut life = Life::new(&pod("Always"), 0, wall());
    let _ = life.decide(Want::Run, true, at(0));
    clean(&mut life, END, at(1));
    assert_eq!(life.decide(END, true, at(1)), [Action::DeleteObject]);
    ready(&mut life, "a", at(2));
    assert_eq!(life.decide(END, true, at(2)), []);
}

#[test]
fn a_pod_deleted_while_its_shim_starts_is_stopped_once_it_runs() {
    let mut life = Life::new(&pod("Always"), 0, wall());
    let _ = life.decide(Want::Run, true, at(0));
    ready(&mut life, "a", at(0));
    assert_eq!(life.decide(Want::Run, true, at(0)), [Action::Start]);
    assert_eq!(life.decide(END, true, at(1)), []);
    life.apply(Event::Started, at(2), wall());
    assert_eq!(life.decide(END, true, at(2)), [Action::Stop { grace_seconds: 30 }]);
}

#[test]
fn a_pod_whose_object_vanished_is_stopped_and_removed() {
    let mut life = up("Always");
    assert_eq!(life.decide(Want::Vanished, true, at(3)), [Action::Stop { grace_seconds: 1 }]);
    ends(&mut life, State { stopping: true, ..finished(exited(137)) }, at(4));
    clean(&mut life, Want::Vanished, at(4));
    assert_eq!(life.decide(Want::Vanished, true, at(4)), [Action::Remove]);
    assert!(life.is_gone());
}

#[test]
fn a_finished_pod_is_forgotten_once_the_api_knows_and_kept_until_it_is_deleted() {
    for (policy, code) in [("Never", 1), ("Never", 0), ("OnFailure", 0)] {
        let mut life = up(policy);
        ends(&mut life, finished(exited(code)), at(3));
        assert!(life.has_ended(Want::Run));
        clean(&mut life, Want::Run, at(3));
        assert_eq!(life.decide(Want::Run, false, at(3)), []);
        assert_eq!(life.decide(Want::Run, true, at(3)), [Action::Forget]);
        assert_eq!(life.decide(Want::Run, true, at(3)), []);
        assert_eq!(life.deadline(Want::Run), None);
        assert_eq!(life.decide(END, true, at(9)), [Action::DeleteObject]);
    }
}

#[test]
fn a_lost_shim_starts_again_by_the_policy_and_counts_as_a_restart() {
    for policy in ["Always", "OnFailure"] {
        let mut life = up(policy);
        let past = State { containers: vec![container(running(), 2)], ..state(running()) };
        ends(&mut life, past, at(3));
        assert!(life.is_lost() && !life.has_ended(Want::Run));
        clean(&mut life, Want::Run, at(3));
        let actions = life.decide(Want::Run, true, at(3));
        assert_eq!(actions, [Action::EnsureImage { container: "a".into() }], "at once the first time");
        assert_eq!(life.run(), 1);
        let past = &life.past()["a"];
        assert_eq!((past.restarts, past.last.as_ref().map(|end| end.exit_code)), (3, Some(137)));
    }
    let mut life = up("Never");
    ends(&mut life, state(running()), at(3));
    assert!(life.has_ended(Want::Run));
    clean(&mut life, Want::Run, at(3));
    assert_eq!(life.decide(Want::Run, true, at(3)), [Action::Forget]);
}

#[test]
fn a_pod_whose_shims_keep_dying_waits_longer_and_longer() {
    let mut life = up("Always");
    let mut now = at(10);
    let mut waits = Vec::new();
    for _ in 0..4 {
        ends(&mut life, state(running()), now);
        clean(&mut life, Want::Run, now);
        let _ = life.decide(Want::Run, true, now);
        let begin = life.deadline(Want::Run).unwrap_or(now);
        waits.push(begin.saturating_sub(now).as_secs());
        now = begin;
        let _ = life.decide(Want::Run, true, now);
        ready(&mut life, "a", now);
        assert_eq!(life.decide(Want::Run, true, now), [Action::Start]);
        life.apply(Event::Started, now, wall());
    }
    assert_eq!(waits, [0, 10, 20, 40]);
}

#[test]
fn a_pod_that_was_stopped_from_outside_runs_again_when_it_is_to_run() {
    let mut life = up("Always");
    ends(&mut life, State { stopping: true, ..finished(exited(0)) }, at(3));
    assert!(!life.has_ended(Want::Run));
    clean(&mut life, Want::Run, at(3));
    assert_eq!(life.decide(Want::Run, true, at(3)), [Action::EnsureImage { container: "a".into() }]);
}

#[test]
fn a_sandbox_that_could_not_be_made_is_made_again_whatever_the_policy() {
    let mut life = Life::new(&pod("Never"), 0, wall());
    let _ = life.decide(Want::Run, true, at(0));
    ready(&mut life, "a", at(0));
    let _ = life.decide(Want::Run, true, at(0));
    life.apply(Event::Started, at(0), wall());
    let failure = Failure { reason: "FailedCreatePodSandBox".into(), message: "no address".into() };
    let waiting = Phase::Waiting(Failure { reason: "ContainerCreating".into(), message: String::new() });
    ends(&mut life, State { failure: Some(failure.clone()), ..finished(waiting) }, at(1));
    clean(&mut life, Want::Run, at(1));
    assert_eq!(life.decide(Want::Run, true, at(1)), []);
    assert_eq!(life.failure(), Some((&failure, None)));
    let again = life.deadline(Want::Run).expect("tried again");
    assert_eq!(life.decide(Want::Run, true, again), [Action::EnsureImage { container: "a".into() }]);
}

#[test]
fn a_failed_start_is_tried_again_without_asking_for_the_image() {
    let mut life = Life::new(&pod("Always"), 0, wall());
    let _ = life.decide(Want::Run, true, at(0));
    ready(&mut life, "a", at(0));
    let _ = life.decide(Want::Run, true, at(0));
    let failure = Failure { reason: "CreateContainerConfigError".into(), message: "no".into() };
    life.apply(Event::StartFailed { failure, container: Some("a".into()) }, at(1), wall());
    assert_eq!(life.decide(Want::Run, true, at(1)), []);
    let again = life.deadline(Want::Run).expect("tried again");
    assert!(again > at(1));
    assert_eq!(life.decide(Want::Run, true, again), [Action::Start]);
}

#[test]
fn a_missing_image_backs_off() {
    let mut life = Life::new(&pod("Always"), 0, wall());
    let failure = Failure { reason: "ErrImagePull".into(), message: "no route".into() };
    let mut now = at(0);
    let mut seen = Vec::new();
    for _ in 0..3 {
        assert_eq!(life.decide(Want::Run, true, now), [Action::EnsureImage { container: "a".into() }]);
        assert_eq!(life.deadline(Want::Run), None, "nothing is due while it is fetched");
        life.apply(Event::ImageFailed { container: "a".into(), failure: failure.clone() }, now, wall());
        assert_eq!(life.decide(Want::Run, true, now), []);
        let again = life.deadline(Want::Run).expect("tried again");
        let reason = life.image_views()["a"].failure.as_ref().map(|failure| failure.reason.clone());
        seen.push((again.saturating_sub(now).as_secs(), reason.unwrap_or_default()));
        now = again;
    }
    let expected = [(10, "ErrImagePull"), (20, "ImagePullBackOff"), (40, "ImagePullBackOff")];
    assert_eq!(seen, expected.map(|(wait, reason)| (wait, reason.to_owned())));
}

#[test]
fn an_adopted_pod_goes_on_and_one_whose_shim_is_gone_is_cleaned() {
    let adopted = || Life::adopted(&["a".into()], RestartPolicy::Always, 1, BTreeMap::new());
    let mut life = adopted();
    assert_eq!(life.decide(Want::Run, true, at(0)), []);
    life.apply(Event::Started, at(0), wall());
    life.apply(Event::State(Box::new(state(running()))), at(0), wall());
    assert_eq!(life.decide(Want::Run, true, at(0)), []);
    assert_eq!(life.decide(Want::Vanished, true, at(0)), [Action::Stop { grace_seconds: 1 }]);

    let mut life = adopted();
    ends(&mut life, finished(exited(0)), at(0));
    clean(&mut life, END, at(0));
    assert_eq!(life.decide(END, true, at(0)), [Action::DeleteObject], "finished while no daemon ran");

    let mut life = adopted();
    life.apply(Event::ShimEnded(None), at(0), wall());
    clean(&mut life, Want::Run, at(0));
    assert_eq!(life.decide(Want::Run, true, at(0)), [Action::EnsureImage { container: "a".into() }]);
    assert_eq!(life.run(), 2);
}

#[test]
fn after_a_reboot_pods_start_again_by_their_policy() {
    let with_status = |policy: &str| {
        let mut pod = pod(policy);
        pod.status = serde_json::from_value(json!({"phase": "Running", "containerStatuses": [{
            "name": "a", "ready": true, "restartCount": 4, "image": "x", "imageID": "", "containerID": "minipod://1",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }]}))
        .expect("a status");
        pod
    };
    let mut life = Life::new(&with_status("Always"), 0, wall());
    assert_eq!(life.decide(Want::Run, true, at(0)), [Action::EnsureImage { container: "a".into() }]);
    assert_eq!((life.run(), life.past()["a"].restarts), (1, 5));
    let mut life = Life::new(&with_status("Never"), 0, wall());
    assert!(life.has_ended(Want::Run));
    assert_eq!(life.decide(Want::Run, true, at(0)), []);
    assert_eq!(life.decide(END, true, at(0)), [Action::DeleteObject]);
}

#[test]
fn a_clean_up_that_fails_is_tried_again() {
    let mut life = up("Never");
    ends(&mut life, finished(exited(0)), at(3));
    assert_eq!(life.decide(Want::Run, true, at(3)), [Action::Clean]);
    life.apply(Event::CleanFailed, at(3), wall());
    assert_eq!(life.decide(Want::Run, true, at(3)), []);
    let again = life.deadline(Want::Run).expect("tried again");
    assert_eq!(life.decide(Want::Run, true, again), [Action::Clean]);
}

fn named(name: &str, phase: Phase) -> ContainerState {
    ContainerState { name: name.into(), ..container(phase, 0) }
}

fn two_containers(policy: &str) -> Life {
    let mut pod = pod(policy);
    pod.spec.as_mut().expect("a spec").containers.push(serde_json::from_value(json!({"name": "b"})).expect("one"));
    let mut life = Life::new(&pod, 0, wall());
    let _ = life.decide(Want::Run, true, at(0));
    ready(&mut life, "a", at(0));
    ready(&mut life, "b", at(0));
    assert_eq!(life.decide(Want::Run, true, at(0)), [Action::Start]);
    life.apply(Event::Started, at(0), wall());
    life
}

/// The shim is killed when container `a` had ended well and `b` was running.
fn lost_halfway(life: &mut Life) {
    let containers = vec![named("a", exited(0)), named("b", running())];
    ends(life, State { containers, ..state(running()) }, at(1));
    clean(life, Want::Run, at(1));
}

#[test]
fn after_a_lost_shim_a_container_that_succeeded_is_not_run_again_under_on_failure() {
    let image = |name: &str| Action::EnsureImage { container: name.into() };
    let mut life = two_containers("OnFailure");
    lost_halfway(&mut life);
    assert_eq!(life.decide(Want::Run, true, at(1)), [image("b")]);
    ready(&mut life, "b", at(2));
    assert_eq!(life.decide(Want::Run, true, at(2)), [Action::Start]);
    assert_eq!((life.past()["a"].done, life.past()["b"].done), (true, false));
    life.apply(Event::Started, at(2), wall());
    // The next shim was told of `b` alone, and is lost as well, right after `b` has succeeded.
    ends(&mut life, State { containers: vec![named("b", exited(0))], ..state(running()) }, at(3));
    assert!(life.has_ended(Want::Run), "there is nothing left to run");

    let mut life = two_containers("Always");
    lost_halfway(&mut life);
    assert_eq!(life.decide(Want::Run, true, at(1)), [image("a"), image("b")]);
}

#[test]
fn after_a_reboot_a_container_that_succeeded_is_not_run_again_under_on_failure() {
    let status = |name: &str, state: serde_json::Value| {
        json!({"name": name, "ready": false, "restartCount": 0, "image": "x", "imageID": "", "containerID": "minipod://1",
            "state": state})
    };
    let succeeded = json!({"terminated": {"exitCode": 0}});
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
    let life = |b: &serde_json::Value| {
        let mut pod = pod("OnFailure");
        pod.spec.as_mut().expect("a spec").containers.push(serde_json::from_value(json!({"name": "b"})).expect("one"));
        let statuses = [status("a", succeeded.clone()), status("b", b.clone())];
        pod.status =
            serde_json::from_value(json!({"phase": "Running", "containerStatuses": statuses})).expect("a status");
        Life::new(&pod, 1, wall())
    };
    assert_eq!(life(&running).decide(Want::Run, true, at(0)), [Action::EnsureImage { container: "b".into() }]);
    assert!(life(&succeeded).has_ended(Want::Run), "both have succeeded");
}

#[test]
fn a_pod_is_being_made_until_something_of_it_runs_or_fails() {
    let mut life = Life::new(&pod("Always"), 0, wall());
    assert!(life.is_being_made());
    let failure = || Failure { reason: "ErrImagePull".into(), message: "no".into() };
    let mut without_image = life.clone();
    without_image.apply(Event::ImageFailed { container: "a".into(), failure: failure() }, at(0), wall());
    assert!(!without_image.is_being_made());

    let _ = life.decide(Want::Run, true, at(0));
    ready(&mut life, "a", at(0));
    let _ = life.decide(Want::Run, true, at(0));
    life.apply(Event::Started, at(0), wall());
    assert!(life.is_being_made());
    let says = |state: State| {
        let mut life = life.clone();
        life.apply(Event::State(Box::new(state)), at(0), wall());
        life.is_being_made()
    };
    let waiting = |message: &str| Phase::Waiting(Failure { reason: "w".into(), message: message.into() });
    assert!(says(state(waiting(""))));
    assert!(!says(state(waiting("no such program"))));
    assert!(!says(state(running())));
    assert!(!says(State { failure: Some(failure()), ..state(waiting("")) }));
}
