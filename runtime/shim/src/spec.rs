//! A container as an OCI runtime specification. Pure.
//!
//! Network, IPC and UTS namespaces are not named: a container's processes are descendants of the shim and stay in the shim's,
//! which are the pod's. PID, mount and cgroup namespaces are the container's own. The seccomp filter and the final
//! capabilities are set by [`crate::workload`], see there.

use std::path::{Path, PathBuf};

use minipod_protocol::shim::{Container, Resources};
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxCpuBuilder, LinuxDeviceCgroupBuilder,
    LinuxMemoryBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, Mount, MountBuilder, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

/// Needed to load a seccomp filter without `no_new_privs`, to own a terminal, and to give up the rest; given up before `execve`.
const FOR_THE_WORKLOAD: [Capability; 3] = [Capability::SysAdmin, Capability::Chown, Capability::Setpcap];

/// Hidden, as with the usual runtimes: they tell about the node or change it.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Where programs look for their control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Read-only, as with the usual runtimes.
const READ_ONLY: [&str; 6] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", CGROUPS];

/// The scheduler's period: the quota of a limit is counted in it.
const CPU_PERIOD_MICROS: u64 = 100_000;

/// What a container shares with its pod.
#[derive(Debug)]
pub(crate) struct PodFiles<'a> {
    /// the pod's `/dev/shm`
    pub(crate) shm: &'a Path,
    /// `(file of the node, path in the container)`
    pub(crate) etc: &'a [(PathBuf, PathBuf)],
    /// `(controller, the container's group)` of each v1 tree; empty with v2
    pub(crate) cgroups: &'a [(String, PathBuf)],
}

/// The specification of a container's first process and its surroundings.
pub(crate) fn compile_spec(
    container: &Container,
    rootfs: &Path,
    cgroup: &str,
    pod: &PodFiles<'_>,
) -> Result<Spec, OciSpecError> {
    let linux = LinuxBuilder::default()
        .namespaces(namespaces()?)
        .cgroups_path(cgroup)
        .resources(resources(&container.resources)?)
        .masked_paths(MASKED.map(String::from).to_vec())
        .readonly_paths(READ_ONLY.map(String::from).to_vec())
        .rootfs_propagation("slave")
        .build()?;
    let mut spec = SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(rootfs).readonly(container.read_only).build()?)
        .process(compile_process(container, &container.args, &container.env, container.tty)?)
        .mounts(mounts(container, pod)?)
        .linux(linux)
        .build()?;
    spec.set_hostname(None);
    Ok(spec)
}

/// The specification of a process in a container.
pub(crate) fn compile_process(
    container: &Container,
    args: &[String],
    env: &[String],
    tty: bool,
) -> Result<Process, OciSpecError> {
    let user = UserBuilder::default()
        .uid(container.uid)
        .gid(container.gid)
        .additional_gids(container.additional_gids.clone())
        .build()?;
    let mut process = ProcessBuilder::default()
        .terminal(tty)
        .user(user)
        .args(args)
        .env(env)
        .cwd(&container.working_dir)
        .capabilities(capabilities(container)?)
        .build()?;
    process.set_rlimits(None);
    process.set_oom_score_adj(None);
    // `Some(false)` would be read as set by libcontainer's seccomp step
    process.set_no_new_privileges(container.no_new_privileges.then_some(true));
    Ok(process)
}

/// The capabilities until [`crate::workload`] gives up the two that the container does not have.
fn capabilities(container: &Container) -> Result<LinuxCapabilities, OciSpecError> {
    let own =
        container.capabilities.iter().filter_map(|name| name.trim_start_matches("CAP_").parse::<Capability>().ok());
    let all: oci_spec::runtime::Capabilities = own.chain(FOR_THE_WORKLOAD).collect();
    let mut capabilities =
        LinuxCapabilitiesBuilder::default().bounding(all.clone()).effective(all.clone()).permitted(all).build()?;
    capabilities.set_inheritable(Some(oci_spec::runtime::Capabilities::new()));
    capabilities.set_ambient(Some(oci_spec::runtime::Capabilities::new()));
    Ok(capabilities)
}

