//! What is to be done next for a pod: its object and what has happened go in, actions come out. Pure: no clock, no process, no
//! file; the effects are in [`super::effects`].
//!
//! ```text
//! Preparing -> Starting -> Running -> Ended -> Over -> (object deleted) Gone
//!     ^                       ^          |
//!     |         Adopting -----+----->----+
//!     +---------- to be started again ---+
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use minipod_protocol::shim::{ContainerState, Failure, Phase, RestartPolicy, State};

use super::backoff::BackOff;
use super::sandbox;
use super::status::{self, ImageView, Past};

/// What the API wants of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// it is to run
    Run,
    /// it is being deleted
    End {
        /// seconds between the stop signal and SIGKILL
        grace_seconds: u64,
    },
    /// its object is gone
    Vanished,
}

/// A stop of a pod whose object is gone leaves so many seconds, as the kubelet does.
const VANISHED_GRACE_SECONDS: u64 = 1;
/// A shim ends its pod within the grace period and this time, which covers its wait for netd and for the kernel; one that does not
/// hangs, and is killed.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// What the pod's object wants.
pub(super) fn want(pod: Option<&Pod>) -> Want {
    let Some(pod) = pod else { return Want::Vanished };
    if pod.metadata.deletion_timestamp.is_none() {
        return Want::Run;
    }
    let asked = pod.metadata.deletion_grace_period_seconds.map(|seconds| u64::try_from(seconds).unwrap_or(0));
    let default = || pod.spec.as_ref().map_or(sandbox::DEFAULT_GRACE_SECONDS, sandbox::grace_seconds);
    Want::End { grace_seconds: asked.unwrap_or_else(default) }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// have the container's image; answered by [`Event::ImageReady`] or [`Event::ImageFailed`]
    EnsureImage {
        /// the container
        container: String,
    },
    /// make the pod's directory and cgroups and start its shim; answered by [`Event::Started`] or [`Event::StartFailed`]
    Start,
    /// tell the shim to end the pod
    Stop {
        /// seconds
        grace_seconds: u64,
    },
    /// kill a shim that hangs, and what it runs; followed by [`Event::ShimEnded`]
    Kill,
    /// kill what is left, release the network, remove cgroups and writable layers; answered by [`Event::Cleaned`] or
    /// [`Event::CleanFailed`]
    Clean,
    /// remove the pod's directory; its last status is known to the API
    Forget,
    /// remove the pod's directory and logs, then delete the object for good: when it is gone, nothing of the pod is left; answered
    /// by [`Event::Deleted`] or [`Event::DeleteFailed`]
    DeleteObject,
    /// remove the directory and logs of a pod whose object is gone
    Remove,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// the image is there
    ImageReady {
        /// the container
        container: String,
        /// what the status shows
        image: ImageView,
    },
    /// the image is not there
    ImageFailed {
        /// the container
        container: String,
        /// reason and message
        failure: Failure,
    },
    /// the shim runs and is watched
    Started,
    /// the shim could not be started, or the pod cannot be run as its object says
    StartFailed {
        /// reason and message
        failure: Failure,
        /// the container that it is about, if it is about one
        container: Option<String>,
    },
    /// the shim said something
    State(Box<State>),
    /// the shim's process is gone; with the last that it wrote
    ShimEnded(Option<Box<State>>),
    /// nothing is left of the pod but its directory and logs
    Cleaned,
    /// something is left
    CleanFailed,
    /// the object is gone
    Deleted,
    /// the object could not be deleted
    DeleteFailed,
}

/// A pod as the agent knows it.
#[derive(Debug, Clone)]
pub(super) struct Life {
    policy: RestartPolicy,
    run: u32,
    past: BTreeMap<String, Past>,
    images: BTreeMap<String, Image>,
    failure: Option<(Failure, Option<String>)>,
    stage: Stage,
    restart: BackOff,
    retry: BackOff,
    clean: BackOff,
}

