//! What [`super::life`] asks for, done: images, shims, clean-up, writes to the API. Decides nothing but how.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt as _};
use minipod_image::user::resolve_user;
use minipod_image::{ImageRef, Images, Progress, PullPolicy, Reference};
use minipod_kernel::cgroup::{CgroupError, Hierarchies};
use minipod_model::defaults::POD_IFNAME;
use minipod_protocol::netd;
use minipod_protocol::shim::{Failure, Request};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::Config;
use super::command;
use super::dns::NodeDns;
use super::events::{Recorder, Tone};
use super::sandbox::{self, ContainerImage, NodeFacts, Turn};
use super::service_links;
use super::shim::{self, Record, Shim, ShimError};
use super::status::ImageView;

/// So many shims are started at a time: more would only wait for the processors.
const STARTS_AT_ONCE: usize = 8;
/// The service of the API server itself, in the namespace `default` of clusters that have one.
const API_SERVICE: &str = "kubernetes";
/// Killed processes end within this time.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// netd releases a network within this time.
const DETACH_PATIENCE: Duration = Duration::from_secs(30);

/// The hands of the agent. Shared by all pods.
pub(super) struct Effects {
    pub(super) client: Client,
    pub(super) images: Images,
    pub(super) recorder: Recorder,
    pub(super) config: Config,
    cgroups: Hierarchies,
    starts: Semaphore,
}

/// A pod could not be started.
#[derive(Debug)]
pub(super) struct NotStarted {
    /// reason and message
    pub(super) failure: Failure,
    /// the container that it is about
    pub(super) container: Option<String>,
}

