//! Whole statuses, and the phase in every combination that counts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use minipod_protocol::netd::{Address, Attached, Dns};
use minipod_protocol::shim::{ContainerState, Failure, Phase, State, Terminated};
use serde_json::{Value, json};

use super::{ImageView, Past, View, compile_status, past_of, past_of_status, was_started};

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().expect("a time")
}

fn pod(policy: &str, inits: &[&str], containers: &[&str]) -> Pod {
    let list = |names: &[&str]| names.iter().map(|n| json!({"name": n, "image": "x"})).collect::<Vec<_>>();
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
        "spec": {"restartPolicy": policy, "initContainers": list(inits), "containers": list(containers)},
    }))
    .expect("a pod")
}

fn waiting(reason: &str) -> Phase {
    Phase::Waiting(Failure { reason: reason.into(), message: String::new() })
}

fn running() -> Phase {
    Phase::Running { pid: 7, started_at: 1_700_000_000_999 }
}

fn end(code: i32) -> Terminated {
    Terminated {
        reason: if code == 0 { "Completed" } else { "Error" }.into(),
        message: String::new(),
        exit_code: code,
        signal: None,
        started_at: 1_700_000_000_000,
        finished_at: 1_700_000_005_000,
    }
}

fn exited(code: i32) -> Phase {
    Phase::Terminated(end(code))
}

fn crash_loop() -> Phase {
    waiting("CrashLoopBackOff")
}

fn state(inits: &[(&str, Phase)], containers: &[(&str, Phase)]) -> State {
    let list = |states: &[(&str, Phase)]| {
        let state = |(name, phase): &(&str, Phase)| ContainerState {
            name: (*name).into(),
            last: (*phase == crash_loop()).then(|| end(1)),
            phase: phase.clone(),
            restarts: 0,
        };
        states.iter().map(state).collect()
    };
    State {
        uid: "u1".into(),
        pid: 6,
        start_time: 1,
        network: Some(Attached {
            host_ifname: "mpod01234567890".into(),
            host_mac: "ee:ee:ee:ee:ee:ee".into(),
            mac: "02:00:00:00:00:01".into(),
            mtu: 1500,
            addresses: ["10.244.0.5", "fd00:10:244::5"]
                .map(|a| Address { address: a.parse().expect("an address"), gateway: IpAddr::from([169, 254, 1, 1]) })
                .into(),
            dns: Dns::default(),
        }),
        failure: None,
        init_containers: list(inits),
        containers: list(containers),
        stopping: false,
        network_released: false,
        finished: false,
    }
}

fn status(pod: &Pod, state: Option<&State>, ended: bool) -> PodStatus {
    let images = BTreeMap::from([(
        "a".to_owned(),
        ImageView { name: Some("docker.io/library/x:latest".into()), id: Some("sha256:1".into()), failure: None },
    )]);
    let view = View {
        host_ips: &[IpAddr::from([192, 0, 2, 7])],
        state,
        lost: false,
        past: &BTreeMap::new(),
        images: &images,
        failure: None,
        failed_container: None,
        ended,
    };
    compile_status(pod, &view, now())
}

#[track_caller]
fn check_phase(policy: &str, inits: &[(&str, Phase)], containers: &[(&str, Phase)], ended: bool, expected: &str) {
    let names = |states: &[(&str, Phase)]| states.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    let (init_names, container_names) = (names(inits), names(containers));
    let borrowed = |names: &'static [String]| names.iter().map(String::as_str).collect::<Vec<_>>();
    let pod = pod(policy, &borrowed(init_names.leak()), &borrowed(container_names.leak()));
    let status = status(&pod, Some(&state(inits, containers)), ended);
    assert_eq!(status.phase.as_deref(), Some(expected));
}

#[test]
fn the_phase_is_the_kubelets() {
    check_phase("Always", &[], &[("a", waiting("ContainerCreating"))], false, "Pending");
    check_phase("Always", &[], &[("a", running()), ("b", waiting("ContainerCreating"))], false, "Pending");
    check_phase("Always", &[], &[("a", running())], false, "Running");
    check_phase("Always", &[], &[("a", crash_loop())], false, "Running");
    check_phase("Always", &[], &[("a", exited(0))], false, "Running");
    check_phase("OnFailure", &[], &[("a", exited(1))], false, "Running");
    check_phase("OnFailure", &[], &[("a", exited(0))], false, "Succeeded");
    check_phase("Never", &[], &[("a", exited(0)), ("b", running())], false, "Running");
    check_phase("Never", &[], &[("a", exited(0)), ("b", exited(3))], false, "Failed");
    check_phase("Never", &[], &[("a", exited(0)), ("b", exited(0))], false, "Succeeded");
    check_phase("Always", &[("i", running())], &[("a", waiting("PodInitializing"))], false, "Pending");
    check_phase("Always", &[("i", exited(1))], &[("a", waiting("PodInitializing"))], false, "Pending");
    check_phase("Never", &[("i", exited(1))], &[("a", waiting("PodInitializing"))], false, "Failed");
    check_phase("Always", &[("i", exited(0))], &[("a", running())], false, "Running");
    check_phase("Always", &[], &[("a", exited(0))], true, "Succeeded");
    check_phase("Always", &[], &[("a", exited(137))], true, "Failed");
    check_phase("Always", &[], &[("a", waiting("ContainerCreating"))], true, "Failed");
}

#[test]
fn a_terminal_phase_is_never_left() {
    let mut pod = pod("Never", &[], &["a"]);
    pod.status = Some(PodStatus { phase: Some("Failed".into()), ..PodStatus::default() });
    let status = status(&pod, Some(&state(&[], &[("a", exited(0))])), true);
    assert_eq!(status.phase.as_deref(), Some("Failed"));
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let all = status["conditions"].as_array().expect("conditions");
    all.iter().find(|condition| condition["type"] == kind).expect("the condition")
}

