//! What passes between the node's pod agent and a pod's shim.
//!
//! The agent writes [`Sandbox`] as `pod.json` into the pod's directory and starts the shim with that directory as its only
//! argument. The shim listens on `shim.sock` there, and after every change writes [`State`] to `state.json` (temporary file
//! and rename), so that an agent that comes back later finds the latest state even when the shim is gone.
//!
//! On the socket each connection carries one [`Request`] line. `Watch` answers with a [`State`] line at once and after every
//! change, until one side closes. `Exec` and `Attach` answer [`Reply::Started`] and go on in frames ([`crate::frame`]). Every
//! other request answers one [`Reply`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// File names in a pod's directory.
pub mod files {
    /// what to run: [`super::Sandbox`]
    pub const SANDBOX: &str = "pod.json";
    /// what became of it: [`super::State`]
    pub const STATE: &str = "state.json";
    /// the shim's socket
    pub const SOCKET: &str = "shim.sock";
    /// what the shim itself had to say
    pub const LOG: &str = "shim.log";
}

/// Everything a shim needs to know about its pod; resolved, so that the shim looks nothing up and needs no daemon later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// host name of the pod, `spec.hostname` or the pod's name
    pub hostname: String,
    /// netd's socket; `None` with `hostNetwork`, where the shim makes no network namespace and attaches nothing
    pub netd_socket: Option<PathBuf>,
    /// cgroup of the pod below each controller's root, e.g. `/minipod/pod5d1c…`; containers get children of it
    pub cgroup: String,
    /// limits of the whole pod
    pub resources: Resources,
    /// `spec.restartPolicy`
    pub restart_policy: RestartPolicy,
    /// seconds between the stop signal and SIGKILL unless a stop says otherwise, `spec.terminationGracePeriodSeconds`
    pub grace_period_seconds: u64,
    /// lines added to `/etc/hosts`, `address` first
    pub host_aliases: Vec<String>,
    /// the complete `resolv.conf`; `None`: made of what netd answers to the attach
    pub resolv_conf: Option<String>,
    /// run one after the other, each to success, before the containers
    pub init_containers: Vec<Container>,
    /// run side by side
    pub containers: Vec<Container>,
}

/// One container, resolved against its image.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are fields of Kubernetes' container, each with a meaning of its own"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// `name`
    pub name: String,
    /// lower layers of the overlay, topmost first; the shim mounts them in its own mount namespace
    pub layers: Vec<PathBuf>,
    /// where the overlay's upper and work directories and the container's log are kept
    pub directory: PathBuf,
    /// directory of the logs: `N.log` for the N-th start, counted from 0, in the CRI log format
    pub log_directory: PathBuf,
    /// entrypoint and arguments, never empty
    pub args: Vec<String>,
    /// `KEY=VALUE`
    pub env: Vec<String>,
    /// absolute
    pub working_dir: String,
    /// numeric
    pub uid: u32,
    /// numeric
    pub gid: u32,
    /// supplementary groups
    pub additional_gids: Vec<u32>,
    /// the capabilities that the container has, with `CAP_`
    pub capabilities: Vec<String>,
    /// `no_new_privs`: set unless `allowPrivilegeEscalation` is true or unset, as Kubernetes does
    pub no_new_privileges: bool,
    /// root file system read-only
    pub read_only: bool,
    /// seccomp: the `RuntimeDefault` profile, or none for `Unconfined`
    pub seccomp: Seccomp,
    /// limits
    pub resources: Resources,
    /// a terminal instead of three pipes
    pub tty: bool,
    /// standard input stays open for an attach
    pub stdin: bool,
    /// close standard input after the first attach ends
    pub stdin_once: bool,
    /// the image's stop signal, a number; 15 as a rule
    pub stop_signal: i32,
    /// read-only files and directories of the node shown in the container: `(node path, container path)`
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// why it cannot be started, for its status; the other containers run
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unstartable: Option<String>,
}

/// Seccomp profile of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// the default profile of the usual runtimes
    RuntimeDefault,
    /// no filter
    Unconfined,
}

/// Limits for a cgroup; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// bytes
    pub memory_bytes: Option<u64>,
    /// thousandths of a processor
    pub cpu_millis: Option<u64>,
    /// relative weight from the request, thousandths of a processor
    pub cpu_request_millis: Option<u64>,
    /// processes and threads
    pub pids: Option<u64>,
}

