//! The pod's control groups: making, joining, limits, what was killed for memory, removal.
//!
//! Works on cgroup v1 (a tree for each controller), v2 (one tree) and the hybrid of both. Containers' groups are made by the
//! executor below the pod's; this module removes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use minipod_protocol::shim::Resources;

use crate::spec::{cpu_quota_micros, cpu_shares};

/// How long the kernel is given to let go of a group whose last process has ended.
const REMOVAL: Duration = Duration::from_secs(2);

/// The controllers of the limits that pods have.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The controllers of v1 that the executor knows (libcgroups, `v1/controller_type.rs`).
const EXECUTORS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "hugetlb",
    "pids",
    "perf_event",
    "memory",
    "blkio",
    "net_prio",
    "net_cls",
    "freezer",
];

/// Why a group could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    /// nothing is mounted
    #[error("no cgroup file system is mounted; mount cgroup2 at /sys/fs/cgroup")]
    NotMounted,
    /// the list of mounts could not be read
    #[error("cannot read /proc/self/mountinfo")]
    Mounts(#[source] io::Error),
    /// nothing could limit devices
    #[error("neither the devices controller of cgroup v1 nor cgroup v2 is there to limit devices")]
    NoDevices,
    /// the BPF program was refused
    #[error("cannot limit the devices of cgroup `{}`; the kernel needs CONFIG_CGROUP_BPF", .path.display())]
    Devices {
        /// the group
        path: PathBuf,
        /// what refused
        #[source]
        source: io::Error,
    },
    /// a file or directory refused
    #[error("cannot set up cgroup `{}`", .path.display())]
    Io {
        /// the file or directory
        path: PathBuf,
        /// what refused
        #[source]
        source: io::Error,
    },
}

/// One mounted tree.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// v1, with these controllers (and other mount options)
    V1(Vec<String>),
    /// v2 with controllers
    V2,
    /// v2 without any controller that limits are set by, beside v1, which has them (v2 may still offer others, like `hugetlb`)
    V2Bare,
}

/// The mounted trees.
#[derive(Debug)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    /// Looks up what is mounted.
    pub(crate) fn observe() -> Result<Self, CgroupError> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(CgroupError::Mounts)?;
        let mut hierarchies = parse_mounts(&mounts);
        for hierarchy in &mut hierarchies {
            if hierarchy.kind == Kind::V2 {
                let controllers = fs::read_to_string(hierarchy.root.join("cgroup.controllers")).unwrap_or_default();
                if !controllers.split_whitespace().any(|offered| CONTROLLERS.contains(&offered)) {
                    hierarchy.kind = Kind::V2Bare;
                }
            }
        }
        if hierarchies.is_empty() { Err(CgroupError::NotMounted) } else { Ok(Self { hierarchies }) }
    }

    /// Limits the devices that the group's processes may open, where no v1 controller does it.
    pub(crate) fn limit_devices(&self, group: &str) -> Result<(), CgroupError> {
        if self.hierarchies.iter().any(|hierarchy| hierarchy.has("devices")) {
            return Ok(());
        }
        let tree = self.hierarchies.iter().find(|hierarchy| hierarchy.kind == Kind::V2);
        let path = tree.ok_or(CgroupError::NoDevices)?.path(group);
        crate::devices::limit(&path).map_err(|source| CgroupError::Devices { path, source })
    }

    /// Makes the group with its limits in every tree.
    pub(crate) fn ensure(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        for hierarchy in &self.hierarchies {
            hierarchy.ensure(group)?;
            for (file, value) in hierarchy.limits(limits) {
                write(&hierarchy.path(group).join(file), &value)?;
            }
        }
        Ok(())
    }

    /// The controllers of v1 in whose trees the executor makes a container's group, with that group; none with v2.
    pub(crate) fn v1_groups(&self, group: &str) -> Vec<(String, PathBuf)> {
        let known = EXECUTORS.iter().filter_map(|controller| {
            let tree = self.hierarchies.iter().find(|hierarchy| hierarchy.has(controller))?;
            Some(((*controller).to_owned(), tree.path(group)))
        });
        known.collect()
    }

    /// Moves a process into the group, in every tree.
    pub(crate) fn place(&self, process: u32, group: &str) -> Result<(), CgroupError> {
        let pid = process.to_string();
        self.hierarchies.iter().try_for_each(|hierarchy| write(&hierarchy.path(group).join("cgroup.procs"), &pid))
    }

    /// How many processes of the group the kernel has killed for memory.
    pub(crate) fn memory_kills(&self, group: &str) -> u64 {
        let file = |hierarchy: &Hierarchy| match hierarchy.kind {
            Kind::V1(_) if hierarchy.has("memory") => Some("memory.oom_control"),
            Kind::V2 => Some("memory.events"),
            _ => None,
        };
        let texts = self
            .hierarchies
            .iter()
            .filter_map(|hierarchy| fs::read_to_string(hierarchy.path(group).join(file(hierarchy)?)).ok());
        texts.filter_map(|text| field(&text, "oom_kill")).sum()
    }

    /// Kills what is left in the group and removes it with the groups below it, in every tree.
    pub(crate) fn remove(&self, group: &str) -> Result<(), CgroupError> {
        let deadline = Instant::now() + REMOVAL;
        for hierarchy in &self.hierarchies {
            let path = hierarchy.path(group);
            while let Err(source) = remove_tree(&path) {
                if Instant::now() >= deadline {
                    return Err(CgroupError::Io { path, source });
                }
                thread::park_timeout(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

impl Hierarchy {
    fn path(&self, group: &str) -> PathBuf {
        self.root.join(group.trim_start_matches('/'))
    }

    fn has(&self, controller: &str) -> bool {
        matches!(&self.kind, Kind::V1(names) if names.iter().any(|name| name == controller))
    }

    fn ensure(&self, group: &str) -> Result<(), CgroupError> {
        let mut path = self.root.clone();
        for component in Path::new(group.trim_start_matches('/')).components() {
            if self.kind == Kind::V2 {
                hand_down_controllers(&path);
            }
            let parent = path.clone();
            path.push(component);
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(CgroupError::Io { path, source }),
            }
            if self.has("cpuset") {
                inherit_cpuset(&parent, &path)?;
            }
        }
        Ok(())
    }

    fn limits(&self, limits: &Resources) -> Vec<(&'static str, String)> {
        let mut files = Vec::new();
        let weight = limits.cpu_request_millis.or(limits.cpu_millis).map(cpu_shares);
        if self.kind == Kind::V2 {
            files.extend(limits.memory_bytes.map(|bytes| ("memory.max", bytes.to_string())));
            files.extend(limits.cpu_millis.map(|millis| ("cpu.max", format!("{} 100000", cpu_quota_micros(millis)))));
            files.extend(weight.map(|shares| ("cpu.weight", weight_of_shares(shares).to_string())));
            files.extend(limits.pids.map(|pids| ("pids.max", pids.to_string())));
        }
        if self.has("memory") {
            files.extend(limits.memory_bytes.map(|bytes| ("memory.limit_in_bytes", bytes.to_string())));
        }
        if self.has("cpu") {
            files.extend(limits.cpu_millis.map(|millis| ("cpu.cfs_quota_us", cpu_quota_micros(millis).to_string())));
            files.extend(weight.map(|shares| ("cpu.shares", shares.to_string())));
        }
        if self.has("pids") {
            files.extend(limits.pids.map(|pids| ("pids.max", pids.to_string())));
        }
        files
    }
}

/// The v1 weight (2 to 262144) as the v2 weight (1 to 10000), as Kubernetes converts it (KEP-2254).
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.saturating_sub(2) * 9999) / 262_142
}

fn parse_mounts(mountinfo: &str) -> Vec<Hierarchy> {
    mountinfo.lines().filter_map(parse_mount).fold(Vec::new(), |mut found, hierarchy| {
        if !found.iter().any(|other: &Hierarchy| other.kind == hierarchy.kind) {
            found.push(hierarchy);
        }
        found
    })
}

/// `36 35 98:0 / /mount/point rw,noatime shared:1 - type source options` (proc(5)).
fn parse_mount(line: &str) -> Option<Hierarchy> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let (kind, _source, options) = (after.next()?, after.next()?, after.next()?);
    let root = PathBuf::from(before.split(' ').nth(4)?);
    match kind {
        "cgroup" => {
            let names = options.split(',').filter(|option| !matches!(*option, "rw" | "ro" | "xattr"));
            Some(Hierarchy { root, kind: Kind::V1(names.map(String::from).collect()) })
        }
        "cgroup2" => Some(Hierarchy { root, kind: Kind::V2 }),
        _ => None,
    }
}