#[derive(Debug, Clone, Default)]
struct Image {
    view: ImageView,
    progress: Progress,
    back_off: Option<BackOff>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Wanted,
    NotBefore(Duration),
    Underway,
    Ready,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    /// the images are being fetched, not before the time
    Preparing { not_before: Duration },
    /// a start is under way
    Starting,
    /// a shim of an earlier daemon is being found again
    Adopting,
    /// the shim runs
    Running { state: Option<Box<State>>, stop: Stop, kill_at: Option<Duration>, since: Duration },
    /// the shim has ended
    Ended { state: Option<Box<State>>, ran: Duration, clean: Clean },
    /// nothing will be started any more
    Over { state: Option<Box<State>>, forgotten: bool, delete: Delete },
    /// nothing is left
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    NotBefore(Duration),
    Sent(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clean {
    NotBefore(Duration),
    Underway,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delete {
    NotBefore(Duration),
    Underway,
    Done,
}

impl Life {
    /// A pod that no shim of this boot runs, as its object describes it. `run` counts the shims that it had before.
    pub(super) fn new(pod: &Pod, run: u32, now: Timestamp) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let mut life = Self::with_stage(pod, Stage::Preparing { not_before: Duration::ZERO });
        life.past = status::past_of_status(&status, now);
        let started = status::was_started(&status);
        life.run = run.max(u32::from(started));
        let terminal = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let containers = status.container_statuses.as_deref().unwrap_or_default();
        let succeeded = containers.iter().filter(|container| status::has_succeeded(container));
        let succeeded: Vec<&str> = succeeded.map(|container| container.name.as_str()).collect();
        life.note_done(&succeeded);
        let all_done = !containers.is_empty() && containers.iter().all(|c| life.is_done(&c.name));
        if terminal || all_done || (started && life.policy == RestartPolicy::Never) {
            life.stage = Stage::Over { state: None, forgotten: true, delete: Delete::NotBefore(Duration::ZERO) };
        }
        life
    }

    /// A pod whose directory was found at start: `run` and `past` are what the daemon before wrote there.
    pub(super) fn adopted(
        containers: &[String],
        policy: RestartPolicy,
        run: u32,
        past: BTreeMap<String, Past>,
    ) -> Self {
        Self {
            images: containers.iter().map(|name| (name.clone(), Image::default())).collect(),
            policy,
            run,
            past,
            failure: None,
            stage: Stage::Adopting,
            restart: BackOff::long(),
            retry: BackOff::short(),
            clean: BackOff::short(),
        }
    }

    fn with_stage(pod: &Pod, stage: Stage) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let names: Vec<String> = all.map(|container| container.name.clone()).collect();
        Self { stage, ..Self::adopted(&names, sandbox::restart_policy(&spec), 0, BTreeMap::new()) }
    }

    /// How many shims the pod has had before the present one.
    pub(super) fn run(&self) -> u32 {
        self.run
    }

    /// What its containers have behind them.
    pub(super) fn past(&self) -> &BTreeMap<String, Past> {
        &self.past
    }

    /// Whether the container has done its work: under `OnFailure` one that succeeded is not started again (kubelet
    /// `computePodActions`), not even by a new shim, which runs the init containers anew.
    fn is_done(&self, container: &str) -> bool {
        self.past.get(container).is_some_and(|past| past.done)
    }

    /// Notes that these containers, none of them an init container, have succeeded.
    fn note_done(&mut self, succeeded: &[&str]) {
        if self.policy == RestartPolicy::OnFailure {
            for name in succeeded {
                self.past.entry((*name).to_owned()).or_default().done = true;
            }
        }
    }

    /// Nothing is left of it.
    pub(super) fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Whether a shim of an earlier daemon is still being looked for, or has not spoken yet.
    pub(super) fn is_adopting(&self) -> bool {
        matches!(self.stage, Stage::Adopting | Stage::Running { state: None, .. })
    }

    /// The shim did not take the stop; it is told again when the time has come.
    pub(super) fn stop_failed(&mut self, now: Duration) {
        let at = now + self.clean.after_failure();
        if let Stage::Running { stop, .. } = &mut self.stage {
            *stop = Stop::NotBefore(at);
        }
    }

    /// What the shim said last.
    pub(super) fn state(&self) -> Option<&State> {
        match &self.stage {
            Stage::Running { state, .. } | Stage::Ended { state, .. } | Stage::Over { state, .. } => state.as_deref(),
            _ => None,
        }
    }

    /// The shim is gone and did not say that it was about to go.
    pub(super) fn is_lost(&self) -> bool {
        match &self.stage {
            Stage::Ended { state, .. } | Stage::Over { state, .. } => state.as_ref().is_none_or(|s| !s.finished),
            _ => false,
        }
    }

    /// Nothing of it has run yet, and nothing has failed.
    pub(super) fn is_being_made(&self) -> bool {
        let untouched = match &self.stage {
            Stage::Preparing { .. } | Stage::Starting => self.images.values().all(|image| image.back_off.is_none()),
            // What is wrong comes with a message.
            Stage::Running { state, .. } => state
                .iter()
                .flat_map(|state| super::all_containers(state))
                .all(|container| matches!(&container.phase, Phase::Waiting(why) if why.message.is_empty())),
            _ => false,
        };
        untouched && self.failure().is_none()
    }

    /// Nothing will be started any more.
    pub(super) fn has_ended(&self, want: Want) -> bool {
        match &self.stage {
            Stage::Over { .. } | Stage::Gone => true,
            Stage::Ended { state, .. } => want != Want::Run || !self.wants_again(state.as_deref()),
            _ => false,
        }
    }

    /// What the status says of the images.
    pub(super) fn image_views(&self) -> BTreeMap<String, ImageView> {
        self.images.iter().map(|(name, image)| (name.clone(), image.view.clone())).collect()
    }

    /// What keeps the pod from being made, and the container that it is about.
    pub(super) fn failure(&self) -> Option<(&Failure, Option<&str>)> {
        let own = self.failure.as_ref().map(|(failure, container)| (failure, container.as_deref()));
        own.or_else(|| self.state()?.failure.as_ref().map(|failure| (failure, None)))
    }

    /// What is to be done now. Asked again without anything new, it says nothing more. `settled`: the API has the status that
    /// follows from this state.
    pub(super) fn decide(&mut self, want: Want, settled: bool, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(mut next) = self.step(want, settled, now) {
            actions.append(&mut next);
        }
        actions
    }

    /// One step; `None` when there is nothing to do.
    fn step(&mut self, want: Want, settled: bool, now: Duration) -> Option<Vec<Action>> {
        match &mut self.stage {
            Stage::Preparing { not_before } => {
                if want != Want::Run {
                    let clean = Clean::NotBefore(Duration::ZERO);
                    self.stage = Stage::Ended { state: None, ran: Duration::ZERO, clean };
                    return Some(Vec::new());
                }
                if now < *not_before {
                    return None;
                }
                self.prepare(now)
            }
            Stage::Running { stop, kill_at, .. } => {
                let grace_seconds = match want {
                    Want::Run => return None,
                    Want::End { grace_seconds } => grace_seconds,
                    Want::Vanished => VANISHED_GRACE_SECONDS,
                };
                if kill_at.is_some_and(|at| now >= at) {
                    *kill_at = Some(now + STOPS_WITHIN);
                    return Some(vec![Action::Kill]);
                }
                let due = match *stop {
                    Stop::NotBefore(at) => now >= at,
                    Stop::Sent(sent) => grace_seconds < sent,
                };
                if !due {
                    return None;
                }
                *stop = Stop::Sent(grace_seconds);
                let at = now.saturating_add(Duration::from_secs(grace_seconds)).saturating_add(STOPS_WITHIN);
                *kill_at = Some(kill_at.map_or(at, |earlier| earlier.min(at)));
                Some(vec![Action::Stop { grace_seconds }])
            }
            Stage::Ended { clean: clean @ Clean::NotBefore(_), .. } => {
                if matches!(clean, Clean::NotBefore(at) if now < *at) {
                    return None;
                }
                *clean = Clean::Underway;
                Some(vec![Action::Clean])
            }
            Stage::Ended { state, ran, clean: Clean::Done } => {
                let (state, ran) = (state.take(), *ran);
                if want == Want::Run && self.wants_again(state.as_deref()) {
                    self.start_again(state.as_deref(), ran, now);
                } else {
                    self.stage = Stage::Over { state, forgotten: false, delete: Delete::NotBefore(Duration::ZERO) };
                }
                Some(Vec::new())
            }
            Stage::Over { forgotten, delete, .. } => match want {
                Want::Run if settled && !*forgotten => {
                    *forgotten = true;
                    Some(vec![Action::Forget])
                }
                Want::End { .. } if settled && matches!(delete, Delete::NotBefore(at) if now >= *at) => {
                    *delete = Delete::Underway;
                    Some(vec![Action::DeleteObject])
                }
                Want::End { .. } if *delete == Delete::Done => {
                    self.stage = Stage::Gone;
                    Some(Vec::new())
                }
                Want::Vanished if *delete != Delete::Underway => {
                    self.stage = Stage::Gone;
                    Some(vec![Action::Remove])
                }
                _ => None,
            },
            Stage::Starting | Stage::Adopting | Stage::Ended { clean: Clean::Underway, .. } | Stage::Gone => None,
        }
    }

    fn prepare(&mut self, now: Duration) -> Option<Vec<Action>> {
        if self.images_are_ready() {
            self.stage = Stage::Starting;
            return Some(vec![Action::Start]);
        }
        let mut actions = Vec::new();
        let past = &self.past;
        let needed = |name: &String| !past.get(name).is_some_and(|past| past.done);
        for (container, image) in self.images.iter_mut().filter(|(name, _)| needed(name)) {
            let due = match image.progress {
                Progress::Wanted => true,
                Progress::NotBefore(at) => now >= at,
                Progress::Underway | Progress::Ready => false,
            };
            if due {
                image.progress = Progress::Underway;
                actions.push(Action::EnsureImage { container: container.clone() });
            }
        }
        (!actions.is_empty()).then_some(actions)
    }

    /// Whether every container that is to be started has its image.
    fn images_are_ready(&self) -> bool {
        self.images.iter().all(|(name, image)| image.progress == Progress::Ready || self.is_done(name))
    }

    /// Whether a pod that is to run is started again after its shim has ended like this. A shim that wrote no state has
    /// started nothing.
    fn wants_again(&self, state: Option<&State>) -> bool {
        let Some(state) = state else { return true };
        let mut containers = state.init_containers.iter().chain(&state.containers);
        let started = containers.any(|c| !matches!(c.phase, Phase::Waiting(_)) || c.last.is_some());
        // Those that had succeeded before were not given to this shim.
        let succeeded = !state.containers.is_empty() && state.containers.iter().all(has_succeeded);
        if self.policy == RestartPolicy::OnFailure && succeeded {
            return false;
        }
        // A pod of which nothing was ever started is made again whatever the policy says.
        !started || ((!state.finished || state.stopping) && self.policy != RestartPolicy::Never)
    }

    fn start_again(&mut self, state: Option<&State>, ran: Duration, now: Duration) {
        let wait = match state.and_then(|state| state.failure.clone()) {
            Some(failure) => {
                self.failure = Some((failure, None));
                self.retry.after_failure()
            }
            None => self.restart.after_running(ran),
        };
        for container in state.into_iter().flat_map(|state| state.init_containers.iter().chain(&state.containers)) {
            let before = self.past.get(&container.name).cloned().unwrap_or_default();
            self.past.insert(container.name.clone(), status::past_of(container, &before));
        }
        let succeeded = state.into_iter().flat_map(|state| &state.containers).filter(|c| has_succeeded(c));
        self.note_done(&succeeded.map(|container| container.name.as_str()).collect::<Vec<_>>());
        for image in self.images.values_mut() {
            image.progress = Progress::Wanted;
        }
        self.run += 1;
        self.stage = Stage::Preparing { not_before: now + wait };
    }

    /// Takes in what has happened. `wall` is for the status, `now` for the waits.
    pub(super) fn apply(&mut self, event: Event, now: Duration, wall: Timestamp) {
        match event {
            Event::ImageReady { container, image } => {
                if let Some(entry) = self.images.get_mut(&container) {
                    *entry = Image { view: image, progress: Progress::Ready, back_off: None };
                }
            }
            Event::ImageFailed { container, failure } => self.image_failed(&container, failure, now),
            Event::Started => {
                self.failure = None;
                self.stage =
                    Stage::Running { state: None, stop: Stop::NotBefore(Duration::ZERO), kill_at: None, since: now };
            }
            Event::StartFailed { failure, container } => {
                self.failure = Some((failure, container));
                self.stage = Stage::Preparing { not_before: now + self.retry.after_failure() };
            }
            Event::State(new) => {
                if let Stage::Running { state, .. } = &mut self.stage {
                    if new.failure.is_none() && new.network.is_some() {
                        self.retry.reset();
                    }
                    *state = Some(new);
                }
            }
            Event::ShimEnded(last) => self.shim_ended(last, now, wall),
            Event::Cleaned => {
                self.clean.reset();
                self.set_clean(Clean::Done);
            }
            Event::CleanFailed => {
                let at = now + self.clean.after_failure();
                self.set_clean(Clean::NotBefore(at));
            }
            Event::Deleted => self.set_delete(Delete::Done),
            Event::DeleteFailed => {
                let at = now + self.clean.after_failure();
                self.set_delete(Delete::NotBefore(at));
            }
        }
    }

    fn image_failed(&mut self, container: &str, failure: Failure, now: Duration) {
        let Some(entry) = self.images.get_mut(container) else { return };
        let again = entry.back_off.is_some();
        let back_off = entry.back_off.get_or_insert(BackOff::long());
        entry.progress = Progress::NotBefore(now + back_off.after_failure());
        let reason = match failure.reason.as_str() {
            "ErrImagePull" if again => "ImagePullBackOff".to_owned(),
            _ => failure.reason,
        };
        entry.view.failure = Some(Failure { reason, message: failure.message });
    }

    fn shim_ended(&mut self, last: Option<Box<State>>, now: Duration, wall: Timestamp) {
        let (known, ran) = match &mut self.stage {
            Stage::Running { state, since, .. } => (state.take(), now.saturating_sub(*since)),
            Stage::Adopting => (None, Duration::ZERO),
            _ => return,
        };
        let mut state = last.or(known);
        if let Some(state) = state.as_deref_mut().filter(|state| !state.finished) {
            for container in state.init_containers.iter_mut().chain(&mut state.containers) {
                if let Phase::Running { started_at, .. } = container.phase {
                    container.phase = Phase::Terminated(status::unseen_end(started_at, wall));
                }
            }
        }
        let clean = Clean::NotBefore(Duration::ZERO);
        self.stage = Stage::Ended { state, ran, clean };
    }

    fn set_clean(&mut self, to: Clean) {
        if let Stage::Ended { clean, .. } = &mut self.stage {
            *clean = to;
        }
    }

    fn set_delete(&mut self, to: Delete) {
        if let Stage::Over { delete, .. } = &mut self.stage {
            *delete = to;
        }
    }

    /// When [`Life::decide`] has something next, if only time passes.
    pub(super) fn deadline(&self, want: Want) -> Option<Duration> {
        match &self.stage {
            Stage::Preparing { not_before } => {
                let needed = self.images.iter().filter(|(name, _)| !self.is_done(name));
                let waits = needed.filter_map(|(_, image)| match image.progress {
                    Progress::NotBefore(at) => Some(at.max(*not_before)),
                    Progress::Wanted => Some(*not_before),
                    Progress::Underway | Progress::Ready => None,
                });
                waits.min().or(self.images_are_ready().then_some(*not_before))
            }
            Stage::Ended { clean: Clean::NotBefore(at), .. } => Some(*at),
            Stage::Running { stop, kill_at, .. } if want != Want::Run => match stop {
                Stop::NotBefore(at) => Some(kill_at.map_or(*at, |kill| kill.min(*at))),
                Stop::Sent(_) => *kill_at,
            },
            Stage::Over { delete: Delete::NotBefore(at), .. } if matches!(want, Want::End { .. }) => Some(*at),
            _ => None,
        }
    }
}

fn has_succeeded(container: &ContainerState) -> bool {
    matches!(&container.phase, Phase::Terminated(end) if end.exit_code == 0)
}

#[cfg(test)]
mod tests;
