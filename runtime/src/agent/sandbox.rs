//! A Pod and its images in, everything that its shim needs to know out. Pure: the images' files, the node's names and the
//! directories come from the caller.
//!
//! What is not supported is refused here as well as by the API server, so that an object from an older store is never run as
//! something else than it says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, SecurityContext};
use minipod_image::ImageConfig;
use minipod_image::user::User;
use minipod_protocol::shim;

use super::{capabilities, dns, env, resources};

/// Kubernetes' default of `terminationGracePeriodSeconds`.
pub(super) const DEFAULT_GRACE_SECONDS: u64 = 30;

/// What the node gives to every pod.
#[derive(Debug, Clone)]
pub(super) struct NodeFacts {
    /// host name of the node
    pub(super) hostname: String,
    /// netd's socket
    pub(super) netd_socket: PathBuf,
    /// below it the pods' cgroups are made
    pub(super) cgroup_parent: String,
    /// where the writable layers go, one directory per pod
    pub(super) pod_data: PathBuf,
    /// where the logs go, one directory per pod
    pub(super) logs: PathBuf,
    /// names
    pub(super) dns: dns::NodeDns,
    /// the node's `/etc/hosts`
    pub(super) hosts: String,
}

/// One start of a pod, among several.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn {
    /// how many shims the pod had before
    pub(super) run: u32,
    /// containers that have done their work and are left out
    pub(super) done: BTreeSet<String>,
    /// variables that tell of services
    pub(super) services: Vec<(String, String)>,
}

/// The image of one container, unpacked.
#[derive(Debug, Clone)]
pub(super) struct ContainerImage {
    /// unpacked layers, topmost first
    pub(super) layers: Vec<PathBuf>,
    /// what the image says
    pub(super) config: ImageConfig,
    /// who runs, by the image's own files; see [`user_wanted`]
    pub(super) user: User,
}

/// A pod that cannot be run as its object says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    /// one word, as Kubernetes has it
    pub(super) reason: &'static str,
    /// the container, if it is about one
    pub(super) container: Option<String>,
    /// for people
    pub(super) message: String,
}

/// Of a refusal unless something else is said: what the object says does not fit the node or the image.
const CONFIG_ERROR: &str = "CreateContainerConfigError";

impl Refusal {
    /// Of one container.
    pub(super) fn of_container(name: &str, message: String) -> Self {
        Self { reason: CONFIG_ERROR, container: Some(name.to_owned()), message }
    }
}

/// The pod's cgroup.
pub(super) fn pod_cgroup(parent: &str, uid: &str) -> String {
    format!("{parent}/pod{uid}")
}

/// The directory of the logs of a container's starts under one shim; a pod that was started anew has a new `run`.
pub(super) fn log_directory(logs: &Path, uid: &str, container: &str, run: u32) -> PathBuf {
    logs.join(uid).join(container).join(run.to_string())
}

/// The user that a container is to run as, in the form of an image's `User` (`1000`, `nobody:nogroup`, empty for root).
pub(super) fn user_wanted(spec: &PodSpec, container: &Container, config: &ImageConfig) -> String {
    let pod = spec.security_context.as_ref();
    let own = container.security_context.as_ref();
    let user = own.and_then(|c| c.run_as_user).or(pod.and_then(|c| c.run_as_user));
    let group = own.and_then(|c| c.run_as_group).or(pod.and_then(|c| c.run_as_group));
    match (user, group) {
        (None, None) => config.user.clone(),
        (Some(user), None) => user.to_string(),
        (Some(user), Some(group)) => format!("{user}:{group}"),
        (None, Some(group)) => match config.user.split(':').next().filter(|user| !user.is_empty()) {
            Some(user) => format!("{user}:{group}"),
            None => format!("0:{group}"),
        },
    }
}

