//! Logs, exec and attach.

use std::net::Shutdown;

use minipod_protocol::frame::Channel;
use minipod_protocol::shim::{AttachStreams, Reply, Request, TerminalSize};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Pod, exec, terminated};

const IDLE: &str = "echo ready; exec sleep 1000";

fn idle_pod() -> Pod {
    let pod = Pod::new().with("a", IDLE).start();
    pod.wait_log("a", "ready");
    pod
}

fn end(mut pod: Pod) {
    pod.stop(0);
    pod.wait_end();
}

#[test]
fn an_exec_gives_output_errors_and_the_exit_code() {
    let pod = idle_pod();
    let (stdout, stderr, code) = pod.exec("a", &["sh", "-c", "echo out; echo err >&2; exit 4"]);
    assert_eq!((stdout.as_str(), stderr.as_str(), code), ("out\n", "err\n", 4));
    let (_, _, code) = pod.exec("a", &["sh", "-c", "kill -9 $$"]);
    assert_eq!(code, 137);
    end(pod);
}

#[test]
fn an_exec_runs_as_the_container_does() {
    let pod = Pod::new().with("a", IDLE).tuned(|c| {
        c.uid = 1000;
        c.gid = 1000;
        c.additional_gids = vec![7];
        c.working_dir = "/tmp".into();
    });
    let pod = pod.start();
    pod.wait_log("a", "ready");
    let mut asked = exec(
        "a",
        &["sh", "-c", "id -u; id -g; id -G; pwd; echo $COLOUR $MORE $HOME; cat /proc/self/cgroup | sort -u | wc -l"],
    );
    asked.env.insert("MORE".into(), "added".into());
    let (stdout, _, code) = pod.begin_exec(&asked).expect("started").finish();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[..5], ["1000", "1000", "1000 7", "/tmp", "blue added /home/user"], "{code}");
    end(pod);
}

#[test]
fn input_reaches_an_exec_and_its_end_too() {
    let pod = idle_pod();
    let mut asked = exec("a", &["cat"]);
    asked.stdin = true;
    let mut session = pod.begin_exec(&asked).expect("started");
    session.send(Channel::Stdin, b"hello\n");
    session.read_until("hello\n");
    session.send(Channel::Stdin, b"");
    assert_eq!(session.finish(), ("hello\n".into(), String::new(), 0));

    let mut session = pod.begin_exec(&asked).expect("started");
    session.send(Channel::Stdin, b"half");
    session.stream.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(session.finish(), ("half".into(), String::new(), 0));
    end(pod);
}

#[test]
fn more_than_fits_into_any_buffer_passes_both_ways() {
    let pod = idle_pod();
    let mut asked = exec("a", &["md5sum"]);
    asked.stdin = true;
    let mut session = pod.begin_exec(&asked).expect("started");
    let piece = vec![b'x'; 60_000];
    for _ in 0..50 {
        session.send(Channel::Stdin, &piece);
    }
    session.send(Channel::Stdin, b"");
    let (stdout, _, _) = session.finish();
    let (expected, _, _) = pod.exec("a", &["sh", "-c", "yes x | tr -d '\\n' | head -c 3000000 | md5sum"]);
    assert_eq!(stdout, expected);
    let (stdout, _, _) = pod.exec("a", &["sh", "-c", "yes 0123456789 | head -c 5000000"]);
    assert_eq!(stdout.len(), 5_000_000);
    end(pod);
}