/// Something of a pod could not be removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CleanError {
    /// processes or cgroups
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// the shim
    #[error("cannot kill the pod's shim")]
    Shim(#[source] io::Error),
    /// netd does not answer
    #[error("netd does not answer on `{}`", .socket.display())]
    Silent {
        /// its socket
        socket: PathBuf,
        /// what the socket said
        #[source]
        source: io::Error,
    },
    /// netd refused
    #[error("netd cannot release the pod's network: {0}")]
    Refused(String),
    /// files
    #[error("cannot remove `{}`", .path.display())]
    File {
        /// the file or directory
        path: PathBuf,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
    /// a thread of ours died
    #[error("the work ended early")]
    Aborted(#[from] tokio::task::JoinError),
}

impl Effects {
    pub(super) fn new(
        client: Client,
        images: Images,
        recorder: Recorder,
        config: Config,
        cgroups: Hierarchies,
    ) -> Self {
        Self { client, images, recorder, config, cgroups, starts: Semaphore::new(STARTS_AT_ONCE) }
    }

    /// The directory of a pod.
    pub(super) fn directory(&self, uid: &str) -> PathBuf {
        self.config.directories.pods().join(uid)
    }

    fn pods(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default())
    }

    /// The container's image, pulled if its policy says so.
    pub(super) async fn ensure_image(&self, pod: &Arc<Pod>, name: &str) -> Result<(ImageRef, ImageView), Failure> {
        let (wanted, policy) = wanted_image(pod, name);
        let started = Instant::now();
        let progress = Pulling {
            recorder: self.recorder.clone(),
            pod: Arc::clone(pod),
            container: name.to_owned(),
            image: wanted.clone(),
            told: AtomicBool::new(false),
        };
        let progress = Arc::new(progress);
        match self.images.ensure(&wanted, policy, progress.clone()).await {
            Ok(image) => {
                let message = if progress.told.load(Ordering::Relaxed) {
                    format!("Successfully pulled image \"{wanted}\" in {}ms", started.elapsed().as_millis())
                } else {
                    format!("Container image \"{wanted}\" already present on machine")
                };
                self.recorder.note(pod, Some(name), Tone::Normal, "Pulled", &message);
                let full = wanted.parse::<Reference>().map_or(wanted, |reference| reference.to_string());
                let view = ImageView { name: Some(full), id: Some(image.id.to_string()), failure: None };
                Ok((image, view))
            }
            Err(error) => {
                let reason = error.reason();
                let message = with_causes(&error);
                let note = format!("Failed to pull image \"{wanted}\": {message}");
                self.recorder.note(pod, Some(name), Tone::Warning, "Failed", &note);
                tracing::warn!(pod = %pod_name(pod), container = name, image = wanted, error = message, "image not available");
                Err(Failure { reason: reason.to_owned(), message })
            }
        }
    }

    /// Prepares the kernel for the moves of the shim and its containers into their cgroups, while the shim is being started.
    pub(super) fn expect_moves(&self) {
        let cgroups = self.cgroups.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = cgroups.hasten_moves() {
                tracing::debug!(error = with_causes(&error), "the first processes of the pod move slowly");
            }
        });
    }

    /// Starts the pod's shim.
    pub(super) async fn start(
        &self,
        pod: &Arc<Pod>,
        images: BTreeMap<String, ImageRef>,
        record: Record,
    ) -> Result<Shim, NotStarted> {
        let _turn = self.starts.acquire().await;
        let services = match self.services(pod).await {
            Ok(services) => service_links::variables(&services),
            Err(error) => return Err(self.sandbox_failed(pod, &error)),
        };
        let done = record.past.iter().filter(|(_, past)| past.done).map(|(name, _)| name.clone()).collect();
        let (owner, config, turn) = (Arc::clone(pod), self.config.clone(), Turn { run: record.run, done, services });
        let compiled = tokio::task::spawn_blocking(move || compile(&owner, images, &config, &turn)).await;
        let sandbox = match compiled {
            Ok(Ok(sandbox)) => sandbox,
            Ok(Err(refusal)) => {
                let sandbox::Refusal { reason, container, message } = refusal;
                self.recorder.note(pod, container.as_deref(), Tone::Warning, "Failed", &format!("Error: {message}"));
                return Err(NotStarted { failure: Failure { reason: reason.to_owned(), message }, container });
            }
            Err(error) => return Err(self.sandbox_failed(pod, &error)),
        };
        let directory = self.directory(&sandbox.uid);
        match Shim::start(&self.config.shim, &directory, &sandbox, record).await {
            Ok(shim) => Ok(shim),
            Err(error) => Err(self.sandbox_failed(pod, &error)),
        }
    }

    /// The services that the pod's containers are told of: those of its namespace unless it wants none, and `kubernetes` in any
    /// case (kubelet `getServiceEnvVarMap`).
    async fn services(&self, pod: &Pod) -> Result<Vec<Service>, kube::Error> {
        let namespace = pod.namespace().unwrap_or_default();
        let wanted = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
        let mut services = Vec::new();
        if wanted {
            let api = Api::<Service>::namespaced(self.client.clone(), &namespace);
            services = api.list(&ListParams::default()).await?.items;
        }
        if !services.iter().any(|service| service.metadata.name.as_deref() == Some(API_SERVICE)) {
            let api = Api::<Service>::namespaced(self.client.clone(), "default");
            services.extend(api.get_opt(API_SERVICE).await?);
        }
        Ok(services)
    }

    fn sandbox_failed(&self, pod: &Pod, error: &(dyn std::error::Error + 'static)) -> NotStarted {
        let message = with_causes(error);
        let reason = "FailedCreatePodSandBox";
        self.recorder.note(pod, None, Tone::Warning, reason, &format!("Failed to create pod sandbox: {message}"));
        tracing::warn!(pod = %pod_name(pod), error = message, "pod not started");
        NotStarted { failure: Failure { reason: reason.to_owned(), message }, container: None }
    }

    /// Tells the pod's shim to end it.
    pub(super) async fn stop(&self, uid: &str, grace_period_seconds: u64) -> Result<(), ShimError> {
        shim::ask(&self.directory(uid), &Request::Stop { grace_period_seconds }).await
    }

    /// Kills the pod's shim, which its watcher sees, and everything that runs in the pod.
    pub(super) async fn kill(&self, uid: &str) -> Result<(), CleanError> {
        let directory = self.directory(uid);
        let cgroup = sandbox::pod_cgroup(&self.config.cgroup_parent, uid);
        let cgroups = self.cgroups.clone();
        tokio::task::spawn_blocking(move || {
            shim::kill(&directory).map_err(CleanError::Shim)?;
            Ok(cgroups.kill(&cgroup, KILL_PATIENCE)?)
        })
        .await?
    }

    /// Removes everything of the pod but its directory and logs. Does nothing a second time.
    pub(super) async fn clean(&self, uid: &str) -> Result<(), CleanError> {
        let directory = self.directory(uid);
        let cgroup = sandbox::pod_cgroup(&self.config.cgroup_parent, uid);
        let cgroups = self.cgroups.clone();
        tokio::task::spawn_blocking(move || {
            cgroups.kill(&cgroup, KILL_PATIENCE)?;
            cgroups.remove(&cgroup, KILL_PATIENCE)
        })
        .await??;
        let socket = shim::read_sandbox(&directory).and_then(|sandbox| sandbox.netd_socket);
        let released = shim::read_state(&directory).is_some_and(|state| state.network_released);
        if let Some(socket) = socket.filter(|_| !released) {
            release_network(socket, uid).await?;
        }
        remove_tree(self.config.directories.pod_data().join(uid)).await
    }

    /// Removes the pod's directory.
    pub(super) async fn forget(&self, uid: &str) -> Result<(), CleanError> {
        remove_tree(self.directory(uid)).await
    }

    /// Removes the pod's directory and logs.
    pub(super) async fn remove(&self, uid: &str) -> Result<(), CleanError> {
        remove_tree(self.directory(uid)).await?;
        remove_tree(self.config.directories.logs().join(uid)).await
    }

    /// Writes what differs between the two statuses; the object as it is then.
    pub(super) async fn patch_status(&self, pod: &Pod, changes: Map<String, Value>) -> Result<Pod, kube::Error> {
        // The UID guards against another pod of the same name.
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": changes});
        self.pods(pod).patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Deletes the object for good.
    pub(super) async fn delete_object(&self, pod: &Pod) -> Result<(), kube::Error> {
        let preconditions = Preconditions { uid: pod.uid(), ..Preconditions::default() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default().grace_period(0) };
        match self.pods(pod).delete(&pod.name_any(), &params).await {
            Ok(_) => Ok(()),
            // Gone already, perhaps with a new pod of the same name.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn release_network(socket: PathBuf, uid: &str) -> Result<(), CleanError> {
    let sandbox = netd::Sandbox { container_id: uid.to_owned(), ifname: POD_IFNAME.to_owned() };
    let path = socket.clone();
    let asked = tokio::task::spawn_blocking(move || netd::ask(&path, netd::Request::Detach(sandbox), DETACH_PATIENCE));
    match asked.await? {
        Ok(netd::Response::Error(error)) => Err(CleanError::Refused(error.to_string())),
        Ok(_) => Ok(()),
        Err(source) => Err(CleanError::Silent { socket, source }),
    }
}

async fn remove_tree(path: PathBuf) -> Result<(), CleanError> {
    let target = path.clone();
    match tokio::task::spawn_blocking(move || fs::remove_dir_all(target)).await? {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(CleanError::File { path, source }),
        _ => Ok(()),
    }
}

/// Reads what is needed of images and node, and compiles the sandbox. Blocking.
fn compile(
    pod: &Pod,
    images: BTreeMap<String, ImageRef>,
    config: &Config,
    turn: &Turn,
) -> Result<minipod_protocol::shim::Sandbox, sandbox::Refusal> {
    let spec = pod.spec.clone().unwrap_or_default();
    let mut resolved = BTreeMap::new();
    for (name, image) in images {
        let Some(container) = find_container(pod, &name) else { continue };
        let wanted = sandbox::user_wanted(&spec, container, &image.config);
        let user = resolve_user(&image.layers, &wanted)
            .map_err(|error| sandbox::Refusal::of_container(&name, with_causes(&error)))?;
        resolved.insert(name, ContainerImage { layers: image.layers, config: image.config, user });
    }
    let mut sandbox = sandbox::compile_sandbox(pod, &resolved, &node_facts(config), turn)?;
    for container in sandbox.init_containers.iter_mut().chain(&mut sandbox.containers) {
        let image = find_container(pod, &container.name).and_then(|c| c.image.as_deref()).unwrap_or_default();
        container.unstartable = command::check(container, image).err();
    }
    if let Some((container, message)) = command::keeps_all(&sandbox) {
        let reason = "CreateContainerError";
        return Err(sandbox::Refusal { reason, ..sandbox::Refusal::of_container(container, message.to_owned()) });
    }
    for container in sandbox.init_containers.iter().chain(&sandbox.containers) {
        remove_old_logs(&container.log_directory, turn.run);
    }
    Ok(sandbox)
}

/// Keeps the logs of the run before this one, for `logs --previous`.
fn remove_old_logs(directory: &Path, run: u32) {
    let Some(all) = directory.parent() else { return };
    for old in 0..run.saturating_sub(1) {
        // Only space is lost where this fails.
        let _ = fs::remove_dir_all(all.join(old.to_string()));
    }
}

fn node_facts(config: &Config) -> NodeFacts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own = read("/etc/resolv.conf");
    // systemd-resolved's stub listens on the node's loopback, which is not the pod's.
    let stub = own.lines().any(|line| line.split_ascii_whitespace().eq(["nameserver", "127.0.0.53"]));
    let behind = if stub { read("/run/systemd/resolve/resolv.conf") } else { String::new() };
    NodeFacts {
        hostname: config.hostname.clone(),
        netd_socket: config.directories.netd_socket(),
        cgroup_parent: config.cgroup_parent.clone(),
        pod_data: config.directories.pod_data(),
        logs: config.directories.logs(),
        dns: NodeDns { cluster: config.cluster_dns.clone(), resolv_conf: if behind.is_empty() { own } else { behind } },
        hosts: read("/etc/hosts"),
    }
}

fn wanted_image(pod: &Pod, name: &str) -> (String, PullPolicy) {
    let container = find_container(pod, name);
    let policy = match container.and_then(|c| c.image_pull_policy.as_deref()) {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        _ => PullPolicy::IfNotPresent,
    };
    (container.and_then(|c| c.image.clone()).unwrap_or_default(), policy)
}

/// Tells once that an image is being pulled.
struct Pulling {
    recorder: Recorder,
    pod: Arc<Pod>,
    container: String,
    image: String,
    told: AtomicBool,
}

impl Progress for Pulling {
    fn event(&self, event: minipod_image::Event) {
        if matches!(event, minipod_image::Event::Resolving { .. }) && !self.told.swap(true, Ordering::Relaxed) {
            let message = format!("Pulling image \"{}\"", self.image);
            self.recorder.note(&self.pod, Some(&self.container), Tone::Normal, "Pulling", &message);
        }
    }
}

/// The container of that name, init container or not.
pub(super) fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.init_containers.iter().flatten().chain(&spec.containers).find(|container| container.name == name)
}

/// `namespace/name`
pub(super) fn pod_name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// The top-level fields of the status that differ, as a merge patch (RFC 7396).
pub(super) fn status_changes(old: Option<&PodStatus>, new: &PodStatus) -> Map<String, Value> {
    let fields = |status: Option<&PodStatus>| match status.map(serde_json::to_value) {
        Some(Ok(Value::Object(fields))) => fields,
        _ => Map::new(),
    };
    let (old, new) = (fields(old), fields(Some(new)));
    let mut changes = Map::new();
    for (name, value) in &new {
        if old.get(name) != Some(value) {
            changes.insert(name.clone(), value.clone());
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        changes.insert(name.clone(), Value::Null);
    }
    changes
}

/// An error with everything that led to it.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodStatus;
    use serde_json::json;

    use super::status_changes;

    #[test]
    fn only_what_differs_is_written_and_what_is_gone_is_removed() {
        let old = PodStatus {
            phase: Some("Pending".into()),
            message: Some("waiting".into()),
            pod_ip: Some("10.244.0.2".into()),
            ..PodStatus::default()
        };
        let new =
            PodStatus { phase: Some("Running".into()), pod_ip: Some("10.244.0.2".into()), ..PodStatus::default() };
        let changes = serde_json::Value::Object(status_changes(Some(&old), &new));
        assert_eq!(changes, json!({"phase": "Running", "message": null}));
        assert!(status_changes(Some(&new), &new).is_empty());
    }
}