/// `spec.restartPolicy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// restart whatever the exit code
    Always,
    /// restart after a failure
    OnFailure,
    /// never restart
    Never,
}

/// The state of a pod as its shim knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// `metadata.uid`
    pub uid: String,
    /// the shim's process
    pub pid: i32,
    /// start time of the shim's process in clock ticks after boot (`/proc/PID/stat`, field 22): with `pid` it is unique
    pub start_time: u64,
    /// the pod's network, once attached
    pub network: Option<crate::netd::Attached>,
    /// the first failure that keeps the pod from running (attach refused, overlay failed), for the pod's status
    pub failure: Option<Failure>,
    /// in the order of `spec.initContainers`
    pub init_containers: Vec<ContainerState>,
    /// in the order of `spec.containers`
    pub containers: Vec<ContainerState>,
    /// a stop was asked for
    pub stopping: bool,
    /// netd has confirmed the release, or there was nothing to release; a finished pod without it has its network released
    /// by the agent, once netd answers again
    #[serde(default)]
    pub network_released: bool,
    /// everything has ended and the shim is about to exit; see [`State::network_released`]
    pub finished: bool,
}

/// A failure with a reason in Kubernetes' form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// one word, e.g. `FailedCreatePodSandBox`, `CreateContainerError`
    pub reason: String,
    /// for people
    pub message: String,
}

/// The state of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerState {
    /// `name`
    pub name: String,
    /// what it does now
    pub phase: Phase,
    /// how it ended the last time before this
    pub last: Option<Terminated>,
    /// `restartCount`
    pub restarts: u32,
}

/// `state` of a container status.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// not running: `PodInitializing`, `ContainerCreating`, `CrashLoopBackOff`, `CreateContainerError`, `StartError`
    Waiting(Failure),
    /// running
    Running {
        /// in the node's PID namespace
        pid: i32,
        /// milliseconds since the Unix epoch
        started_at: u64,
    },
    /// ended
    Terminated(Terminated),
}

/// The end of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    /// `Completed`, `Error`, `OOMKilled`, `StartError`
    pub reason: String,
    /// for people, mostly empty
    pub message: String,
    /// the code, or 128 + signal
    pub exit_code: i32,
    /// the signal, if one ended it
    pub signal: Option<i32>,
    /// milliseconds since the Unix epoch
    pub started_at: u64,
    /// milliseconds since the Unix epoch
    pub finished_at: u64,
}

/// What the agent asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// a [`State`] line now and after every change
    Watch,
    /// end the pod: stop signal, SIGKILL after the grace period, release the network, exit. Repeated, the shorter grace wins.
    Stop {
        /// seconds; 0 kills at once
        grace_period_seconds: u64,
    },
    /// run a process in a container
    Exec(Exec),
    /// join the container's own standard streams
    Attach(AttachStreams),
    /// kill one container as a failed liveness probe does; `restartPolicy` decides what follows
    Kill {
        /// the container
        container: String,
        /// seconds between the stop signal and SIGKILL
        grace_period_seconds: u64,
        /// why, for the status
        reason: String,
    },
}

/// A process in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// the container
    pub container: String,
    /// program and arguments, never empty
    pub args: Vec<String>,
    /// with a terminal
    pub tty: bool,
    /// standard input is sent; otherwise it is `/dev/null`
    pub stdin: bool,
    /// the terminal's size, if known
    pub size: Option<TerminalSize>,
    /// added to the container's environment
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Join a container's streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachStreams {
    /// the container
    pub container: String,
    /// send standard input
    pub stdin: bool,
    /// the terminal's size, if known
    pub size: Option<TerminalSize>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// columns; spelled as Kubernetes' resize channel spells it
    #[serde(rename = "Width")]
    pub width: u16,
    /// lines
    #[serde(rename = "Height")]
    pub height: u16,
}

/// The shim's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Reply {
    /// done
    Done,
    /// frames follow
    Started,
    /// refused
    Error(Failure),
}

/// How an exec or attach session ended, the payload of the last frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// the process's exit code, or 128 + signal
    pub code: i32,
    /// why there is no code of the process's own
    pub error: Option<String>,
}
