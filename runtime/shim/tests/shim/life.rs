//! Start, exit, restart, stop.

use std::fs;
use std::sync::atomic::Ordering;

use minipod_protocol::line::Connection;
use minipod_protocol::shim::{Phase, Reply, Request, RestartPolicy, State};

use crate::harness::{Pod, attached, cgroups_named, container_state, terminated, wait_for};

fn waiting_reason(state: &State, name: &str) -> Option<String> {
    match &container_state(state, name).phase {
        Phase::Waiting(failure) => Some(failure.reason.clone()),
        _ => None,
    }
}

#[test]
fn a_container_runs_to_its_exit_code_and_nothing_is_left() {
    let mut pod = Pod::new().with("a", "echo out; echo err >&2; printf part; exit 7").start();
    let state = pod.wait_end();
    let ended = terminated(&state, "a");
    assert_eq!((ended.reason.as_str(), ended.exit_code, ended.signal), ("Error", 7, None));
    assert!(state.network_released);
    assert_eq!(state.network, Some(attached()));
    let log = pod.raw_log("a", 0);
    for line in [" stdout F out\n", " stderr F err\n", " stdout P part\n"] {
        assert!(log.contains(line), "{log}");
    }
    let uid = &pod.sandbox.uid;
    assert_eq!(pod.netd.heard(), [format!("attach {uid}"), format!("detach {uid}")]);
}

#[test]
fn init_containers_run_in_order_before_the_containers() {
    let mut pod = Pod::new().with("main", "cat /dev/shm/order");
    pod.sandbox.init_containers = vec![
        pod.container("one", "echo one >> /dev/shm/order"),
        pod.container("two", "cat /dev/shm/order; echo two >> /dev/shm/order"),
    ];
    let mut pod = pod.start();
    let state = pod.wait_end();
    assert_eq!(terminated(&state, "main").exit_code, 0);
    assert_eq!(pod.log("two", 0), ["one"]);
    assert_eq!(pod.log("main", 0), ["one", "two"]);
}

#[test]
fn a_failed_init_container_fails_the_pod() {
    let mut pod = Pod::new().with("main", "echo never");
    pod.sandbox.init_containers = vec![pod.container("one", "exit 3")];
    let mut pod = pod.start();
    let state = pod.wait_end();
    assert_eq!(terminated(&state, "one").exit_code, 3);
    assert_eq!(waiting_reason(&state, "main").as_deref(), Some("PodInitializing"));
}

#[test]
fn a_crashing_container_is_restarted_with_a_fresh_root_and_backs_off() {
    let mut pod = Pod::new().with("a", "ls /tmp; touch /tmp/left; exit 1");
    pod.sandbox.restart_policy = RestartPolicy::Always;
    let mut pod = pod.start();
    let state =
        pod.wait_state("the second crash", |state| waiting_reason(state, "a").as_deref() == Some("CrashLoopBackOff"));
    let container = container_state(&state, "a");
    assert_eq!((container.restarts, container.last.as_ref().map(|t| t.exit_code)), (1, Some(1)));
    assert_eq!(pod.log("a", 1), Vec::<String>::new(), "the writable layer of the first start is still there");
    pod.stop(0);
    let state = pod.wait_end();
    assert!(state.stopping);
}

