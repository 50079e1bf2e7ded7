//! What a pod's status says: the shim's state and what came before it in, `PodStatus` out (kubelet `kubelet_pods.go`,
//! `status/generate.go`). Pure; the time comes from the caller.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use minipod_protocol::shim::{self, Failure, Phase, RestartPolicy, Terminated};
use serde::{Deserialize, Serialize};

use super::{resources, sandbox};

/// What happened to a container under earlier shims of its pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Past {
    /// starts that do not count as the first
    pub(super) restarts: u32,
    /// how it ended the last time
    pub(super) last: Option<Terminated>,
    /// it has done its work: no later shim starts it again
    #[serde(default)]
    pub(super) done: bool,
}

/// The image of a container, as far as it got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ImageView {
    /// the name that was asked for, complete; shown as `image`
    pub(super) name: Option<String>,
    /// the image's own identity; shown as `imageID`
    pub(super) id: Option<String>,
    /// why it is not there
    pub(super) failure: Option<Failure>,
}

/// Everything that a status is made of.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    /// addresses of the node
    pub(super) host_ips: &'a [IpAddr],
    /// what the shim says, if there is or was one
    pub(super) state: Option<&'a shim::State>,
    /// the shim is gone without having finished: what it says to be running is not
    pub(super) lost: bool,
    /// earlier shims, by container
    pub(super) past: &'a BTreeMap<String, Past>,
    /// images, by container
    pub(super) images: &'a BTreeMap<String, ImageView>,
    /// what keeps the pod from being made
    pub(super) failure: Option<&'a Failure>,
    /// the container that the failure is about, if it is about one
    pub(super) failed_container: Option<&'a str>,
    /// nothing will be started any more
    pub(super) ended: bool,
}

/// Code of a container whose end nobody saw: 128 + SIGKILL.
const UNSEEN_EXIT_CODE: i32 = 137;

/// The status that the pod should have. Transition times are kept where nothing changed.
pub(super) fn compile_status(pod: &Pod, view: &View<'_>, now: Timestamp) -> PodStatus {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let old = pod.status.clone().unwrap_or_default();
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let compile = |containers: &[Container], states: fn(&shim::State) -> &[shim::ContainerState], waiting: &str| {
        containers.iter().map(|c| container_status(c, pod, states, view, waiting)).collect::<Vec<_>>()
    };
    let waiting = if inits.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let init_statuses = compile(inits, |state| &state.init_containers, waiting);
    let statuses = compile(&spec.containers, |state| &state.containers, waiting);
    let old_phase = old.phase.as_deref();
    let phase = match old_phase {
        Some(terminal @ ("Succeeded" | "Failed")) => terminal,
        _ => phase(&init_statuses, &statuses, sandbox::restart_policy(spec), view.ended),
    };
    let ips = pod_ips(spec, view, &old);
    let failed = phase == "Failed" && view.lost;
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions(pod, view, phase, &init_statuses, &statuses, !ips.is_empty(), now)),
        host_ip: view.host_ips.first().map(ToString::to_string),
        host_ips: (!view.host_ips.is_empty())
            .then(|| view.host_ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: old.start_time.or(Some(Time(now))),
        container_statuses: Some(statuses),
        init_container_statuses: (!init_statuses.is_empty()).then_some(init_statuses),
        qos_class: Some(resources::qos_class(spec).to_owned()),
        reason: if failed { Some("ShimLost".to_owned()) } else { None },
        message: match (failed, view.failure) {
            (true, _) => Some("the pod's shim ended before its containers did".to_owned()),
            (false, Some(failure)) if !view.ended => Some(failure.message.clone()),
            _ => None,
        },
        ..PodStatus::default()
    }
}

fn pod_ips(spec: &PodSpec, view: &View<'_>, old: &PodStatus) -> Vec<String> {
    if spec.host_network.unwrap_or(false) {
        return if view.state.is_some() { view.host_ips.iter().map(ToString::to_string).collect() } else { Vec::new() };
    }
    let network = view.state.and_then(|state| state.network.as_ref());
    let attached: Vec<String> =
        network.into_iter().flat_map(|network| &network.addresses).map(|a| a.address.to_string()).collect();
    if attached.is_empty() && view.ended {
        // A pod that has ended keeps the address that it had, as in Kubernetes.
        return old.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect();
    }
    attached
}

