//! The pod at run time: one loop over one `poll(2)`, and the effects that [`crate::lifecycle`] asks for.
//!
//! [`Pod`] owns every descriptor and child process. Nothing in the loop waits longer than it takes to make a container; what
//! could take long (netd, slow readers) is advanced as its descriptor allows.

mod connection;
mod containers;
mod network;
mod process;
mod requests;
mod setup;
mod stop_signals;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use minipod_protocol::shim::{Container, Failure, Resources, Sandbox, State, files};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::cgroup::{CgroupError, Cgroups};
use crate::cri_log::Stream;
use crate::executor::{Executor, by_name};
use crate::helper::Helper;
use crate::lifecycle::{Action, Lifecycle, Moment, Slot};
use connection::Connection;
use containers::Made;
use network::Network;
use process::Process;
use stop_signals::StopSignals;

pub(crate) use setup::note;

/// The executor that makes this pod's containers.
const EXECUTOR: &str = "libcontainer";

/// Memory is given back when nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(100);

/// A key of [`Pod::processes`] or [`Pod::connections`]; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u64);

/// Everything of one pod.
struct Pod {
    directory: PathBuf,
    sandbox: Sandbox,
    start_time: u64,
    epoch: Instant,
    life: Lifecycle,
    network: Network,
    failure: Option<Failure>,
    executor: Box<dyn Executor>,
    cgroups: Cgroups,
    /// the pod's `/dev/shm`
    shm: PathBuf,
    /// what is bound into `/etc` of the containers
    etc: Vec<(PathBuf, PathBuf)>,
    /// containers that were made while the network was not there yet; their processes wait
    prepared: BTreeMap<Slot, Made>,
    processes: BTreeMap<Key, Process>,
    connections: BTreeMap<Key, Connection>,
    stop_signals: StopSignals,
    last_key: u64,
    listener: UnixListener,
    signals: SignalFd,
    finished: bool,
    /// something was made since memory was last given back
    untidy: bool,
    published: Option<State>,
}

/// Makes the pod's cgroups and moves the shim into its own.
fn join_cgroup(cgroups: &Cgroups, sandbox: &Sandbox, shim: u32) -> Result<(), CgroupError> {
    cgroups.ensure(&sandbox.cgroup, &Resources { memory_bytes: None, ..sandbox.resources })?;
    // Around the containers alone: what they leave in `/dev/shm` must take nothing of the shim's.
    let memory = Resources { memory_bytes: sandbox.resources.memory_bytes, ..Resources::default() };
    cgroups.ensure(&containers::group(&sandbox.cgroup), &memory)?;
    let own = format!("{}/shim", sandbox.cgroup);
    cgroups.ensure(&own, &Resources::default())?;
    cgroups.place(shim, &own)
}

/// What a descriptor in the poll set belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Netd,
    Connection(Key),
    Stdin(Key),
    Output(Key, Stream),
}

/// Runs the pod to its end.
pub(crate) fn run(directory: &Path) -> anyhow::Result<()> {
    setup::enter_background(directory)?;
    let text = fs::read(directory.join(files::SANDBOX)).context("cannot read pod.json")?;
    let sandbox: Sandbox = serde_json::from_slice(&text).context("cannot understand pod.json")?;
    let mut pod = match Pod::new(directory, sandbox.clone()) {
        Ok(pod) => pod,
        Err(error) => {
            let message = format!("{error:#}");
            setup::write_state(directory, &failed(&sandbox, message))?;
            return Err(error);
        }
    };
    pod.work()?;
    pod.clean_up();
    Ok(())
}

impl Pod {
    fn new(directory: &Path, sandbox: Sandbox) -> anyhow::Result<Self> {
        let cgroups = Cgroups::observe()?;
        // The kernel may let the move wait some ten milliseconds; meanwhile this process makes the rest.
        let own = std::process::id();
        let joining = Helper::start(|| join_cgroup(&cgroups, &sandbox, own).map(|()| 0).map_err(Into::into))?;
        let signals = setup::take_signals()?;
        let listener = setup::listen()?;
        let shm = setup::isolate(directory, &sandbox)?;
        let etc = crate::etc_files::ensure_all(&directory.join("etc")).context("cannot make the pod's /etc files")?;
        let epoch = Instant::now();
        // netd works while this process makes the rest
        let network = Network::begin(&sandbox, epoch.elapsed());
        let executor = by_name(EXECUTOR, directory)
            .with_context(|| format!("no executor `{EXECUTOR}`; known: {}", crate::executor::KNOWN))?;
        joining.finish()?;
        setup::shield_from_oom_killer(true);
        Ok(Self {
            directory: directory.to_owned(),
            start_time: setup::own_start_time()?,
            epoch,
            life: Lifecycle::new(&sandbox),
            network,
            sandbox,
            failure: None,
            executor,
            cgroups,
            shm,
            etc,
            prepared: BTreeMap::new(),
            processes: BTreeMap::new(),
            connections: BTreeMap::new(),
            stop_signals: StopSignals::default(),
            last_key: 0,
            listener,
            signals,
            finished: false,
            untidy: true,
            published: None,
        })
    }

