//! With a terminal.

use std::time::Duration;

use integration::wait::until;

use crate::terminal::Terminal;
use crate::{IMAGE, lab, lab_with_pod, runs};

const LIMIT: Duration = Duration::from_secs(30);
/// A shell whose prompt is none of the words that are waited for.
const SHELL: [&str; 3] = ["env", "PS1=> ", "sh"];
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

#[test]
fn a_command_has_the_size_the_keys_and_the_end_of_the_terminal() {
    let lab = lab_with_pod();
    let mut terminal = Terminal::start(&lab, &[&["exec", "-it", "web", "--"][..], &SHELL].concat());
    terminal.sees("> ");
    assert!(!terminal.is_cooked(), "echo and keys are the container's");
    terminal.types("echo $((1100 + 11))\r");
    terminal.sees("echo $((1100 + 11))");
    terminal.sees("1111");
    terminal.types("stty size\r");
    terminal.sees("24 80");

    terminal.resize(132, 50);
    until("the new size in the container", LIMIT, || {
        let size = lab.exec("web", &["sh", "-c", "for t in /dev/pts/[0-9]*; do stty size < $t; done"]);
        size.stdout.contains("50 132").then_some(())
    })
    .expect("resized");

    // The key is the container's: it ends the process in front there, and neither the shell nor minipod.
    terminal.types("sleep 7774\r");
    until("the process", LIMIT, || runs(&lab, "sleep 7774").then_some(())).expect("it runs");
    terminal.types(CTRL_C);
    until("the process to be interrupted", LIMIT, || (!runs(&lab, "sleep 7774")).then_some(())).expect("gone");
    terminal.types("echo code $?\r");
    terminal.sees("code 130");

    terminal.types("exit 5\r");
    assert_eq!(terminal.end(), Some(5));
    terminal.sees("command terminated with exit code 5");
    assert!(terminal.is_cooked(), "the terminal is as it was");
}

#[test]
fn the_terminal_is_as_it_was_however_the_session_ends() {
    let lab = lab_with_pod();
    let begin = |marker: &str| {
        let command = format!("echo begun; exec sleep {marker}");
        let mut terminal = Terminal::start(&lab, &["exec", "-it", "web", "--", "sh", "-c", &command]);
        terminal.sees("begun");
        terminal.wait_raw();
        terminal
    };
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let mut terminal = begin("7775");
        let _ = lab.shell(&format!("pkill -{signal} -f '^minipod exec -it web'")).expect_success();
        assert_eq!(terminal.end(), Some(code));
        assert!(terminal.is_cooked(), "after SIG{signal}");
        until("the process to go with its client", LIMIT, || (!runs(&lab, "sleep 7775")).then_some(())).expect("gone");
    }

    let mut terminal = Terminal::start(&lab, &["exec", "-it", "web", "--", "no-such-program"]);
    assert_eq!(terminal.end(), Some(1));
    assert!(terminal.is_cooked(), "after a refusal");

    let mut terminal = begin("7776");
    let _ = lab.shell("kill -KILL $(sed 's/[^0-9]*\\([0-9]*\\).*/\\1/' /run/minipod/node.pid)").expect_success();
    assert_eq!(terminal.end(), Some(1));
    terminal.sees("the connection to the node ended before the process did");
    assert!(terminal.is_cooked(), "after the daemon's end");
}

#[test]
fn a_new_container_is_joined_and_left_and_joined_again() {
    let lab = lab();
    let run = ["run", "shell", "--image", IMAGE, "-it", "--restart=Never", "--leave-stdin-open", "--env", "PS1=> "];
    let mut terminal = Terminal::start(&lab, &[&run[..], &["--", "sh", "-c", "echo early; exec sh"]].concat());
    terminal.sees("early");
    terminal.sees("> ");
    terminal.types("stty size\r");
    terminal.sees("24 80");
    let _ = lab.shell("pkill -TERM -f '^minipod run shell'").expect_success();
    assert_eq!(terminal.end(), Some(143));
    assert!(terminal.is_cooked());

    let mut terminal = Terminal::start(&lab, &["attach", "-it", "shell"]);
    terminal.wait_raw();
    terminal.types("echo $((2200 + 22))\r");
    terminal.sees("2222");
    terminal.types("exit 6\r");
    assert_eq!(terminal.end(), Some(0), "the container's exit code is in the pod's status");
    assert!(terminal.is_cooked());
    let code = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    until("the pod's end", LIMIT, || (lab.minipod(&["get", "pod", "shell", "-o", code]).stdout == "6").then_some(()))
        .expect("ended with 6");
}

#[test]
fn a_run_with_a_terminal_ends_as_its_container_and_leaves_nothing() {
    let lab = lab();
    let run = ["run", "once", "--image", IMAGE, "--rm", "-it", "--restart=Never", "--env", "PS1=> "];
    let mut terminal = Terminal::start(&lab, &run);
    terminal.sees("> ");
    terminal.types("exit 7\r");
    assert_eq!(terminal.end(), Some(7));
    terminal.sees("pod \"once\" deleted");
    assert!(terminal.is_cooked());

    let mut terminal = Terminal::start(&lab, &run);
    terminal.sees("> ");
    terminal.types(CTRL_D);
    assert_eq!(terminal.end(), Some(0));
    assert_eq!(lab.minipod(&["get", "pods", "-o", "name"]).expect_success(), "");

    // A terminal in the container, but none here: the end of the input is typed there.
    let ran = lab.minipod_with_input(&run, "echo $((3300 + 33))\n");
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stdout.contains("3333"), "{ran}");
    assert_eq!(ran.stderr, "Unable to use a TTY - input is not a terminal or the right kind of file\n");
}

#[test]
fn the_end_of_the_input_reaches_whoever_reads_the_terminal() {
    let lab = lab();
    let run = |name: &str, script: &str, input: &str| {
        let run = ["run", name, "--image", IMAGE, "--rm", "-it", "--restart=Never", "-q", "--", "sh", "-c", script];
        lab.minipod_with_input(&run, input)
    };
    // A shell that makes the terminal raw only when the key has been typed: the kernel gives it a zero byte instead.
    let ran = run("late", "sleep 1; exec sh", "echo $((3300 + 33))\n");
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stdout.contains("3333"), "{ran}");
    // Two programs, one after the other.
    let ran = run("two", "cat; echo between; cat; echo last", "once\n");
    assert_eq!(ran.code, Some(0), "{ran}");
    assert!(ran.stdout.contains("between\r\nlast\r\n"), "{ran}");
}

#[test]
fn a_container_that_ends_at_once_is_shown_whole_in_a_terminal() {
    let lab = lab();
    for round in 0..50 {
        let name = format!("e{round}");
        let run = ["run", &name, "--image", IMAGE, "--restart=Never", "--rm", "-it", "--"];
        let mut terminal = Terminal::start(&lab, &[&run[..], &["sh", "-c", "echo h$((1)); exit 3"]].concat());
        terminal.sees("h1\r\n");
        assert_eq!(terminal.end(), Some(3), "round {round}");
        assert!(terminal.is_cooked(), "round {round}");
    }
}