fn container_status(
    container: &Container,
    pod: &Pod,
    states: fn(&shim::State) -> &[shim::ContainerState],
    view: &View<'_>,
    waiting_reason: &str,
) -> ContainerStatus {
    let name = &container.name;
    let found = view.state.and_then(|state| states(state).iter().find(|state| state.name == *name));
    let empty = Past::default();
    let past = view.past.get(name).unwrap_or(&empty);
    let image = view.images.get(name);
    let shown = shown_image(container, pod, image);
    let restarts = past.restarts + found.map_or(0, |state| state.restarts);
    let state = match found.map(|state| &state.phase) {
        Some(Phase::Running { started_at, .. }) => Kind::Running(*started_at),
        Some(Phase::Terminated(terminated)) => Kind::Terminated(terminated.clone()),
        Some(Phase::Waiting(failure)) => Kind::Waiting(failure.clone()),
        // No shim is left to tell: what was known of it is its end.
        None => match &past.last {
            Some(end) if view.ended || past.done => Kind::Terminated(end.clone()),
            _ => Kind::Waiting(waiting(name, image, view, waiting_reason)),
        },
    };
    let over = found.is_none() && matches!(state, Kind::Terminated(_));
    let restarts = if over { restarts.saturating_sub(1) } else { restarts };
    let id = container_id(pod, name, restarts);
    let last = found.and_then(|state| state.last.clone()).or_else(|| past.last.clone()).filter(|_| !over);
    let running = matches!(state, Kind::Running(_));
    let ever_started = running || matches!(state, Kind::Terminated(_)) || last.is_some();
    ContainerStatus {
        name: name.clone(),
        image: shown.0,
        image_id: shown.1,
        container_id: ever_started.then(|| id.clone()),
        ready: match &state {
            // An init container that has done its work is ready (kubelet `prober/prober_manager.go`).
            Kind::Terminated(terminated) => is_init(pod, name) && terminated.exit_code == 0,
            Kind::Running(_) => !is_init(pod, name),
            Kind::Waiting(_) => false,
        },
        started: Some(running),
        restart_count: i32::try_from(restarts).unwrap_or(i32::MAX),
        last_state: last.map(|last| ContainerState {
            terminated: Some(terminated(&last, &container_id(pod, name, restarts.saturating_sub(1)))),
            ..ContainerState::default()
        }),
        state: Some(state.into_object(&id)),
        ..ContainerStatus::default()
    }
}

/// Name and identity of the image: as found now, or as the status already says it of a pod that was adopted.
fn shown_image(container: &Container, pod: &Pod, image: Option<&ImageView>) -> (String, String) {
    if let Some(ImageView { name: Some(name), id: Some(id), .. }) = image {
        return (name.clone(), id.clone());
    }
    let status = pod.status.iter();
    let mut all = status.flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses)).flatten();
    match all.find(|status| status.name == container.name) {
        Some(old) => (old.image.clone(), old.image_id.clone()),
        None => (container.image.clone().unwrap_or_default(), String::new()),
    }
}

fn is_init(pod: &Pod, name: &str) -> bool {
    let inits = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    inits.into_iter().flatten().any(|container| container.name == name)
}

/// A container's identity: one per start, made of what is known anyway.
fn container_id(pod: &Pod, name: &str, start: u32) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    format!("minipod://{}", minipod_model::hash::short_hash([uid, name, &start.to_string()], 64))
}

fn waiting(name: &str, image: Option<&ImageView>, view: &View<'_>, reason: &str) -> Failure {
    if let Some(failure) = image.and_then(|image| image.failure.as_ref()) {
        return failure.clone();
    }
    match view.failure {
        Some(failure) if view.failed_container.is_none_or(|failed| failed == name) => Failure {
            reason: if view.failed_container.is_some() { failure.reason.clone() } else { reason.to_owned() },
            message: failure.message.clone(),
        },
        _ => Failure { reason: reason.to_owned(), message: String::new() },
    }
}