/// Everything that the shim needs to know. `images` are by container name.
pub(super) fn compile_sandbox(
    pod: &Pod,
    images: &BTreeMap<String, ContainerImage>,
    node: &NodeFacts,
    turn: &Turn,
) -> Result<shim::Sandbox, Refusal> {
    let spec = pod.spec.as_ref().ok_or_else(|| refuse_pod("the pod has no spec"))?;
    check_supported(spec)?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let host_network = spec.host_network.unwrap_or(false);
    let hostname = if host_network { node.hostname.clone() } else { hostname(spec, &name) };
    let cgroup = pod_cgroup(&node.cgroup_parent, &uid);
    let place = Place { node, spec, uid: &uid, hostname: &hostname, turn };
    let compile_all = |containers: &[Container]| {
        containers.iter().map(|c| compile_container(c, images, &place)).collect::<Result<Vec<_>, _>>()
    };
    let left: Vec<Container> = spec.containers.iter().filter(|c| !turn.done.contains(&c.name)).cloned().collect();
    Ok(shim::Sandbox {
        init_containers: compile_all(spec.init_containers.as_deref().unwrap_or_default())?,
        containers: compile_all(&left)?,
        netd_socket: (!host_network).then(|| node.netd_socket.clone()),
        cgroup,
        resources: resources::of_pod(spec).map_err(|e| refuse_pod(e.to_string()))?,
        restart_policy: restart_policy(spec),
        grace_period_seconds: grace_seconds(spec),
        host_aliases: host_aliases(spec, host_network.then_some(node.hosts.as_str())),
        resolv_conf: dns::resolv_conf(spec, &namespace, &node.dns).map_err(|e| refuse_pod(e.to_string()))?,
        hostname,
        namespace,
        name,
        uid,
    })
}

/// `spec.restartPolicy`, `Always` where it is missing.
pub(super) fn restart_policy(spec: &PodSpec) -> shim::RestartPolicy {
    match spec.restart_policy.as_deref() {
        Some("Never") => shim::RestartPolicy::Never,
        Some("OnFailure") => shim::RestartPolicy::OnFailure,
        _ => shim::RestartPolicy::Always,
    }
}

/// `spec.terminationGracePeriodSeconds`.
pub(super) fn grace_seconds(spec: &PodSpec) -> u64 {
    let given = spec.termination_grace_period_seconds;
    given.map_or(DEFAULT_GRACE_SECONDS, |seconds| u64::try_from(seconds).unwrap_or(0))
}

struct Place<'a> {
    node: &'a NodeFacts,
    spec: &'a PodSpec,
    uid: &'a str,
    hostname: &'a str,
    turn: &'a Turn,
}

fn compile_container(
    container: &Container,
    images: &BTreeMap<String, ContainerImage>,
    place: &Place<'_>,
) -> Result<shim::Container, Refusal> {
    let refuse = |message: String| Refusal::of_container(&container.name, message);
    let image = images.get(&container.name).ok_or_else(|| refuse("its image is not there".to_owned()))?;
    let security = container.security_context.as_ref();
    let pod_security = place.spec.security_context.as_ref();
    check_non_root(container, place.spec, image.user.uid).map_err(refuse)?;

    let declared = env::declared(&place.turn.services, container.env.as_deref().unwrap_or_default());
    let lookup = |name: &str| declared.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let expand = |words: Option<&Vec<String>>| -> Vec<String> {
        words.into_iter().flatten().map(|word| env::expand(word, lookup)).collect()
    };
    let args = image
        .config
        .command(&expand(container.command.as_ref()), &expand(container.args.as_ref()))
        .map_err(|error| refuse(error.to_string()))?;

    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let tty = container.tty.unwrap_or(false);
    let environment = env::merge(
        [("HOSTNAME", place.hostname)]
            .into_iter()
            .chain(tty.then_some(("TERM", "xterm")))
            .chain(image.config.env.iter().filter_map(|line| line.split_once('=')))
            .map(pair)
            .chain(declared.iter().cloned()),
    );

    let working_dir = container.working_dir.clone().unwrap_or_else(|| image.config.working_dir.clone());
    if !working_dir.starts_with('/') {
        return Err(refuse(format!("workingDir `{working_dir}` is not absolute: begin it with `/`")));
    }
    let mut additional_gids = image.user.additional_gids.clone();
    for gid in pod_security.and_then(|c| c.supplemental_groups.as_ref()).into_iter().flatten() {
        additional_gids.push(group_id(*gid).map_err(refuse)?);
    }
    if let Some(gid) = pod_security.and_then(|c| c.fs_group) {
        additional_gids.push(group_id(gid).map_err(refuse)?);
    }
    additional_gids.sort_unstable();
    additional_gids.dedup();

    Ok(shim::Container {
        name: container.name.clone(),
        layers: image.layers.clone(),
        directory: place.node.pod_data.join(place.uid).join(&container.name),
        log_directory: log_directory(&place.node.logs, place.uid, &container.name, place.turn.run),
        args,
        env: environment,
        working_dir,
        uid: image.user.uid,
        gid: image.user.gid,
        additional_gids,
        capabilities: capabilities::resolve(security.and_then(|c| c.capabilities.as_ref()))
            .map_err(|error| refuse(error.to_string()))?,
        no_new_privileges: security.and_then(|c| c.allow_privilege_escalation) == Some(false),
        read_only: security.and_then(|c| c.read_only_root_filesystem).unwrap_or(false),
        seccomp: seccomp(security, place.spec).map_err(refuse)?,
        resources: resources::of_container(container).map_err(|error| refuse(error.to_string()))?,
        tty,
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        stop_signal: image.config.stop_signal,
        binds: Vec::new(),
        unstartable: None,
    })
}