    fn work(&mut self) -> anyhow::Result<()> {
        self.prepare_containers();
        while !self.finished {
            self.advance_network();
            self.give_up_stuck();
            self.repeat_stop_signals();
            self.repeat_ends_of_input();
            let now = self.now();
            for action in self.life.due(now) {
                self.act(action);
            }
            self.publish();
            if self.finished {
                break;
            }
            let ready = self.wait()?;
            if ready.is_empty() && self.untidy && self.is_quiet() {
                crate::memory::give_back();
                self.untidy = false;
            }
            for (source, flags) in ready {
                self.serve(source, flags);
            }
        }
        self.publish();
        Ok(())
    }

    fn now(&self) -> Moment {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Moment { monotonic: self.epoch.elapsed(), wall }
    }

    fn new_key(&mut self) -> Key {
        self.last_key += 1;
        Key(self.last_key)
    }

    fn container(&self, slot: Slot) -> &Container {
        let inits = self.sandbox.init_containers.len();
        match slot.0.checked_sub(inits) {
            Some(index) => &self.sandbox.containers[index],
            None => &self.sandbox.init_containers[slot.0],
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start { slot, attempt } => self.start_container(slot, attempt),
            Action::Signal { slot, signal } => self.signal_container(slot, signal),
            Action::Finish => {
                self.discard_prepared();
                self.network.release(&self.sandbox, self.epoch.elapsed());
            }
        }
    }

