//! Without a terminal.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use integration::ran::Ran;
use integration::wait::until;

use crate::{IMAGE, lab, lab_with_pod, runs};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn what_goes_in_comes_out_and_the_session_ends() {
    let lab = lab_with_pod();
    let rounds = if std::env::var_os("MINIPOD_TEST_FULL").is_some() { 100 } else { 10 };
    for round in 0..rounds {
        let two = lab.minipod_with_input(&["exec", "-i", "web", "--", "cat"], "one\ntwo\n").expect_success();
        assert_eq!(two, "one\ntwo\n", "round {round}");
        let much = "x".repeat(300_000);
        let back = lab.minipod_with_input(&["exec", "-i", "web", "--", "cat"], &much).expect_success();
        assert_eq!(back.len(), much.len(), "round {round}");
        // The process ends before its input does.
        let ended = lab.minipod_with_input(&["exec", "-i", "web", "--", "sh", "-c", "exit 4"], &much);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(4), ""), "round {round}: {ended}");
    }
    // Far more than all buffers on the way hold, both ways at once.
    let pump = "head -c 50000000 /dev/zero | timeout 60 minipod exec -i web -- cat | wc -c";
    assert_eq!(lab.shell(pump).expect_success().trim(), "50000000");
}

#[test]
fn outputs_are_kept_apart_and_the_exit_code_is_passed_on() {
    let lab = lab_with_pod();
    let ran = lab.exec("web", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(7), "out\n"), "{ran}");
    assert_eq!(ran.stderr, "err\ncommand terminated with exit code 7\n");
    let ran = lab.exec("web", &["no-such-program"]);
    assert_eq!(ran.code, Some(1), "{ran}");
    assert!(ran.stderr.contains("no-such-program"), "{ran}");
}

#[test]
fn a_session_ends_when_one_of_its_ends_leaves() {
    let lab = lab_with_pod();
    // The reader of the output.
    let script = "timeout 20 bash -c 'minipod exec web -- yes | head -n 1; echo ${PIPESTATUS[0]}'";
    assert_eq!(lab.shell(script).expect_success(), "y\n141\n");

    // The client, whose input nobody takes.
    let mut client = lab.command("sh");
    client.args(["-c", "yes | exec minipod exec -i web -- sleep 7771"]).stdin(Stdio::null());
    let mut client = client.spawn().expect("started");
    until("the process", LIMIT, || runs(&lab, "sleep 7771").then_some(())).expect("it runs");
    let _ = lab.shell("pkill -KILL -fx 'minipod exec -i web -- sleep 7771'").expect_success();
    client.wait().expect("it ends");
    until("the process to go with its client", LIMIT, || (!runs(&lab, "sleep 7771")).then_some(())).expect("gone");

    // The daemon.
    let mut client = lab.command("minipod");
    client.args(["exec", "-i", "web", "--", "sh", "-c", "echo begun; sleep 7772"]);
    let mut client =
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut begun = [0; 6];
    client.stdout.as_mut().expect("a pipe").read_exact(&mut begun).expect("its output");
    let _ = lab.shell("kill -KILL $(sed 's/[^0-9]*\\([0-9]*\\).*/\\1/' /run/minipod/node.pid)").expect_success();
    let ended = client.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("the connection to the node ended before the process did"), "{said}");
}

#[test]
fn a_run_without_a_terminal_loses_nothing_and_keeps_its_outputs_apart() {
    let lab = lab();
    let run = |name: &str, script: &str, input: &str| -> Ran {
        let args = ["run", name, "--image", IMAGE, "--rm", "-i", "--restart=Never", "-q", "--", "sh", "-c", script];
        lab.minipod_with_input(&args, input)
    };
    let ran = run("early", "seq 20000; echo oops >&2; exit 3", "");
    let numbers: Vec<String> = (1..=20_000).map(|number| format!("{number}\n")).collect();
    let numbers = numbers.concat();
    assert_eq!((ran.code, ran.stdout.len(), ran.stdout == numbers), (Some(3), numbers.len(), true));
    assert!(ran.stderr.starts_with("oops\n"), "{}", ran.stderr);

    let much = "line of text\n".repeat(100_000);
    let ran = run("echo", "echo begun >&2; cat; echo ended >&2; printf unfinished", &much);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), "begun\nended\n"));
    assert_eq!((ran.stdout.len(), ran.stdout == format!("{much}unfinished")), (much.len() + 10, true));
    assert_eq!(lab.minipod(&["get", "pods", "-o", "name"]).expect_success(), "");
}

#[test]
fn a_container_that_ends_at_once_is_shown_whole_and_its_exit_code_passed_on() {
    let lab = lab();
    for round in 0..50 {
        let name = format!("e{round}");
        let run = ["run", &name, "--image", IMAGE, "--restart=Never", "--rm", "-i", "-q", "--"];
        let (words, code): (&[&str], _) =
            if round % 2 == 0 { (&["echo", "hi"], 0) } else { (&["sh", "-c", "echo hi; exit 3"], 3) };
        let ran = lab.minipod_with_input(&[&run[..], words].concat(), "");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), "hi\n"), "round {round}: {ran}");
    }
}

