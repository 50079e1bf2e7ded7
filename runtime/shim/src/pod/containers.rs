//! Making, starting, signalling and burying containers, and processes in them.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};
use std::rc::Rc;

use anyhow::Context;
use minipod_protocol::shim::{Container, Exec, Failure, Seccomp};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, fchown, pipe2};

use super::process::{Ends, Process, Role};
use super::setup::shield_from_oom_killer;
use super::stop_signals::listens;
use super::{Key, Pod, note};
use crate::cri_log::LogFile;
use crate::executor::{Making, Spawned, Stdio};
use crate::lifecycle::{Ended, NotStarted, Slot};
use crate::overlay;
use crate::seccomp::compile_default;
use crate::spec::{PodFiles, compile_process, compile_spec, unknown_capability};
use crate::workload::{Workload, environment};

/// A program is executed within this time, or has failed.
const EXECUTION_MILLIS: u16 = 10_000;

impl Pod {
    pub(super) fn start_container(&mut self, slot: Slot, attempt: u32) {
        let container = self.container(slot).clone();
        self.untidy = true;
        let started = self.make_container(&container, slot, attempt);
        let now = self.now();
        match started {
            Ok(pid) => self.life.started(slot, pid, now),
            Err(why) => {
                self.bury(&container);
                self.life.not_started(slot, why, now);
            }
        }
    }

    fn make_container(&mut self, container: &Container, slot: Slot, attempt: u32) -> Result<i32, NotStarted> {
        let failed = |error: anyhow::Error| NotStarted::Create(format!("{error:#}"));
        if let Some(why) = &container.unstartable {
            return Err(NotStarted::Create(why.clone()));
        }
        let made = match self.prepared.remove(&slot) {
            Some(made) => made,
            None => self.create(container, attempt).and_then(|being| self.created(container, being)).map_err(failed)?,
        };
        let Made { pid, ends, report, log } = made;
        self.executor.start(&container.name).map_err(|error| failed(error.into()))?;
        if let Some(message) = outcome(report).map_err(failed)? {
            return Err(NotStarted::Start(message));
        }
        let process = Process::new(pid, Role::Container(slot), ends, Some(log), container.stdin)
            .map_err(|error| failed(error.into()))?;
        let key = self.new_key();
        self.processes.insert(key, process);
        Ok(pid)
    }

    /// Makes what will be started first, while netd makes the network. What fails here fails again, and is told, when it is
    /// to be started.
    pub(super) fn prepare_containers(&mut self) {
        let first = self.life.first().into_iter().map(|slot| (slot, self.container(slot).clone()));
        let first: Vec<_> = first.filter(|(_, container)| container.unstartable.is_none()).collect();
        let begun: Vec<_> = first.iter().map(|(_, container)| self.create(container, 0)).collect();
        for ((slot, container), being) in first.into_iter().zip(begun) {
            match being.and_then(|being| self.created(&container, being)) {
                Ok(made) => drop(self.prepared.insert(slot, made)),
                Err(_) => self.bury(&container),
            }
        }
    }

    /// Ends what was made and will not be started.
    pub(super) fn discard_prepared(&mut self) {
        for (slot, made) in std::mem::take(&mut self.prepared) {
            send_signal(made.pid, libc::SIGKILL);
            self.bury(&self.container(slot).clone());
        }
    }

    /// Begins to make a container.
    fn create(&self, container: &Container, attempt: u32) -> anyhow::Result<Being> {
        if let Some(name) = unknown_capability(&container.capabilities) {
            anyhow::bail!("container `{}` asks for the unknown capability `{name}`", container.name);
        }
        // what an earlier start has left
        self.executor.forget(&container.name).context("cannot remove the earlier container")?;
        let log = LogFile::open(&container.log_directory, attempt)
            .with_context(|| format!("cannot open the log in `{}`", container.log_directory.display()))?;
        let (report, told) = report_pipe()?;
        let (stdio, ours) = streams(container, container.tty, container.stdin)?;
        let plan = || {
            let rootfs = overlay::ensure_fresh_rootfs(container)?;
            make_directory_inside(&rootfs, Path::new(&container.working_dir))
                .with_context(|| format!("cannot make the working directory `{}`", container.working_dir))?;
            let cgroup = self.cgroup_of(container);
            let files = PodFiles { shm: &self.shm, etc: &self.etc, cgroups: &self.cgroups.v1_groups(&cgroup) };
            let spec = compile_spec(container, &rootfs, &cgroup, &files)?;
            let env = environment(&container.env, std::iter::empty(), container.tty);
            Ok((spec, workload(container, env, told)?))
        };
        let making = unshielded(|| self.executor.create(&container.name, Box::new(plan), stdio))?;
        Ok(Being { making, ours, report, log })
    }