/// The end of a container that was running when its shim was last heard of.
pub(super) fn unseen_end(started_at: u64, now: Timestamp) -> Terminated {
    Terminated {
        reason: "ContainerStatusUnknown".to_owned(),
        message: "the pod's shim ended before the container did; how the container ended is not known".to_owned(),
        exit_code: UNSEEN_EXIT_CODE,
        signal: None,
        started_at,
        finished_at: u64::try_from(now.as_millisecond()).unwrap_or(0),
    }
}

/// What a container of this state has behind it once another shim starts it.
pub(super) fn past_of(state: &shim::ContainerState, before: &Past) -> Past {
    let end = match &state.phase {
        Phase::Terminated(terminated) => Some(terminated.clone()),
        Phase::Running { .. } | Phase::Waiting(_) => None,
    };
    let started = end.is_some() || state.last.is_some();
    Past {
        restarts: before.restarts + state.restarts + u32::from(started),
        last: end.or_else(|| state.last.clone()).or_else(|| before.last.clone()),
        done: before.done,
    }
}

/// What the containers have behind them by the pod's own status, where no shim is left to tell (after a reboot).
pub(super) fn past_of_status(status: &PodStatus, now: Timestamp) -> BTreeMap<String, Past> {
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let past = |status: &ContainerStatus| {
        let state = status.state.clone().unwrap_or_default();
        let running = state.running.map(|running| unseen_end(millis(running.started_at.as_ref()), now));
        let ended = state.terminated.map(|ended| read_terminated(&ended));
        let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref()).map(read_terminated);
        let end = running.or(ended);
        let started = u32::from(end.is_some() || last.is_some());
        let restarts = u32::try_from(status.restart_count).unwrap_or(0) + started;
        (status.name.clone(), Past { restarts, last: end.or(last), done: false })
    };
    all.map(past).collect()
}

/// Whether the container has ended well, by its status.
pub(super) fn has_succeeded(status: &ContainerStatus) -> bool {
    status.state.as_ref().and_then(|state| state.terminated.as_ref()).is_some_and(|ended| ended.exit_code == 0)
}

/// Whether any container of the pod was ever started, by its status.
pub(super) fn was_started(status: &PodStatus) -> bool {
    let mut all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.any(|status| status.container_id.as_ref().is_some_and(|id| !id.is_empty()))
}

enum Kind {
    Waiting(Failure),
    Running(u64),
    Terminated(Terminated),
}

impl Kind {
    fn into_object(self, id: &str) -> ContainerState {
        match self {
            Self::Waiting(failure) => ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some(failure.reason),
                    message: Some(failure.message).filter(|message| !message.is_empty()),
                }),
                ..ContainerState::default()
            },
            Self::Running(started_at) => ContainerState {
                running: Some(ContainerStateRunning { started_at: time(started_at) }),
                ..ContainerState::default()
            },
            Self::Terminated(end) => {
                ContainerState { terminated: Some(terminated(&end, id)), ..ContainerState::default() }
            }
        }
    }
}

fn terminated(end: &Terminated, id: &str) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: Some(id.to_owned()),
        exit_code: end.exit_code,
        signal: end.signal,
        reason: Some(end.reason.clone()),
        message: Some(end.message.clone()).filter(|message| !message.is_empty()),
        started_at: time(end.started_at),
        finished_at: time(end.finished_at),
    }
}

fn read_terminated(end: &ContainerStateTerminated) -> Terminated {
    Terminated {
        reason: end.reason.clone().unwrap_or_default(),
        message: end.message.clone().unwrap_or_default(),
        exit_code: end.exit_code,
        signal: end.signal,
        started_at: millis(end.started_at.as_ref()),
        finished_at: millis(end.finished_at.as_ref()),
    }
}

/// Whole seconds, as Kubernetes writes times.
fn time(millis: u64) -> Option<Time> {
    let seconds = i64::try_from(millis / 1000).ok().filter(|seconds| *seconds > 0)?;
    Timestamp::from_second(seconds).ok().map(Time)
}

fn millis(time: Option<&Time>) -> u64 {
    time.and_then(|time| u64::try_from(time.0.as_millisecond()).ok()).unwrap_or(0)
}