#[test]
fn an_interrupted_run_removes_its_pod() {
    let lab = lab();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut client = lab.command("minipod");
        // A shell that is the first process of its namespace ends by no signal that it does not ask for.
        client.args(["run", "gone", "--image", IMAGE, "--rm", "--attach", "--restart=Never", "--"]);
        client.args(["sh", "-c", "trap exit TERM; sleep 7773 & wait"]);
        let mut client = client.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("started");
        until("the pod", LIMIT, || runs(&lab, "sleep 7773").then_some(())).expect("it runs");
        let _ = lab.shell(&format!("pkill -{signal} -f '^minipod run gone'")).expect_success();
        assert_eq!(client.wait().expect("it ends").code(), Some(code));
        assert_eq!(lab.minipod(&["get", "pods", "-o", "name"]).expect_success(), "");
    }
}

#[test]
fn an_attached_container_gets_input_until_it_ends() {
    let lab = lab();
    lab.apply(&format!(
        "{{kind: Pod, apiVersion: v1, metadata: {{name: echo}}, spec: {{restartPolicy: Never, containers: [{{name: c, image: {IMAGE}, \
         stdin: true, stdinOnce: true, args: [sh, -c, 'echo early; cat; echo late >&2; exit 2']}}]}}}}"
    ));
    lab.wait_ready("echo");
    // An attach without input leaves the container's own as it is; with it, the first one's end is its end.
    let ran = lab.minipod_with_input(&["attach", "-i", "echo"], "hello\n");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "early\nhello\n", "late\n"), "{ran}");
    let phase = ["get", "pod", "echo", "-o", "jsonpath={.status.phase}"];
    until("the pod to fail", LIMIT, || (lab.minipod(&phase).stdout == "Failed").then_some(())).expect("failed");
    let refused = lab.minipod(&["attach", "echo"]).expect_failure();
    assert_eq!(refused, "error: cannot attach a container in a completed pod; current phase is Failed\n");
}

#[test]
fn a_log_is_followed_to_its_end_from_the_first_moment_of_its_container_and_of_each_restart() {
    let lab = lab();
    let follow = |name: &str| {
        let ran = lab.minipod(&["logs", "-f", name]);
        ran.succeeded().then_some(ran.stdout)
    };
    for round in 0..8 {
        let name = format!("f{round}");
        let run = ["run", &name, "--image", IMAGE, "--restart=Never", "--"];
        let _ = lab.minipod(&[&run[..], &["sh", "-c", "echo 0; sleep 0.4; echo 1; sleep 0.4; echo 2"]].concat());
        let log = until("a log", LIMIT, || follow(&name)).expect("followed");
        assert_eq!(log, "0\n1\n2\n", "round {round}");
    }
    let script = "echo 0; sleep 0.5; echo 1; exit 1";
    let _ = lab.minipod(&["run", "again", "--image", IMAGE, "--", "sh", "-c", script]).expect_success();
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    until("a second start", LIMIT, || {
        let log = follow("again")?;
        assert_eq!(log, "0\n1\n", "a start's log is shown whole");
        (lab.minipod(&["get", "pod", "again", "-o", restarts]).stdout == "1").then_some(())
    })
    .expect("restarted");
}

#[test]
fn a_stop_signal_waits_until_the_program_listens() {
    let lab = lab();
    // A shell that is the first process of its namespace gets no signal before it has a trap for it.
    let script = "echo begun; sleep 1.5; trap 'exit 0' TERM; sleep 1000000 & wait";
    let _ = lab.minipod(&["run", "late", "--image", IMAGE, "--", "sh", "-c", script]).expect_success();
    until("the program", LIMIT, || (lab.minipod(&["logs", "late"]).stdout == "begun\n").then_some(()))
        .expect("it runs");
    let begin = Instant::now();
    let _ = lab.minipod(&["delete", "pod", "late", "--grace-period=60"]).expect_success();
    assert!(begin.elapsed() < LIMIT, "ended by its grace period: {:?}", begin.elapsed());
}

#[test]
fn a_run_that_cannot_remove_its_pod_says_what_is_left_and_how_to_delete_it() {
    let lab = lab();
    let mut client = lab.command("minipod");
    client.args(["run", "left", "--image", IMAGE, "--rm", "-i", "--restart=Never", "--", "sleep", "7778"]);
    let client = client.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
    until("the pod", LIMIT, || runs(&lab, "sleep 7778").then_some(())).expect("it runs");
    lab.wait_ready("left");
    let _ = lab.shell("kill -KILL $(sed 's/[^0-9]*\\([0-9]*\\).*/\\1/' /run/minipod/node.pid)").expect_success();
    let ended = client.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    for part in ["pod \"left\" may be left", "/run/minipod/api.sock", "`minipod delete pod/left -n default`"] {
        assert!(said.contains(part), "{said}");
    }
    lab.start_node().expect("started again");
    let _ = lab.minipod(&["delete", "pod/left", "-n", "default", "--now"]).expect_success();
}

#[test]
fn a_log_that_a_stop_of_the_node_cuts_off_is_not_taken_for_its_end() {
    let lab = lab();
    let pod = ["run", "tick", "--image", IMAGE, "--", "sh", "-c", "echo begun; sleep 1000000"];
    let _ = lab.minipod(&pod).expect_success();
    let follow = "out=$(mktemp -d); trap 'rm -r $out' EXIT; minipod wait --for=condition=Ready pod/tick > $out/ready; \
                  minipod logs -f tick > $out/log 2> $out/said & \
                  until [ -s $out/log ]; do sleep 0.05; done; minipod node stop > $out/stopped 2>&1; \
                  code=0; wait $! || code=$?; echo code $code; cat $out/said";
    let said = lab.shell(follow).expect_success();
    assert!(said.starts_with("code 1\nerror: the connection to the node ended before the log did"), "{said}");
}