#[test]
fn a_running_pod_says_so_in_full() {
    let pod = pod("Always", &[], &["a"]);
    let status = serde_json::to_value(status(&pod, Some(&state(&[], &[("a", running())])), false)).expect("json");
    assert_eq!(status["podIP"], "10.244.0.5");
    assert_eq!(status["podIPs"], json!([{"ip": "10.244.0.5"}, {"ip": "fd00:10:244::5"}]));
    assert_eq!(status["hostIP"], "192.0.2.7");
    assert_eq!(status["startTime"], "2026-01-02T03:04:05Z");
    assert_eq!(status["qosClass"], "BestEffort");
    let container = &status["containerStatuses"][0];
    assert_eq!(container["image"], "docker.io/library/x:latest");
    assert_eq!(container["imageID"], "sha256:1");
    assert_eq!(container["state"], json!({"running": {"startedAt": "2023-11-14T22:13:20Z"}}));
    assert_eq!((&container["ready"], &container["started"]), (&json!(true), &json!(true)));
    for kind in ["PodScheduled", "Initialized", "ContainersReady", "Ready", "PodReadyToStartContainers"] {
        assert_eq!(condition(&status, kind)["status"], "True", "{kind}");
    }
}

#[test]
fn what_is_not_ready_is_named() {
    let pod = pod("Always", &["i"], &["a", "b"]);
    let state = state(&[("i", exited(0))], &[("a", running()), ("b", crash_loop())]);
    let status = serde_json::to_value(status(&pod, Some(&state), false)).expect("json");
    let ready = condition(&status, "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("ContainersNotReady")));
    assert_eq!(ready["message"], "containers with unready status: [b]");
    assert_eq!(status["containerStatuses"][1]["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(status["initContainerStatuses"][0]["ready"], true);
}

#[test]
fn a_status_that_says_the_same_is_the_same() {
    let mut pod = pod("Always", &[], &["a"]);
    let state = state(&[], &[("a", running())]);
    pod.status = Some(status(&pod, Some(&state), false));
    let later = "2026-01-02T04:00:00Z".parse().expect("a time");
    let images = BTreeMap::new();
    let view = View {
        host_ips: &[IpAddr::from([192, 0, 2, 7])],
        state: Some(&state),
        lost: false,
        past: &BTreeMap::new(),
        images: &images,
        failure: None,
        failed_container: None,
        ended: false,
    };
    // As after an adoption: the images are known only from the status itself.
    assert_eq!(Some(compile_status(&pod, &view, later)), pod.status);
}

#[test]
fn a_missing_image_is_the_reason_for_the_wait() {
    let pod = pod("Always", &["i"], &["a"]);
    let failure = Failure { reason: "ErrImagePull".into(), message: "no such host".into() };
    let images = BTreeMap::from([("a".to_owned(), ImageView { failure: Some(failure), ..ImageView::default() })]);
    let past = BTreeMap::new();
    let view = View {
        host_ips: &[],
        state: None,
        lost: false,
        past: &past,
        images: &images,
        failure: None,
        failed_container: None,
        ended: false,
    };
    let status = serde_json::to_value(compile_status(&pod, &view, now())).expect("json");
    let wait = &status["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(*wait, json!({"reason": "ErrImagePull", "message": "no such host"}));
    assert_eq!(status["initContainerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    assert_eq!(status["phase"], "Pending");
}

#[test]
fn a_host_network_pod_has_the_nodes_addresses() {
    let mut pod = pod("Always", &[], &["a"]);
    pod.spec.as_mut().expect("a spec").host_network = Some(true);
    let state = State { network: None, ..state(&[], &[("a", running())]) };
    assert_eq!(status(&pod, Some(&state), false).pod_ip.as_deref(), Some("192.0.2.7"));
    assert_eq!(status(&pod, None, false).pod_ip, None);
}

#[test]
fn restarts_under_earlier_shims_count() {
    let before = Past { restarts: 2, ..Past::default() };
    let lost = ContainerState { name: "a".into(), phase: exited(137), last: None, restarts: 1 };
    assert_eq!(past_of(&lost, &before), Past { restarts: 4, last: Some(end_137()), done: false });
    let never_started = ContainerState { phase: waiting("ContainerCreating"), ..lost };
    let never_started = ContainerState { restarts: 0, ..never_started };
    assert_eq!(past_of(&never_started, &before), before);
}

fn end_137() -> Terminated {
    Terminated { reason: "Error".into(), ..end(137) }
}

#[test]
fn after_a_reboot_the_status_tells_what_was() {
    let mut pod = pod("Never", &[], &["a"]);
    pod.status = Some(status(&pod, Some(&state(&[], &[("a", running())])), false));
    let old = pod.status.clone().expect("a status");
    assert!(was_started(&old));
    let past = past_of_status(&old, now());
    let end = past["a"].last.clone().expect("an end");
    assert_eq!((past["a"].restarts, end.exit_code, end.reason.as_str()), (1, 137, "ContainerStatusUnknown"));
    let images = BTreeMap::new();
    let view = View {
        host_ips: &[],
        state: None,
        lost: true,
        past: &past,
        images: &images,
        failure: None,
        failed_container: None,
        ended: true,
    };
    let status = serde_json::to_value(compile_status(&pod, &view, now())).expect("json");
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("ShimLost")));
    let container = &status["containerStatuses"][0];
    assert_eq!(container["state"]["terminated"]["exitCode"], 137);
    assert_eq!(container["restartCount"], 0);
    assert!(container.get("lastState").is_none_or(|last| last.get("terminated").is_none()));
    assert!(!was_started(&PodStatus::default()));
}