/// The first name among these that is no capability.
pub(crate) fn unknown_capability(names: &[String]) -> Option<&str> {
    let known = |name: &str| name.strip_prefix("CAP_").is_some_and(|rest| rest.parse::<Capability>().is_ok());
    names.iter().map(String::as_str).find(|name| !known(name))
}

fn namespaces() -> Result<Vec<LinuxNamespace>, OciSpecError> {
    [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup]
        .into_iter()
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
        .collect()
}

fn resources(limits: &Resources) -> Result<LinuxResources, OciSpecError> {
    let everything = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build()?;
    let mut builder = LinuxResourcesBuilder::default().devices(vec![everything]);
    if let Some(bytes) = limits.memory_bytes {
        builder =
            builder.memory(LinuxMemoryBuilder::default().limit(i64::try_from(bytes).unwrap_or(i64::MAX)).build()?);
    }
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(millis) = limits.cpu_millis {
        let quota = i64::try_from(cpu_quota_micros(millis)).unwrap_or(i64::MAX);
        cpu = cpu.quota(quota).period(CPU_PERIOD_MICROS);
    }
    if let Some(millis) = limits.cpu_request_millis.or(limits.cpu_millis) {
        cpu = cpu.shares(cpu_shares(millis));
    }
    builder = builder.cpu(cpu.build()?);
    if let Some(pids) = limits.pids {
        builder = builder.pids(LinuxPidsBuilder::default().limit(i64::try_from(pids).unwrap_or(i64::MAX)).build()?);
    }
    builder.build()
}

/// Microseconds of processor time in each period of [`CPU_PERIOD_MICROS`]; the kernel takes no quota below 1 ms.
pub(crate) fn cpu_quota_micros(millis: u64) -> u64 {
    (millis.saturating_mul(CPU_PERIOD_MICROS) / 1000).max(1000)
}