    /// Waits until a container is made.
    fn created(&self, container: &Container, being: Being) -> anyhow::Result<Made> {
        let Being { making, ours, report, log } = being;
        let spawned = making.finish()?;
        let pid = spawned.pid;
        if let Err(error) = self.cgroups.limit_devices(&self.cgroup_of(container)) {
            send_signal(pid, libc::SIGKILL);
            return Err(error.into());
        }
        let ends = ours.complete(spawned)?;
        Ok(Made { pid, ends, report, log })
    }

    fn cgroup_of(&self, container: &Container) -> String {
        format!("{}/{}", group(&self.sandbox.cgroup), container.name)
    }

    /// Starts a process in a running container.
    pub(super) fn exec(&mut self, exec: &Exec) -> Result<Key, Failure> {
        let slot = self.life.running(&exec.container)?;
        let container = self.container(slot).clone();
        self.exec_in(&container, exec)
            .map_err(|error| Failure { reason: "StartError".into(), message: format!("{error:#}") })
    }

    fn exec_in(&mut self, container: &Container, exec: &Exec) -> anyhow::Result<Key> {
        self.untidy = true;
        anyhow::ensure!(!exec.args.is_empty(), "no command to execute in container `{}`", container.name);
        let (report, told) = report_pipe()?;
        let (stdio, ours) = streams(container, exec.tty, exec.stdin)?;
        let plan = || {
            let env = environment(&container.env, exec.env.iter(), exec.tty);
            let process = compile_process(container, &exec.args, &env, exec.tty)?;
            Ok((process, workload(container, env, told)?))
        };
        let spawned = unshielded(|| self.executor.exec(&container.name, Box::new(plan), stdio));
        // the report says best what went wrong, where there is one
        if let Some(message) = outcome(report)? {
            anyhow::bail!(message);
        }
        let spawned = spawned?;
        let pid = spawned.pid;
        let ends = ours.complete(spawned)?;
        let process = Process::new(pid, Role::Exec, ends, None, false)?;
        if let Some(size) = exec.size {
            process.resize(size);
        }
        let key = self.new_key();
        self.processes.insert(key, process);
        Ok(key)
    }

    /// Sends a signal to a container; a stop signal as soon as its program listens.
    pub(super) fn signal_container(&mut self, slot: Slot, signal: i32) {
        let process = self.processes.values().find(|process| process.role == Role::Container(slot));
        let Some(pid) = process.map(|process| process.pid) else { return };
        if signal == libc::SIGKILL || listens(pid, signal) {
            self.stop_signals.forget(slot);
            send_signal(pid, signal);
        } else {
            self.stop_signals.keep(slot, signal, self.epoch.elapsed());
        }
    }

    /// Looks whether those that did not listen to their stop signal do now.
    pub(super) fn repeat_stop_signals(&mut self) {
        for (slot, signal) in self.stop_signals.due(self.epoch.elapsed()) {
            let process = self.processes.values().find(|process| process.role == Role::Container(slot));
            let Some(pid) = process.map(|process| process.pid) else { continue };
            if listens(pid, signal) {
                self.stop_signals.forget(slot);
                send_signal(pid, signal);
            }
        }
    }

    /// Types the end of their input again for those whose terminal has lost it.
    pub(super) fn repeat_ends_of_input(&mut self) {
        let now = self.epoch.elapsed();
        for process in self.processes.values_mut() {
            process.repeat_end_of_input(now);
        }
    }

    /// A child of the shim has ended. One that is unknown was a helper of the executor.
    pub(super) fn process_ended(&mut self, pid: i32, code: i32, signal: Option<i32>) {
        let Some((key, role)) =
            self.processes.iter().find(|(_, process)| process.pid == pid).map(|(key, process)| (*key, process.role))
        else {
            return;
        };
        self.end_streams(key, code);
        self.processes.remove(&key);
        if let Role::Container(slot) = role {
            self.stop_signals.forget(slot);
            let container = self.container(slot).clone();
            let out_of_memory = self.cgroups.memory_kills(&self.cgroup_of(&container)) > 0;
            self.bury(&container);
            let now = self.now();
            self.life.exited(slot, Ended { code, signal, out_of_memory }, now);
        }
    }

