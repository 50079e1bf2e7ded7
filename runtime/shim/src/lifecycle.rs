//! What is to be done next with a pod's containers. Pure: events and the time go in, actions come out.
//!
//! Decides the order of init containers, restarts, the stop with its grace period, and when the pod has ended. Never touches a
//! process, a file or a clock; the effects are in [`crate::pod`].

use std::time::Duration;

use minipod_protocol::shim::{Container, ContainerState, Failure, Phase, RestartPolicy, Sandbox, Terminated};

use crate::restart::{BackOff, wants_restart};

/// Kubernetes' exit code of a container whose process could not be started.
const START_ERROR_CODE: i32 = 128;

/// A point in time on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// on a clock that never jumps, since any fixed point
    pub(crate) monotonic: Duration,
    /// since the Unix epoch
    pub(crate) wall: Duration,
}

impl Moment {
    /// Milliseconds since the Unix epoch.
    pub(crate) fn unix_millis(self) -> u64 {
        u64::try_from(self.wall.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A container's place in the pod: init containers first, then the containers, in the order of the pod's specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) usize);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// make and start the container; answered by [`Lifecycle::started`] or [`Lifecycle::not_started`]
    Start {
        /// the container
        slot: Slot,
        /// how often it was started before
        attempt: u32,
    },
    /// send the signal to the container's first process
    Signal {
        /// the container
        slot: Slot,
        /// the signal's number
        signal: i32,
    },
    /// everything has ended: release the network and the cgroups, and exit
    Finish,
}

/// How a container's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// the code, or 128 + signal
    pub(crate) code: i32,
    /// the signal, if one ended it
    pub(crate) signal: Option<i32>,
    /// the kernel killed a process of the container for memory
    pub(crate) out_of_memory: bool,
}

/// Why a container could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotStarted {
    /// it could not be made (root file system, cgroup); it is tried again whatever `restartPolicy` says
    Create(String),
    /// it was made, but its program could not be executed; counts as an exit
    Start(String),
}

/// The life of a pod's containers.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    pod: String,
    policy: RestartPolicy,
    inits: usize,
    entries: Vec<Entry>,
    network_ready: bool,
    stopping: bool,
    finished: bool,
}

#[derive(Debug)]
struct Entry {
    name: String,
    stop_signal: i32,
    back_off: BackOff,
    phase: Phase,
    last: Option<Terminated>,
    /// starts so far
    attempts: u32,
    /// why it was killed, for the status
    kill_reason: String,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// to be started when its turn has come, not before this time
    Due(Duration),
    /// an [`Action::Start`] is under way
    Starting,
    Running {
        since: Duration,
        kill_at: Option<Duration>,
    },
    /// never started again
    Ended,
}