/// The weight as `cpu.shares` of cgroup v1, 1024 for one processor.
pub(crate) fn cpu_shares(millis: u64) -> u64 {
    (millis.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

fn mounts(container: &Container, pod: &PodFiles<'_>) -> Result<Vec<Mount>, OciSpecError> {
    let mut mounts = vec![
        special("/proc", "proc", &["nosuid", "noexec", "nodev"])?,
        special("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        special("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"])?,
        special("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"])?,
        special("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
        bind(pod.shm, Path::new("/dev/shm"), &["rbind", "rw", "nosuid", "noexec", "nodev"])?,
    ];
    let access = if container.read_only { "ro" } else { "rw" };
    mounts.extend(cgroup_mounts(pod.cgroups)?);
    for (node, inside) in pod.etc {
        mounts.push(bind(node, inside, &["rbind", access, "nosuid", "nodev"])?);
    }
    for (node, inside) in &container.binds {
        mounts.push(bind(node, inside, &["rbind", "ro", "nosuid", "nodev"])?);
    }
    Ok(mounts)
}

/// The container's own control groups, read-only, as the usual runtimes show them: programs read their limits there. With v2 the cgroup
/// namespace shows the container's part; of v1 each tree's group is shown, since the executor would mount the trees writable.
fn cgroup_mounts(groups: &[(String, PathBuf)]) -> Result<Vec<Mount>, OciSpecError> {
    let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
    if groups.is_empty() {
        return Ok(vec![special(CGROUPS, "cgroup", &options)?]);
    }
    let mut mounts = vec![special(CGROUPS, "tmpfs", &["nosuid", "noexec", "nodev", "mode=755", "size=64k"])?];
    for (controller, group) in groups {
        mounts.push(bind(group, &Path::new(CGROUPS).join(controller), &["bind", "nosuid", "noexec", "nodev", "ro"])?);
    }
    Ok(mounts)
}

fn special(at: &str, kind: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    mount(Path::new(kind), Path::new(at), kind, options)
}

fn bind(source: &Path, at: &Path, options: &[&str]) -> Result<Mount, OciSpecError> {
    mount(source, at, "bind", options)
}

fn mount(source: &Path, at: &Path, kind: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    let options: Vec<String> = options.iter().map(ToString::to_string).collect();
    MountBuilder::default().source(source).destination(at).typ(kind).options(options).build()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use oci_spec::runtime::LinuxNamespaceType;

    use super::{PodFiles, compile_spec, cpu_quota_micros, cpu_shares, unknown_capability};
    use crate::testing::container;

    fn spec(change: impl FnOnce(&mut minipod_protocol::shim::Container)) -> oci_spec::runtime::Spec {
        spec_with(&[], change)
    }

    fn spec_with(
        cgroups: &[(String, PathBuf)],
        change: impl FnOnce(&mut minipod_protocol::shim::Container),
    ) -> oci_spec::runtime::Spec {
        let mut container = container("a");
        change(&mut container);
        let pod = PodFiles { shm: Path::new("/pod/shm"), etc: &[], cgroups };
        compile_spec(&container, Path::new("/pod/a/rootfs"), "/minipod/pod/a", &pod).expect("spec")
    }

    #[test]
    fn pid_mount_and_cgroup_are_the_containers_own_and_the_rest_is_the_pods() {
        let spec = spec(|_| {});
        let namespaces = spec.linux().as_ref().and_then(|l| l.namespaces().clone()).expect("namespaces");
        let kinds: Vec<_> = namespaces.iter().map(oci_spec::runtime::LinuxNamespace::typ).collect();
        assert_eq!(kinds, [LinuxNamespaceType::Pid, LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup]);
        assert_eq!(spec.hostname(), &None);
    }

    #[test]
    fn control_groups_are_shown_read_only() {
        let check = |groups: &[(String, PathBuf)], expected: &[(&str, &str)]| {
            let mounts = spec_with(groups, |_| {}).mounts().clone().unwrap_or_default();
            let shown = mounts.iter().filter(|mount| mount.destination().starts_with("/sys/fs/cgroup"));
            let shown =
                shown.map(|mount| (mount.destination().to_string_lossy(), mount.typ().as_deref().unwrap_or("")));
            let shown: Vec<_> = shown.collect();
            assert_eq!(shown.iter().map(|(at, kind)| (at.as_ref(), *kind)).collect::<Vec<_>>(), expected);
        };
        check(&[], &[("/sys/fs/cgroup", "cgroup")]);
        let memory = ("memory".to_owned(), PathBuf::from("/sys/fs/cgroup/memory/minipod/pod/a"));
        check(&[memory], &[("/sys/fs/cgroup", "tmpfs"), ("/sys/fs/cgroup/memory", "bind")]);
    }

    #[test]
    fn no_new_privileges_is_set_or_absent() {
        let check = |asked, expected| {
            let spec = spec(|c| c.no_new_privileges = asked);
            assert_eq!(spec.process().as_ref().expect("process").no_new_privileges(), expected);
        };
        check(true, Some(true));
        check(false, None);
    }

    #[test]
    fn limits_become_the_kernels_units() {
        assert_eq!((cpu_quota_micros(500), cpu_quota_micros(1)), (50_000, 1000));
        assert_eq!((cpu_shares(1000), cpu_shares(0)), (1024, 2));
        let spec = spec(|c| {
            c.resources.memory_bytes = Some(1 << 20);
            c.resources.pids = Some(10);
        });
        let resources = spec.linux().as_ref().and_then(|l| l.resources().clone()).expect("resources");
        assert_eq!(resources.memory().as_ref().and_then(oci_spec::runtime::LinuxMemory::limit), Some(1 << 20));
        assert_eq!(resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit), Some(10));
    }

    #[test]
    fn a_misspelled_capability_is_named() {
        assert_eq!(unknown_capability(&["CAP_CHOWN".into(), "CAP_NET_BIND_SERVICE".into()]), None);
        assert_eq!(unknown_capability(&["CAP_CHOWN".into(), "CAP_FLY".into()]), Some("CAP_FLY"));
        assert_eq!(unknown_capability(&["CHOWN".into()]), Some("CHOWN"));
    }
}