/// A group's children have the controllers that it names. What is not offered cannot be handed down; a limit that needs it
/// fails later, by name.
fn hand_down_controllers(group: &Path) {
    for controller in CONTROLLERS {
        drop(fs::write(group.join("cgroup.subtree_control"), format!("+{controller}")));
    }
}

/// A new v1 cpuset is empty and takes no process until it has processors and memory nodes.
fn inherit_cpuset(parent: &Path, group: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), group.join(file));
        let read =
            |path: &Path| fs::read_to_string(path).map_err(|source| CgroupError::Io { path: path.to_owned(), source });
        if read(&to)?.trim().is_empty() {
            write(&to, read(&from)?.trim())?;
        }
    }
    Ok(())
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    fs::write(path, value).map_err(|source| CgroupError::Io { path: path.to_owned(), source })
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    kill_all(group);
    fs::remove_dir(group)
}

fn kill_all(group: &Path) {
    let own = std::process::id();
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != own) {
        let pid = i32::try_from(pid).unwrap_or_default();
        if pid > 0 {
            // it may have ended by itself in between
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Hierarchy, Kind, field, parse_mounts, weight_of_shares};

    #[test]
    fn a_hybrid_layout_is_read_from_mountinfo() {
        let text = "25 20 0:22 / /sys rw - sysfs sysfs rw\n\
                    30 25 0:26 / /sys/fs/cgroup rw,relatime - tmpfs none rw,mode=755\n\
                    31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct\n\
                    32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                    33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                    40 30 0:29 / /elsewhere rw - cgroup2 cgroup2 rw\n";
        let v1 = |names: &[&str]| Kind::V1(names.iter().map(ToString::to_string).collect());
        let expected = [
            Hierarchy { root: PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"), kind: v1(&["cpu", "cpuacct"]) },
            Hierarchy { root: PathBuf::from("/sys/fs/cgroup/systemd"), kind: v1(&["name=systemd"]) },
            Hierarchy { root: PathBuf::from("/sys/fs/cgroup/unified"), kind: Kind::V2 },
        ];
        assert_eq!(parse_mounts(text), expected);
        assert_eq!(parse_mounts(""), []);
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(v1, "oom_kill"), Some(3));
        assert_eq!(field("oom 1\noom_kill_disable 0\n", "oom_kill"), None);
    }

    #[test]
    fn weights_are_converted_at_both_ends() {
        assert_eq!((weight_of_shares(2), weight_of_shares(1024), weight_of_shares(262_144)), (1, 39, 10_000));
    }
}