impl Lifecycle {
    /// The life of the pod's containers, before anything was started.
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let inits = sandbox.init_containers.len();
        let entries =
            sandbox.init_containers.iter().chain(&sandbox.containers).enumerate().map(|(index, container)| {
                let reason = if inits > 0 && index > 0 { "PodInitializing" } else { "ContainerCreating" };
                Entry::new(container, reason)
            });
        Self {
            pod: format!("{}/{}", sandbox.namespace, sandbox.name),
            policy: sandbox.restart_policy,
            inits,
            entries: entries.collect(),
            network_ready: false,
            stopping: false,
            finished: false,
        }
    }

    /// The pod's network is there: containers may start.
    pub(crate) fn network_ready(&mut self) {
        self.network_ready = true;
    }

    /// The container runs.
    pub(crate) fn started(&mut self, slot: Slot, pid: i32, now: Moment) {
        let entry = &mut self.entries[slot.0];
        entry.attempts += 1;
        entry.phase = Phase::Running { pid, started_at: now.unix_millis() };
        entry.stage = Stage::Running { since: now.monotonic, kill_at: None };
    }

    /// The container could not be started.
    pub(crate) fn not_started(&mut self, slot: Slot, why: NotStarted, now: Moment) {
        match why {
            NotStarted::Create(message) => {
                let entry = &mut self.entries[slot.0];
                entry.phase = Phase::Waiting(Failure { reason: "CreateContainerError".into(), message });
                let delay = entry.back_off.after(Duration::ZERO);
                entry.stage = if self.stopping { Stage::Ended } else { Stage::Due(now.monotonic + delay) };
            }
            NotStarted::Start(message) => {
                self.entries[slot.0].attempts += 1;
                let at = now.unix_millis();
                let terminated = Terminated {
                    reason: "StartError".into(),
                    message,
                    exit_code: START_ERROR_CODE,
                    signal: None,
                    started_at: at,
                    finished_at: at,
                };
                self.ended(slot, terminated, Duration::ZERO, now);
            }
        }
    }

    /// The container's first process has ended. Nothing happens for a container that does not run.
    pub(crate) fn exited(&mut self, slot: Slot, ended: Ended, now: Moment) {
        let Stage::Running { since, .. } = self.entries[slot.0].stage else { return };
        let Phase::Running { started_at, .. } = self.entries[slot.0].phase else { return };
        let reason = match ended.code {
            0 => "Completed",
            _ if ended.out_of_memory => "OOMKilled",
            _ => "Error",
        };
        let terminated = Terminated {
            reason: reason.into(),
            message: std::mem::take(&mut self.entries[slot.0].kill_reason),
            exit_code: ended.code,
            signal: ended.signal,
            started_at,
            finished_at: now.unix_millis(),
        };
        self.ended(slot, terminated, now.monotonic.saturating_sub(since), now);
    }

    fn ended(&mut self, slot: Slot, terminated: Terminated, ran_for: Duration, now: Moment) {
        let init = slot.0 < self.inits;
        let restart = !self.stopping && wants_restart(self.policy, init, terminated.exit_code);
        let entry = &mut self.entries[slot.0];
        if !restart {
            entry.phase = Phase::Terminated(terminated);
            entry.stage = Stage::Ended;
            return;
        }
        let delay = entry.back_off.after(ran_for);
        entry.stage = Stage::Due(now.monotonic + delay);
        if delay.is_zero() {
            entry.phase = Phase::Terminated(terminated);
        } else {
            let message =
                format!("back-off {} restarting failed container={} pod={}", spoken(delay), entry.name, self.pod);
            entry.phase = Phase::Waiting(Failure { reason: "CrashLoopBackOff".into(), message });
            entry.last = Some(terminated);
        }
    }

    /// Ends the pod: what runs gets its stop signal now and SIGKILL after `grace`; of two stops the shorter grace wins.
    pub(crate) fn stop(&mut self, grace: Duration, now: Moment) -> Vec<Action> {
        let first = !self.stopping;
        self.stopping = true;
        let mut actions = Vec::new();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            match entry.stage {
                Stage::Running { .. } => actions.extend(entry.stop(Slot(index), grace, now, first)),
                Stage::Due(_) => entry.stage = Stage::Ended,
                Stage::Starting | Stage::Ended => {}
            }
        }
        actions
    }

    /// Ends one container as a failed liveness probe does; `restartPolicy` decides what follows. `None` if it does not run.
    pub(crate) fn kill(&mut self, slot: Slot, grace: Duration, reason: String, now: Moment) -> Option<Action> {
        let entry = &mut self.entries[slot.0];
        let action = entry.stop(slot, grace, now, true)?;
        entry.kill_reason = reason;
        Some(action)
    }

    /// What is due now. A second call at the same time gives nothing more until an event was reported.
    pub(crate) fn due(&mut self, now: Moment) -> Vec<Action> {
        if self.finished {
            return Vec::new();
        }
        let mut actions = Vec::new();
        for slot in self.startable() {
            let entry = &mut self.entries[slot.0];
            if matches!(entry.stage, Stage::Due(at) if at <= now.monotonic) {
                if let Phase::Terminated(terminated) = &entry.phase {
                    entry.last = Some(terminated.clone());
                }
                entry.stage = Stage::Starting;
                actions.push(Action::Start { slot, attempt: entry.attempts });
            }
        }
        for (index, entry) in self.entries.iter_mut().enumerate() {
            if let Stage::Running { since, kill_at: Some(at) } = entry.stage
                && at <= now.monotonic
            {
                entry.stage = Stage::Running { since, kill_at: None };
                actions.push(Action::Signal { slot: Slot(index), signal: libc::SIGKILL });
            }
        }
        if self.has_ended() {
            self.finished = true;
            actions.push(Action::Finish);
        }
        actions
    }

    /// When [`Lifecycle::due`] has something next, if only time passes.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let starts = self.startable().into_iter().filter_map(|slot| match self.entries[slot.0].stage {
            Stage::Due(at) => Some(at),
            _ => None,
        });
        let kills = self.entries.iter().filter_map(|entry| match entry.stage {
            Stage::Running { kill_at, .. } => kill_at,
            _ => None,
        });
        starts.chain(kills).min()
    }

    /// The states of the init containers and of the containers.
    pub(crate) fn states(&self) -> (Vec<ContainerState>, Vec<ContainerState>) {
        let mut init: Vec<ContainerState> = self.entries.iter().map(Entry::state).collect();
        let containers = init.split_off(self.inits);
        (init, containers)
    }

    /// Whether a stop was asked for.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping
    }

    /// The container of that name, if it runs.
    pub(crate) fn running(&self, name: &str) -> Result<Slot, Failure> {
        let found = self.entries.iter().position(|entry| entry.name == name);
        let (index, entry) = found.map(|index| (index, &self.entries[index])).ok_or_else(|| Failure {
            reason: "NotFound".into(),
            message: format!("pod `{}` has no container `{name}`", self.pod),
        })?;
        match entry.stage {
            Stage::Running { .. } => Ok(Slot(index)),
            _ => Err(Failure {
                reason: "NotRunning".into(),
                message: format!("container `{name}` of pod `{}` is not running", self.pod),
            }),
        }
    }

    /// What will be started first, once the network is there.
    pub(crate) fn first(&self) -> Vec<Slot> {
        self.in_turn()
    }

    fn startable(&self) -> Vec<Slot> {
        if self.network_ready && !self.stopping { self.in_turn() } else { Vec::new() }
    }

    /// The containers whose turn it is: the first init container that has not succeeded, else all containers.
    fn in_turn(&self) -> Vec<Slot> {
        match (0..self.inits).find(|index| !self.entries[*index].succeeded()) {
            Some(index) => vec![Slot(index)],
            None => (self.inits..self.entries.len()).map(Slot).collect(),
        }
    }

    fn has_ended(&self) -> bool {
        let active = |entry: &Entry| matches!(entry.stage, Stage::Starting | Stage::Running { .. });
        if self.entries.iter().any(active) {
            return false;
        }
        let ended = |entry: &Entry| entry.stage == Stage::Ended;
        let init_failed = self.entries[..self.inits].iter().any(|entry| ended(entry) && !entry.succeeded());
        self.stopping || init_failed || self.entries[self.inits..].iter().all(ended)
    }
}