    /// Removes what is left of a container that has ended, but not its log.
    fn bury(&self, container: &Container) {
        if let Err(error) = self.cgroups.remove(&self.cgroup_of(container)) {
            note(&format!("{:#}", anyhow::Error::from(error)));
        }
        if let Err(error) = self.executor.forget(&container.name) {
            note(&format!("cannot remove the state of container `{}`: {error}", container.name));
        }
        overlay::unmount(&overlay::rootfs_of(container));
    }
}

/// The cgroup around the containers of the pod with this cgroup.
pub(super) fn group(of_pod: &str) -> String {
    format!("{of_pod}/containers")
}

/// A container that is being made.
struct Being {
    making: Box<dyn Making>,
    ours: Ours,
    report: OwnedFd,
    log: LogFile,
}

/// A container whose first process waits.
pub(super) struct Made {
    pid: i32,
    ends: Ends,
    report: OwnedFd,
    log: LogFile,
}

/// The shim's ends, as far as they are known before the process.
enum Ours {
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Terminal,
}

impl Ours {
    fn complete(self, spawned: Spawned) -> anyhow::Result<Ends> {
        match self {
            Self::Pipes { stdin, stdout, stderr } => Ok(Ends::Pipes { stdin, stdout, stderr }),
            Self::Terminal => Ok(Ends::Terminal(spawned.terminal.context("the executor gave no terminal")?)),
        }
    }
}

fn streams(container: &Container, tty: bool, stdin: bool) -> anyhow::Result<(Stdio, Ours)> {
    if tty {
        return Ok((Stdio::Terminal, Ours::Terminal));
    }
    let pipe = || pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe");
    let (their_stdin, our_stdin) = if stdin {
        let (reader, writer) = pipe()?;
        (reader, Some(writer))
    } else {
        (OwnedFd::from(File::open("/dev/null").context("cannot open /dev/null")?), None)
    };
    let ((our_stdout, their_stdout), (our_stderr, their_stderr)) = (pipe()?, pipe()?);
    // so that a program that is not root can open /dev/stdout
    for end in [&their_stdout, &their_stderr] {
        fchown(end, Some(Uid::from_raw(container.uid)), Some(Gid::from_raw(container.gid)))
            .context("cannot give a pipe to the container's user")?;
    }
    let theirs = Stdio::Pipes { stdin: their_stdin, stdout: their_stdout, stderr: their_stderr };
    Ok((theirs, Ours::Pipes { stdin: our_stdin, stdout: our_stdout, stderr: our_stderr }))
}

/// Where the outcome of an execution is read, and where it is written.
fn report_pipe() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")
}

/// What the container's processes do before they execute their program.
fn workload(container: &Container, env: Vec<String>, report: OwnedFd) -> anyhow::Result<Workload> {
    let capabilities = container.capabilities.clone();
    let seccomp = match container.seccomp {
        Seccomp::Unconfined => None,
        Seccomp::RuntimeDefault => Some(Rc::new(compile_default(&capabilities)?)),
    };
    Ok(Workload { capabilities, seccomp, env, report: Rc::new(report), home: std::cell::RefCell::new(None) })
}

/// Makes a process that does not inherit the shim's protection.
fn unshielded<T>(make: impl FnOnce() -> T) -> T {
    shield_from_oom_killer(false);
    let process = make();
    shield_from_oom_killer(true);
    process
}

/// Waits until the program is executed; the message if it was not.
fn outcome(report: OwnedFd) -> anyhow::Result<Option<String>> {
    let mut descriptors = [PollFd::new(report.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut descriptors, PollTimeout::from(EXECUTION_MILLIS)).context("cannot wait for the program")?;
    anyhow::ensure!(ready > 0, "the program was not executed within {} s", EXECUTION_MILLIS / 1000);
    let mut message = String::new();
    File::from(report).read_to_string(&mut message).context("cannot read why the program was not executed")?;
    Ok((!message.is_empty()).then_some(message))
}

/// Makes a directory below the root file system, as far as no symbolic link is on the way.
fn make_directory_inside(rootfs: &Path, directory: &Path) -> std::io::Result<()> {
    let mut path = rootfs.to_owned();
    for component in directory.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => return Ok(()),
        }
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => fs::create_dir(&path)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends a signal to a child; one that has just ended is a zombie until it is waited for, so the number is still its own.
pub(super) fn send_signal(pid: i32, signal: i32) {
    if let Ok(signal) = Signal::try_from(signal)
        && pid > 0
    {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