#[test]
fn a_terminal_has_a_size_and_echoes() {
    let pod = idle_pod();
    let mut asked = exec("a", &["sh"]);
    asked.tty = true;
    asked.stdin = true;
    asked.size = Some(TerminalSize { width: 90, height: 33 });
    let mut session = pod.begin_exec(&asked).expect("started");
    session.send(Channel::Stdin, b"tty; stty size\n");
    session.read_until("33 90");
    session.send(Channel::Resize, br#"{"Width":100,"Height":40}"#);
    session.send(Channel::Stdin, b"stty size\n");
    session.read_until("40 100");
    session.send(Channel::Stdin, b"exit 5\n");
    let (stdout, stderr, code) = session.finish();
    assert!(stdout.contains("/dev/pts/") && stderr.is_empty(), "{stdout}");
    assert_eq!(code, 5);
    end(pod);
}

#[test]
fn a_user_owns_its_terminal() {
    let pod = Pod::new().with("a", IDLE).tuned(|c| c.uid = 1000).start();
    pod.wait_log("a", "ready");
    let mut asked = exec("a", &["sh", "-c", "stat -c %u $(tty); echo by name > $(tty)"]);
    asked.tty = true;
    let (stdout, _, code) = pod.begin_exec(&asked).expect("started").finish();
    assert_eq!((stdout.as_str(), code), ("1000\r\nby name\r\n", 0));
    end(pod);
}

#[test]
fn a_command_that_is_not_in_the_image_is_named() {
    let pod = idle_pod();
    for tty in [false, true] {
        let mut asked = exec("a", &["no-such-tool"]);
        asked.tty = tty;
        let failure = pod.begin_exec(&asked).map(drop).expect_err("refused");
        assert_eq!(failure.reason, "StartError");
        assert_eq!(
            failure.message,
            "exec: \"no-such-tool\": executable file not found in $PATH; give a program that the image has"
        );
    }
    let failure = pod.begin_exec(&exec("b", &["true"])).map(drop).expect_err("refused");
    assert_eq!(failure.message, "pod `default/web` has no container `b`");
    end(pod);
}

#[test]
fn who_asks_while_the_pod_ends_learns_that_nothing_runs() {
    let mut pod = Pod::new().with("a", IDLE);
    // With no network to release, the shim ends in the turn in which it hears of its container's end.
    pod.sandbox.netd_socket = None;
    let mut pod = pod.start();
    pod.wait_log("a", "ready");
    let container = Pid::from_raw(pod.wait_running("a"));
    let shim = Pid::from_raw(i32::try_from(pod.pid()).expect("a pid"));
    kill(shim, Signal::SIGSTOP).expect("stopped");
    kill(container, Signal::SIGKILL).expect("killed");
    crate::harness::wait_for("the container's end", || {
        let stat = std::fs::read_to_string(format!("/proc/{container}/stat"));
        stat.expect("a process that is not waited for").contains(") Z ").then_some(())
    });
    let mut connections: Vec<_> = (0..3).map(|_| pod.connect()).collect();
    for connection in &mut connections {
        let attach = AttachStreams { container: "a".into(), stdin: true, size: None };
        connection.send(&Request::Attach(attach)).expect("sent");
    }
    kill(shim, Signal::SIGCONT).expect("continued");
    for mut connection in connections {
        let Reply::Error(failure) = connection.receive().expect("answered") else { panic!("no container runs") };
        assert_eq!(failure.reason, "NotRunning");
    }
    pod.wait_end();
}

#[test]
fn an_exec_ends_with_its_client() {
    let pod = idle_pod();
    let mut session = pod.begin_exec(&exec("a", &["sh", "-c", "echo $$; exec sleep 1000"])).expect("started");
    session.read_until("\n");
    let pid = String::from_utf8(session.stdout.clone()).expect("text").trim().to_owned();
    drop(session);
    crate::harness::wait_for("the end of the exec'd process", || {
        let (_, _, code) = pod.exec("a", &["test", "-e", &format!("/proc/{pid}")]);
        (code != 0).then_some(())
    });
    end(pod);
}

#[test]
fn several_attach_to_a_container_and_one_feeds_it() {
    let pod = Pod::new().with("a", "echo ready; exec cat").tuned(|c| {
        c.stdin = true;
        c.stdin_once = true;
    });
    let mut pod = pod.start();
    pod.wait_log("a", "ready");
    let (mut first, mut second) = (pod.begin_attach("a"), pod.begin_attach("a"));
    first.send(Channel::Stdin, b"hello\n");
    first.read_until("hello\n");
    second.read_until("hello\n");
    first.send(Channel::Stdin, b"");
    assert_eq!(first.finish().2, 0);
    assert_eq!(second.finish().2, 0);
    let state = pod.wait_end();
    assert_eq!(terminated(&state, "a").exit_code, 0);
    assert_eq!(pod.log("a", 0), ["ready", "hello"]);
}

#[test]
fn the_first_attach_to_an_interactive_container_sees_what_was_written_before() {
    let pod = Pod::new().with("a", "echo early; exec sh").tuned(|c| {
        c.stdin = true;
        c.tty = true;
    });
    let mut pod = pod.start();
    pod.wait_log("a", "early");
    let mut session = pod.begin_attach("a");
    session.read_until("early\r\n");
    session.send(Channel::Stdin, b"exit 3\n");
    assert_eq!(session.finish().2, 3);
    assert_eq!(terminated(&pod.wait_end(), "a").exit_code, 3);
}

#[test]
fn a_container_outlives_who_was_attached() {
    let pod = Pod::new().with("a", "echo ready; exec cat").tuned(|c| c.stdin = true).start();
    pod.wait_log("a", "ready");
    let mut session = pod.begin_attach("a");
    session.send(Channel::Stdin, b"one\n");
    session.read_until("one\n");
    session.send(Channel::Stdin, b"");
    drop(session);
    let mut session = pod.begin_attach("a");
    session.send(Channel::Stdin, b"two\n");
    session.read_until("two\n");
    end(pod);
}

#[test]
fn a_container_goes_on_without_who_takes_nothing() {
    let script = "echo ready; read go; yes 0123456789 | head -c 3000000; touch /dev/shm/done; exec sleep 1000";
    let pod = Pod::new().with("a", script).tuned(|c| c.stdin = true).start();
    pod.wait_log("a", "ready");
    let mut session = pod.begin_attach("a");
    session.send(Channel::Stdin, b"go\n");
    crate::harness::wait_for("the container goes on", || {
        let (_, _, code) = pod.exec("a", &["test", "-e", "/dev/shm/done"]);
        (code == 0).then_some(())
    });
    end(pod);
}

#[test]
fn what_is_no_request_is_refused() {
    let pod = idle_pod();
    let mut connection = pod.connect();
    connection.send(&serde_json::json!({"verb": "fly"})).expect("sent");
    let reply: minipod_protocol::shim::Reply = connection.receive().expect("answered");
    assert!(matches!(reply, minipod_protocol::shim::Reply::Error(failure) if failure.reason == "BadRequest"));
    end(pod);
}