fn hostname(spec: &PodSpec, name: &str) -> String {
    let wanted = spec.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or(name);
    // The kernel takes 64 bytes; Kubernetes cuts at 63 and leaves no dot or dash at the end.
    let cut: String = wanted.chars().take(63).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

fn host_aliases(spec: &PodSpec, node_hosts: Option<&str>) -> Vec<String> {
    let own = spec.host_aliases.iter().flatten().filter_map(|alias| {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        (!names.is_empty()).then(|| format!("{}\t{}", alias.ip, names.join("\t")))
    });
    let node = node_hosts.unwrap_or_default().lines().map(str::trim);
    node.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).chain(own).collect()
}

fn check_non_root(container: &Container, spec: &PodSpec, uid: u32) -> Result<(), String> {
    let own = container.security_context.as_ref().and_then(|c| c.run_as_non_root);
    let non_root = own.or(spec.security_context.as_ref().and_then(|c| c.run_as_non_root)).unwrap_or(false);
    if non_root && uid == 0 {
        return Err("container has runAsNonRoot and would run as root: set `runAsUser` to another user".to_owned());
    }
    Ok(())
}

fn group_id(gid: i64) -> Result<u32, String> {
    u32::try_from(gid).map_err(|_| format!("group `{gid}` is no group ID: use a number from 0 to 4294967295"))
}

fn seccomp(security: Option<&SecurityContext>, spec: &PodSpec) -> Result<shim::Seccomp, String> {
    let own = security.and_then(|c| c.seccomp_profile.as_ref());
    let profile = own.or(spec.security_context.as_ref().and_then(|c| c.seccomp_profile.as_ref()));
    match profile.map_or("RuntimeDefault", |profile| profile.type_.as_str()) {
        "RuntimeDefault" => Ok(shim::Seccomp::RuntimeDefault),
        "Unconfined" => Ok(shim::Seccomp::Unconfined),
        other => Err(format!("seccomp profile `{other}` is not supported: use RuntimeDefault or Unconfined")),
    }
}

fn check_supported(spec: &PodSpec) -> Result<(), Refusal> {
    let pod_fields = [
        ("hostPID", spec.host_pid == Some(true)),
        ("hostIPC", spec.host_ipc == Some(true)),
        ("shareProcessNamespace", spec.share_process_namespace == Some(true)),
        ("volumes", spec.volumes.as_ref().is_some_and(|v| !v.is_empty())),
        ("ephemeralContainers", spec.ephemeral_containers.as_ref().is_some_and(|c| !c.is_empty())),
        ("runtimeClassName", spec.runtime_class_name.is_some()),
        (
            "securityContext.sysctls",
            spec.security_context.as_ref().is_some_and(|c| c.sysctls.as_ref().is_some_and(|s| !s.is_empty())),
        ),
    ];
    if let Some((field, _)) = pod_fields.into_iter().find(|(_, used)| *used) {
        return Err(refuse_pod(format!("`spec.{field}` is not supported: leave it out")));
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        let security = container.security_context.as_ref();
        let fields = [
            ("securityContext.privileged", security.and_then(|c| c.privileged) == Some(true)),
            (
                "securityContext.procMount",
                security.is_some_and(|c| c.proc_mount.as_deref().is_some_and(|m| m != "Default")),
            ),
            ("envFrom", container.env_from.as_ref().is_some_and(|e| !e.is_empty())),
            ("env[].valueFrom", container.env.iter().flatten().any(|e| e.value_from.is_some())),
            ("volumeMounts", container.volume_mounts.as_ref().is_some_and(|v| !v.is_empty())),
            ("volumeDevices", container.volume_devices.as_ref().is_some_and(|v| !v.is_empty())),
            ("restartPolicy", container.restart_policy.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, used)| *used) {
            let message = format!("`{field}` is not supported: leave it out");
            return Err(Refusal::of_container(&container.name, message));
        }
    }
    Ok(())
}

fn refuse_pod(message: impl Into<String>) -> Refusal {
    Refusal { reason: CONFIG_ERROR, container: None, message: message.into() }
}

#[cfg(test)]
mod tests;