impl Entry {
    fn new(container: &Container, reason: &str) -> Self {
        Self {
            name: container.name.clone(),
            stop_signal: container.stop_signal,
            back_off: BackOff::default(),
            phase: Phase::Waiting(Failure { reason: reason.into(), message: String::new() }),
            last: None,
            attempts: 0,
            kill_reason: String::new(),
            stage: Stage::Due(Duration::ZERO),
        }
    }

    fn succeeded(&self) -> bool {
        self.stage == Stage::Ended && matches!(&self.phase, Phase::Terminated(t) if t.exit_code == 0)
    }

    fn stop(&mut self, slot: Slot, grace: Duration, now: Moment, signal: bool) -> Option<Action> {
        let Stage::Running { since, kill_at } = self.stage else { return None };
        if grace.is_zero() {
            self.stage = Stage::Running { since, kill_at: None };
            return Some(Action::Signal { slot, signal: libc::SIGKILL });
        }
        let at = now.monotonic + grace;
        self.stage = Stage::Running { since, kill_at: Some(kill_at.map_or(at, |earlier| earlier.min(at))) };
        signal.then_some(Action::Signal { slot, signal: self.stop_signal })
    }

    fn state(&self) -> ContainerState {
        ContainerState {
            name: self.name.clone(),
            phase: self.phase.clone(),
            last: self.last.clone(),
            restarts: self.attempts.saturating_sub(1),
        }
    }
}

/// A delay as the kubelet words it: `10s`, `2m40s`.
fn spoken(delay: Duration) -> String {
    let seconds = delay.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s}s"),
        (m, s) => format!("{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests;