#[test]
fn a_stop_lets_the_container_end_by_itself() {
    let mut pod =
        Pod::new().with("a", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done").start();
    pod.wait_log("a", "ready");
    pod.stop(30);
    let state = pod.wait_end();
    assert_eq!(terminated(&state, "a").exit_code, 0);
    assert_eq!(pod.log("a", 0), ["ready", "bye"]);
}

#[test]
fn the_grace_period_ends_with_sigkill_and_the_shorter_one_wins() {
    let mut pod = Pod::new().with("a", "trap '' TERM; echo ready; while :; do sleep 0.05; done").start();
    pod.wait_log("a", "ready");
    pod.stop(3600);
    pod.stop(1);
    let ended = terminated(&pod.wait_end(), "a");
    assert_eq!((ended.exit_code, ended.signal), (137, Some(9)));
}

#[test]
fn a_missing_command_is_named() {
    let mut pod = Pod::new().with("a", "").tuned(|c| c.args = vec!["no-such-tool".into()]).start();
    let ended = terminated(&pod.wait_end(), "a");
    assert_eq!((ended.reason.as_str(), ended.exit_code), ("StartError", 128));
    assert_eq!(
        ended.message,
        "exec: \"no-such-tool\": executable file not found in $PATH; give a program that the image has"
    );
}

#[test]
fn a_program_that_the_kernel_refuses_is_named() {
    let pod = Pod::new().with("a", "").tuned(|c| c.args = vec!["/bin/odd".into()]);
    fs::write(pod.image().join("bin/odd"), "neither ELF nor #!").expect("written");
    let mut pod = {
        make_executable(&pod.image().join("bin/odd"));
        pod.start()
    };
    let ended = terminated(&pod.wait_end(), "a");
    assert_eq!(ended.reason, "StartError");
    assert!(ended.message.starts_with("exec: \"/bin/odd\": exec format error"), "{}", ended.message);
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("mode");
}

#[test]
fn a_missing_layer_keeps_the_container_waiting_until_the_stop() {
    let mut pod = Pod::new().with("a", "true").tuned(|c| c.layers.push("/no/such/layer".into())).start();
    let state =
        pod.wait_state("the failure", |state| waiting_reason(state, "a").as_deref() == Some("CreateContainerError"));
    let Phase::Waiting(failure) = &container_state(&state, "a").phase else { panic!("{state:?}") };
    assert_eq!(failure.message, "cannot make container `a`: layer `/no/such/layer` is missing; pull the image again");
    pod.stop(0);
    pod.wait_end();
}

#[test]
fn a_refused_attach_is_told_and_tried_again() {
    let pod = Pod::new().with("a", "true");
    pod.netd.refusals.store(2, Ordering::SeqCst);
    let mut pod = pod.start();
    let state = pod.wait_state("the refusal", |state| state.failure.is_some());
    let failure = state.failure.expect("failure");
    assert_eq!(failure.reason, "FailedCreatePodSandBox");
    assert_eq!(failure.message, "node range `10.244.1.0/24` has no free address");
    let state = pod.wait_end();
    assert_eq!(state.failure, None);
    assert_eq!(terminated(&state, "a").exit_code, 0);
}

#[test]
fn a_netd_that_is_away_is_named_and_a_pod_without_network_can_be_stopped() {
    let mut pod = Pod::new().with("a", "true");
    pod.sandbox.netd_socket = Some(pod.directory.join("nobody.sock"));
    let mut pod = pod.start();
    let state = pod.wait_state("the failure", |state| state.failure.is_some());
    let message = state.failure.expect("failure").message;
    assert!(message.starts_with("netd does not answer on `"), "{message}");
    pod.stop(0);
    let state = pod.wait_end();
    assert!(!state.network_released, "nobody has confirmed the release");
}

#[test]
fn a_pod_that_is_stopped_while_netd_attaches_is_detached_after_it() {
    let pod = Pod::new().with("a", "true");
    pod.netd.hold_attach();
    let mut pod = pod.start();
    wait_for("the attach", || (!pod.netd.heard().is_empty()).then_some(()));
    pod.stop(0);
    pod.wait_state("the stop", |state| state.stopping);
    assert_eq!(pod.netd.heard().len(), 1, "a detach came before the attach was answered");
    pod.netd.let_go();
    assert!(pod.wait_end().network_released);
    let uid = &pod.sandbox.uid;
    assert_eq!(pod.netd.heard(), [format!("attach {uid}"), format!("detach {uid}")]);
}

#[test]
fn a_killed_container_is_restarted_and_the_reason_is_told() {
    let mut pod = Pod::new().with("a", "echo ready; exec sleep 1000");
    pod.sandbox.restart_policy = RestartPolicy::Always;
    let mut pod = pod.start();
    let first = pod.wait_running("a");
    let reply = pod.ask(&Request::Kill { container: "a".into(), grace_period_seconds: 0, reason: "liveness".into() });
    assert_eq!(reply, Reply::Done);
    let state =
        pod.wait_state("the restart", |state| crate::harness::running(state, "a").is_some_and(|pid| pid != first));
    let container = container_state(&state, "a");
    assert_eq!(container.restarts, 1);
    assert_eq!(container.last.as_ref().map(|t| (t.exit_code, t.message.as_str())), Some((137, "liveness")));
    assert_eq!(state.network, Some(attached()), "the address stays");
    pod.stop(0);
    pod.wait_end();
    assert_eq!(pod.netd.heard().iter().filter(|verb| verb.starts_with("attach")).count(), 1);
}

#[test]
fn what_exceeds_its_memory_is_killed_for_it() {
    let script = "tail /dev/zero";
    let mut pod = Pod::new().with("a", script).tuned(|c| c.resources.memory_bytes = Some(16 << 20)).start();
    let ended = terminated(&pod.wait_end(), "a");
    assert_eq!((ended.reason.as_str(), ended.exit_code), ("OOMKilled", 137));
}

#[test]
fn a_container_that_fills_shared_memory_is_killed_for_it_and_restarted_in_place() {
    let script = "echo start; exec dd if=/dev/zero of=/dev/shm/full bs=1M";
    let mut pod = Pod::new().with("a", script).tuned(|c| c.resources.memory_bytes = Some(10 << 20));
    pod.sandbox.resources.memory_bytes = Some(10 << 20);
    pod.sandbox.restart_policy = RestartPolicy::Always;
    let mut pod = pod.start();
    let state = pod.wait_state("a second end", |state| {
        let container = container_state(state, "a");
        container.restarts >= 1 && container.last.is_some()
    });
    let last = container_state(&state, "a").last.as_ref().expect("an end");
    assert_eq!((last.reason.as_str(), last.exit_code), ("OOMKilled", 137));
    pod.wait_state("it to start again", |_| pod.raw_log("a", 1).contains("start"));
    pod.stop(0);
    pod.wait_end();
}

#[test]
fn the_number_of_processes_is_limited() {
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; echo all";
    let mut pod = Pod::new().with("a", script).tuned(|c| c.resources.pids = Some(4)).start();
    let ended = terminated(&pod.wait_end(), "a");
    assert_ne!(ended.exit_code, 0);
    assert!(pod.raw_log("a", 0).contains("can't fork"), "{}", pod.raw_log("a", 0));
}

#[test]
fn watchers_hear_every_state_and_the_end() {
    let mut pod = Pod::new().with("a", "echo ready; exec sleep 1000").start();
    let mut watcher: Connection = pod.connect();
    watcher.send(&Request::Watch).expect("sent");
    let mut seen = Vec::new();
    let mut next = |seen: &mut Vec<&str>| {
        let state: State = watcher.receive().expect("a state");
        seen.push(match container_state(&state, "a").phase {
            Phase::Waiting(_) => "waiting",
            Phase::Running { .. } => "running",
            Phase::Terminated(_) => "terminated",
        });
        state
    };
    while next(&mut seen).network.is_none() || seen.last() != Some(&"running") {}
    pod.stop(0);
    while !next(&mut seen).finished {}
    seen.dedup();
    let end = &seen[seen.len() - 2..];
    assert_eq!(end, ["running", "terminated"]);
    pod.wait_end();
}

#[test]
fn a_killed_shim_leaves_everything_of_the_pod_inside_its_cgroup() {
    let pod = Pod::new().with("a", "echo ready; exec sleep 1000").start();
    let first = pod.wait_running("a");
    pod.wait_log("a", "ready");
    let mut session =
        pod.begin_exec(&crate::harness::exec("a", &["sh", "-c", "echo on; exec sleep 1000"])).expect("started");
    session.read_until("on\n");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pod.pid()).expect("pid"));
    let group = |pid: i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    assert_eq!(group(first).matches("/pod/").count(), group(pid.as_raw()).matches("/pod/shim\n").count());
    let groups = cgroups_named(&format!("{}/containers/a", pod.sandbox.cgroup.trim_start_matches('/')));
    let processes =
        groups.iter().map(|group| fs::read_to_string(group.join("cgroup.procs")).expect("read").lines().count());
    assert_eq!(processes.max(), Some(2), "the first process and the exec'd one");
    nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).expect("killed");
    wait_for("the end of the shim", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(Some(()), |stat| stat.contains(") Z ").then_some(()))
    });
    // the rest is the node's: it kills what is in the cgroup
}