    /// Waits for the next event or deadline.
    fn wait(&self) -> anyhow::Result<Vec<(Source, PollFlags)>> {
        let wanted = self.wanted();
        let mut descriptors: Vec<PollFd<'_>> =
            wanted.iter().map(|(_, descriptor, flags)| PollFd::new(*descriptor, *flags)).collect();
        match poll(&mut descriptors, self.timeout()) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for events"),
        }
        let ready = wanted.iter().zip(&descriptors).filter_map(|((source, _, _), descriptor)| {
            let flags = descriptor.revents().unwrap_or(PollFlags::empty());
            (!flags.is_empty()).then_some((*source, flags))
        });
        Ok(ready.collect())
    }

    fn wanted(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut wanted = vec![
            (Source::Signals, self.signals.as_fd(), PollFlags::POLLIN),
            (Source::Listener, self.listener.as_fd(), PollFlags::POLLIN),
        ];
        if let Some((descriptor, flags)) = self.network.wanted() {
            wanted.push((Source::Netd, descriptor, flags));
        }
        for (key, connection) in &self.connections {
            let accepts_more = connection
                .process()
                .is_none_or(|process| self.processes.get(&process).is_none_or(Process::takes_more_stdin));
            wanted.push((Source::Connection(*key), connection.as_fd(), connection.wanted(accepts_more)));
        }
        for (key, process) in &self.processes {
            if let Some(descriptor) = process.stdin_to_write() {
                wanted.push((Source::Stdin(*key), descriptor, PollFlags::POLLOUT));
            }
            let congested = self.connections.values().any(|c| c.process() == Some(*key) && c.is_congested());
            if !congested {
                for (stream, descriptor) in process.outputs() {
                    wanted.push((Source::Output(*key, stream), descriptor, PollFlags::POLLIN));
                }
            }
        }
        wanted
    }

    /// Whether nothing is due within the time after which memory is given back.
    fn is_quiet(&self) -> bool {
        self.deadline().is_none_or(|at| at > self.epoch.elapsed() + QUIET)
    }

    /// When something is due, if only time passes.
    fn deadline(&self) -> Option<Duration> {
        let ends_of_input = self.processes.values().filter_map(Process::end_of_input_due);
        let others = [self.life.deadline(), self.network.deadline(), self.stop_signals.deadline()];
        others.into_iter().flatten().chain(ends_of_input).min()
    }

    fn timeout(&self) -> PollTimeout {
        // rounded up, so that the deadline has passed when the wait is over
        let left = self.deadline().map(|at| at.saturating_sub(self.epoch.elapsed()) + Duration::from_micros(999));
        let quiet = self.untidy.then_some(QUIET);
        let patience = self.connections.values().any(Connection::is_congested).then_some(connection::PATIENCE);
        let Some(wait) = left.into_iter().chain(quiet).chain(patience).min() else { return PollTimeout::NONE };
        PollTimeout::try_from(wait.as_millis().min(60_000)).unwrap_or(PollTimeout::ZERO)
    }

    fn serve(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Signals => self.take_signals(),
            Source::Listener => self.accept(),
            Source::Netd => {} // advanced before every wait
            Source::Connection(key) => self.serve_connection(key, flags),
            Source::Stdin(key) => {
                if let Some(process) = self.processes.get_mut(&key) {
                    process.write_stdin();
                }
            }
            Source::Output(key, stream) => self.pass_output(key, stream),
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).unwrap_or_default();
            if signal == Signal::SIGTERM as i32 || signal == Signal::SIGINT as i32 {
                self.stop(Duration::from_secs(self.sandbox.grace_period_seconds));
            }
        }
        // one SIGCHLD may stand for several children
        while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            match status {
                WaitStatus::Exited(pid, code) => self.process_ended(pid.as_raw(), code, None),
                WaitStatus::Signaled(pid, signal, _) => {
                    self.process_ended(pid.as_raw(), 128 + signal as i32, Some(signal as i32));
                }
                WaitStatus::StillAlive => break,
                _ => {}
            }
        }
    }

    fn stop(&mut self, grace: Duration) {
        let now = self.now();
        for action in self.life.stop(grace, now) {
            self.act(action);
        }
    }

    fn state(&self) -> State {
        let (init_containers, containers) = self.life.states();
        State {
            uid: self.sandbox.uid.clone(),
            pid: i32::try_from(std::process::id()).unwrap_or_default(),
            start_time: self.start_time,
            network: self.network.attached().cloned(),
            failure: self.failure.clone(),
            init_containers,
            containers,
            stopping: self.life.stopping(),
            network_released: self.network.is_released(),
            finished: self.finished,
        }
    }

    /// Writes the state down and tells the watchers, if it has changed.
    fn publish(&mut self) {
        let state = self.state();
        if self.published.as_ref() == Some(&state) {
            return;
        }
        if let Err(error) = setup::write_state(&self.directory, &state) {
            // a full disk must not end the pod; watchers still hear it
            note(&format!("{error:#}"));
        }
        self.tell_watchers(&state);
        self.published = Some(state);
    }

    /// Leaves nothing behind but the directory.
    fn clean_up(&mut self) {
        // before the last requests are answered: who comes later finds nobody
        drop(fs::remove_file(files::SOCKET));
        self.answer_last_requests();
        self.flush_connections();
        for container in self.sandbox.init_containers.iter().chain(&self.sandbox.containers) {
            crate::overlay::unmount(&crate::overlay::rootfs_of(container));
        }
        let removed =
            self.cgroups.place(std::process::id(), "/").and_then(|()| self.cgroups.remove(&self.sandbox.cgroup));
        if let Err(error) = removed {
            note(&format!("{:#}", anyhow::Error::from(error)));
        }
    }
}

/// The state of a pod that could not be set up.
fn failed(sandbox: &Sandbox, message: String) -> State {
    let (init_containers, containers) = Lifecycle::new(sandbox).states();
    State {
        uid: sandbox.uid.clone(),
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        start_time: setup::own_start_time().unwrap_or_default(),
        network: None,
        failure: Some(Failure { reason: network::SANDBOX_FAILED.into(), message }),
        init_containers,
        containers,
        stopping: false,
        // netd may have been asked before the set-up failed
        network_released: sandbox.netd_socket.is_none(),
        finished: true,
    }
}

/// Writes the whole file under another name first, so that a reader sees all of it or none.
fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    File::create(&temporary)?.write_all(content)?;
    fs::rename(&temporary, path)
}