/// kubelet's `getPhase`.
fn phase(
    inits: &[ContainerStatus],
    containers: &[ContainerStatus],
    policy: RestartPolicy,
    ended: bool,
) -> &'static str {
    let exit = |status: &ContainerStatus| {
        status.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|ended| ended.exit_code)
    };
    let is_running = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    let has_last = |status: &ContainerStatus| status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
    if inits.iter().any(|status| exit(status) != Some(0)) {
        let failed = inits.iter().any(|status| exit(status).is_some_and(|code| code != 0));
        let over = ended || (failed && policy == RestartPolicy::Never);
        return if over { "Failed" } else { "Pending" };
    }
    if ended {
        let succeeded = !containers.is_empty() && containers.iter().all(|status| exit(status) == Some(0));
        return if succeeded { "Succeeded" } else { "Failed" };
    }
    let never_started = |status: &ContainerStatus| exit(status).is_none() && !is_running(status) && !has_last(status);
    if containers.is_empty() || containers.iter().any(never_started) {
        return "Pending";
    }
    if containers.iter().any(is_running) || policy == RestartPolicy::Always {
        return "Running";
    }
    if containers.iter().all(|status| exit(status) == Some(0)) {
        return "Succeeded";
    }
    let all_ended = containers.iter().all(|status| exit(status).is_some());
    if all_ended && policy == RestartPolicy::Never { "Failed" } else { "Running" }
}

fn conditions(
    pod: &Pod,
    view: &View<'_>,
    phase: &str,
    inits: &[ContainerStatus],
    containers: &[ContainerStatus],
    has_network: bool,
    now: Timestamp,
) -> Vec<PodCondition> {
    let names = |statuses: &[&ContainerStatus]| statuses.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(" ");
    let exit_zero = |status: &ContainerStatus| {
        status.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|ended| ended.exit_code == 0)
    };
    let incomplete: Vec<&ContainerStatus> = inits.iter().filter(|status| !exit_zero(status)).collect();
    let unready: Vec<&ContainerStatus> = containers.iter().filter(|status| !status.ready).collect();
    let completed = Verdict::No("PodCompleted", String::new());
    let initialized = match (incomplete.is_empty(), phase) {
        (true, "Succeeded") => Verdict::YesBecause("PodCompleted"),
        (true, _) => Verdict::Yes,
        (false, _) => Verdict::No(
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{}]", names(&incomplete)),
        ),
    };
    let ready = match phase {
        "Succeeded" => completed,
        "Failed" => Verdict::No("PodFailed", String::new()),
        _ if incomplete.is_empty() && unready.is_empty() => Verdict::Yes,
        _ => Verdict::No("ContainersNotReady", format!("containers with unready status: [{}]", names(&unready))),
    };
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    let sandbox = view.state.is_some() && (has_network || host_network) && !view.ended;
    let all = [
        ("PodReadyToStartContainers", if sandbox { Verdict::Yes } else { Verdict::Bare }),
        ("Initialized", initialized),
        ("Ready", ready.clone()),
        ("ContainersReady", ready),
        ("PodScheduled", Verdict::Yes),
    ];
    let old = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ours = all.map(|(kind, verdict)| verdict.condition(kind, old, now));
    let foreign = old.iter().filter(|condition| !all_kinds().contains(&condition.type_.as_str())).cloned();
    ours.into_iter().chain(foreign).collect()
}

fn all_kinds() -> [&'static str; 5] {
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
}

#[derive(Clone)]
enum Verdict {
    Yes,
    YesBecause(&'static str),
    No(&'static str, String),
    Bare,
}

impl Verdict {
    fn condition(&self, kind: &str, old: &[PodCondition], now: Timestamp) -> PodCondition {
        let (status, reason, message) = match self {
            Self::Yes => ("True", None, None),
            Self::YesBecause(reason) => ("True", Some((*reason).to_owned()), None),
            Self::No(reason, message) => {
                ("False", Some((*reason).to_owned()), Some(message.clone()).filter(|m| !m.is_empty()))
            }
            Self::Bare => ("False", None, None),
        };
        let same = old.iter().find(|condition| condition.type_ == kind && condition.status == status);
        let since = same.and_then(|condition| condition.last_transition_time.clone());
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            last_transition_time: since.or_else(|| Timestamp::from_second(now.as_second()).ok().map(Time)),
            ..PodCondition::default()
        }
    }
}

#[cfg(test)]
mod tests;
