//! Control groups of pods, on cgroup v2, v1 and the hybrid of both: one path below the root of every hierarchy.
//!
//! Model: a cgroup is named by its path, e.g. `/minipod/pod5d1c`, the same in every mounted hierarchy; a hierarchy that lacks
//! it is as good as one where it is empty. Ownership: only paths given by the caller are made, killed or removed, with all
//! below them. Nothing here is kept in memory but the mount points.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The mounted hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    /// in the order of the mount table
    all: Vec<Hierarchy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// the unified hierarchy
    V2,
    /// controllers of a v1 hierarchy; `name=systemd` is one without any
    V1(Vec<String>),
}

/// Limits of a cgroup; `None` leaves the kernel's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// bytes
    pub memory_bytes: Option<u64>,
    /// thousandths of a processor
    pub cpu_millis: Option<u64>,
    /// relative weight, thousandths of a processor
    pub cpu_request_millis: Option<u64>,
    /// processes and threads
    pub pids: Option<u64>,
}

/// A failure on a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// no hierarchy is mounted
    #[error("no cgroup hierarchy is mounted: mount one at /sys/fs/cgroup")]
    NotMounted,
    /// a file or directory refused
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// what was tried
        action: &'static str,
        /// the file or directory
        path: PathBuf,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
    /// a limit is given that no mounted controller can enforce
    #[error("no {controller} controller for the limit of cgroup `{cgroup}`: enable it in the kernel or drop the limit")]
    NoController {
        /// the controller
        controller: &'static str,
        /// the cgroup
        cgroup: String,
    },
    /// processes do not die
    #[error("processes of cgroup `{cgroup}` are still there after {}s: {pids:?}", .waited.as_secs())]
    Busy {
        /// the cgroup
        cgroup: String,
        /// the processes
        pids: Vec<i32>,
        /// how long was waited
        waited: Duration,
    },
}

impl Hierarchies {
    /// Reads the mount table.
    ///
    /// # Errors
    /// [`CgroupError::NotMounted`] when there is no cgroup at all.
    pub fn observe() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let table = fs::read_to_string(path).map_err(failed("read", path))?;
        let all = parse_mounts(&table);
        if all.is_empty() { Err(CgroupError::NotMounted) } else { Ok(Self { all }) }
    }

    /// Makes the cgroup with all above it and sets its limits. On v2 the controllers are enabled down to its parent.
    ///
    /// # Errors
    /// A limit that cannot be enforced is an error, never ignored.
    pub fn ensure(&self, cgroup: &str, limits: &Limits) -> Result<(), CgroupError> {
        for hierarchy in &self.all {
            hierarchy.ensure(cgroup)?;
        }
        self.limit("memory", limits.memory_bytes.is_some(), cgroup, |hierarchy| {
            vec![match hierarchy.kind {
                Kind::V2 => ("memory.max", text(limits.memory_bytes)),
                Kind::V1(_) => ("memory.limit_in_bytes", text(limits.memory_bytes)),
            }]
        })?;
        self.limit("cpu", limits.cpu_millis.is_some() || limits.cpu_request_millis.is_some(), cgroup, |hierarchy| {
            cpu_files(hierarchy, limits)
        })?;
        self.limit("pids", limits.pids.is_some(), cgroup, |_| vec![("pids.max", text(limits.pids))])
    }

    fn limit(
        &self,
        controller: &'static str,
        wanted: bool,
        cgroup: &str,
        files: impl Fn(&Hierarchy) -> Vec<(&'static str, String)>,
    ) -> Result<(), CgroupError> {
        if !wanted {
            return Ok(());
        }
        let Some(hierarchy) = self.all.iter().find(|h| h.has(controller)) else {
            return Err(CgroupError::NoController { controller, cgroup: cgroup.to_owned() });
        };
        for (file, value) in files(hierarchy) {
            let path = hierarchy.dir(cgroup).join(file);
            fs::write(&path, &value).map_err(failed("write", &path))?;
        }
        Ok(())
    }

    /// Moves a process into the cgroup, in every hierarchy but `cpuset` (whose groups take no process before they have
    /// processors).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_process(&self, cgroup: &str, pid: i32) -> Result<(), CgroupError> {
        for hierarchy in self.all.iter().filter(|h| !h.has_only("cpuset")) {
            let path = hierarchy.dir(cgroup).join("cgroup.procs");
            fs::write(&path, pid.to_string()).map_err(failed("write", &path))?;
        }
        Ok(())
    }

    /// Makes moves of processes fast for a moment, by moving this process to where it is: after a while without any, the kernel lets a
    /// move wait some ten milliseconds for a grace period of RCU (`cgroup_threadgroup_rwsem`), and those that follow go at once.
    ///
    /// Blocking, for that wait.
    ///
    /// # Errors
    /// What the kernel says; moves are slower then, nothing else.
    pub fn hasten_moves(&self) -> Result<(), CgroupError> {
        let path = Path::new("/proc/self/cgroup");
        let table = fs::read_to_string(path).map_err(failed("read", path))?;
        let own = self.all.iter().find_map(|hierarchy| Some(hierarchy.dir(own_cgroup(&table, &hierarchy.kind)?)));
        let Some(dir) = own else { return Ok(()) };
        let path = dir.join("cgroup.procs");
        fs::write(&path, std::process::id().to_string()).map_err(failed("write", &path))
    }

    /// Every process in the cgroup and below, sorted.
    #[must_use]
    pub fn pids(&self, cgroup: &str) -> Vec<i32> {
        let mut pids = Vec::new();
        for hierarchy in &self.all {
            collect_pids(&hierarchy.dir(cgroup), &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        // Processes of another PID namespace show as 0.
        pids.retain(|pid| *pid > 0);
        pids
    }

    /// Names of the cgroups directly below.
    #[must_use]
    pub fn children(&self, cgroup: &str) -> Vec<String> {
        let mut names: Vec<String> = self.all.iter().flat_map(|h| directories(&h.dir(cgroup))).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Whether any hierarchy has it.
    #[must_use]
    pub fn exists(&self, cgroup: &str) -> bool {
        self.all.iter().any(|h| h.dir(cgroup).is_dir())
    }

    /// Kills every process in the cgroup and below with SIGKILL until there is none.
    ///
    /// Blocking, up to `patience`.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] when processes are left.
    pub fn kill(&self, cgroup: &str, patience: Duration) -> Result<(), CgroupError> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let pids = self.pids(cgroup);
            if pids.is_empty() {
                return Ok(());
            }
            if start.elapsed() >= patience {
                return Err(CgroupError::Busy { cgroup: cgroup.to_owned(), pids, waited: patience });
            }
            for pid in pids {
                // A process that has ended since is as good as killed.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            pause_for(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Removes the cgroup and all below it; it is fine if it is not there. Processes that are just ending are waited for.
    ///
    /// Blocking, up to `patience`.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] when processes are left, [`CgroupError::Io`] for other refusals.
    pub fn remove(&self, cgroup: &str, patience: Duration) -> Result<(), CgroupError> {
        let start = Instant::now();
        for hierarchy in &self.all {
            let dir = hierarchy.dir(cgroup);
            let mut pause = Duration::from_millis(1);
            while let Err((path, source)) = remove_tree(&dir) {
                if source.raw_os_error() != Some(Errno::EBUSY as i32) {
                    return Err(failed("remove", &path)(source));
                }
                if start.elapsed() >= patience {
                    let pids = self.pids(cgroup);
                    return Err(CgroupError::Busy { cgroup: cgroup.to_owned(), pids, waited: patience });
                }
                pause_for(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// Removes the cgroup where it has neither processes nor cgroups below; elsewhere it stays, and that is fine.
    ///
    /// # Errors
    /// [`CgroupError::Io`] for other refusals.
    pub fn remove_if_empty(&self, cgroup: &str) -> Result<(), CgroupError> {
        for dir in self.all.iter().map(|hierarchy| hierarchy.dir(cgroup)) {
            match fs::remove_dir(&dir).map_err(|error| (error.raw_os_error().map(Errno::from_raw), error)) {
                Ok(()) | Err((Some(Errno::ENOENT | Errno::EBUSY | Errno::ENOTEMPTY), _)) => {}
                Err((_, error)) => return Err(failed("remove", &dir)(error)),
            }
        }
        Ok(())
    }
}

impl Hierarchy {
    fn dir(&self, cgroup: &str) -> PathBuf {
        self.mount.join(cgroup.trim_start_matches('/'))
    }

    fn has(&self, controller: &str) -> bool {
        match &self.kind {
            Kind::V1(controllers) => controllers.iter().any(|c| c == controller),
            Kind::V2 => words(&self.mount.join("cgroup.controllers")).iter().any(|c| c == controller),
        }
    }

    fn has_only(&self, controller: &str) -> bool {
        matches!(&self.kind, Kind::V1(controllers) if controllers.len() == 1 && controllers[0] == controller)
    }

    fn ensure(&self, cgroup: &str) -> Result<(), CgroupError> {
        let dir = self.dir(cgroup);
        fs::create_dir_all(&dir).map_err(failed("make", &dir))?;
        if self.kind == Kind::V2 {
            let mut parent = self.mount.clone();
            for part in Path::new(cgroup.trim_start_matches('/')) {
                enable_controllers(&parent)?;
                parent.push(part);
            }
        }
        Ok(())
    }
}

fn cpu_files(hierarchy: &Hierarchy, limits: &Limits) -> Vec<(&'static str, String)> {
    const PERIOD_MICROS: u64 = 100_000;
    let quota = limits.cpu_millis.map(|millis| (millis * PERIOD_MICROS / 1000).max(1000));
    // The numbers of the kubelet: 1024 shares a processor, at least 2, at most 262144.
    let shares = limits.cpu_request_millis.map(|millis| (millis * 1024 / 1000).clamp(2, 262_144));
    let mut files = Vec::new();
    match hierarchy.kind {
        Kind::V2 => {
            files.extend(quota.map(|quota| ("cpu.max", format!("{quota} {PERIOD_MICROS}"))));
            // KEP-2254's map of shares 2..262144 to weights 1..10000.
            files.extend(shares.map(|shares| ("cpu.weight", (1 + (shares - 2) * 9999 / 262_142).to_string())));
        }
        Kind::V1(_) => {
            if let Some(quota) = quota {
                files.push(("cpu.cfs_period_us", PERIOD_MICROS.to_string()));
                files.push(("cpu.cfs_quota_us", quota.to_string()));
            }
            files.extend(shares.map(|shares| ("cpu.shares", shares.to_string())));
        }
    }
    files
}

/// Hands memory, cpu and pids down to the children of a v2 cgroup, as far as it has them.
fn enable_controllers(dir: &Path) -> Result<(), CgroupError> {
    let enabled = words(&dir.join("cgroup.subtree_control"));
    for controller in words(&dir.join("cgroup.controllers")) {
        if matches!(controller.as_str(), "memory" | "cpu" | "pids") && !enabled.contains(&controller) {
            let path = dir.join("cgroup.subtree_control");
            fs::write(&path, format!("+{controller}")).map_err(failed("write", &path))?;
        }
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kernel tells nobody when a process has left a v1 cgroup; bounded by the caller"
)]
fn pause_for(time: Duration) {
    std::thread::sleep(time);
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn text(value: Option<u64>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

fn directories(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|t| t.is_dir());
    entries.flatten().filter(is_dir).filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn collect_pids(dir: &Path, pids: &mut Vec<i32>) {
    pids.extend(words(&dir.join("cgroup.procs")).iter().filter_map(|pid| pid.parse::<i32>().ok()));
    for child in directories(dir) {
        collect_pids(&dir.join(child), pids);
    }
}

fn remove_tree(dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    for child in directories(dir) {
        remove_tree(&dir.join(child))?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err((dir.to_owned(), error)),
        _ => Ok(()),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Io { action, path, source }
}

/// The cgroup mounts of a `mountinfo` table (proc(5)); a bind mount of a part of a hierarchy is left out, and of several
/// mounts of one hierarchy the first counts.
fn parse_mounts(table: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in table.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ').skip(3);
        let (Some(root), Some(mount)) = (left.next(), left.next()) else { continue };
        let mut right = right.split(' ');
        let (Some(kind), Some(options)) = (right.next(), right.nth(1)) else { continue };
        let kind = match kind {
            "cgroup2" => Kind::V2,
            "cgroup" => Kind::V1(controllers(options)),
            _ => continue,
        };
        if root == "/" && !found.iter().any(|h| h.kind == kind) {
            found.push(Hierarchy { mount: mount.into(), kind });
        }
    }
    found
}

/// The cgroup of the process with this table (`/proc/PID/cgroup`, cgroups(7)) in a hierarchy.
fn own_cgroup<'a>(table: &'a str, kind: &Kind) -> Option<&'a str> {
    let wanted = match kind {
        Kind::V1(controllers) => controllers.join(","),
        Kind::V2 => String::new(),
    };
    table.lines().find_map(|line| {
        let (controllers, cgroup) = line.split_once(':')?.1.split_once(':')?;
        (controllers == wanted).then_some(cgroup)
    })
}

fn controllers(options: &str) -> Vec<String> {
    let general = ["rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode"];
    let is_controller = |option: &&str| !general.contains(option) && !option.starts_with("release_agent=");
    options.split(',').filter(is_controller).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::{Hierarchies, Hierarchy, Kind, Limits, cpu_files, own_cgroup, parse_mounts};

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn the_hybrid_layout_is_read_from_the_mount_table() {
        let table = "\
25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
30 25 0:26 /sub /mnt rw - cgroup2 cgroup2 rw
";
        let v1 = |mount: &str, controllers: &[&str]| Hierarchy {
            mount: mount.into(),
            kind: Kind::V1(controllers.iter().map(|c| (*c).to_owned()).collect()),
        };
        let expected = vec![
            v1("/sys/fs/cgroup/memory", &["memory"]),
            v1("/sys/fs/cgroup/cpu,cpuacct", &["cpu", "cpuacct"]),
            v1("/sys/fs/cgroup/systemd", &["name=systemd"]),
            Hierarchy { mount: "/sys/fs/cgroup/unified".into(), kind: Kind::V2 },
        ];
        assert_eq!(parse_mounts(table), expected);
    }

    #[test]
    fn the_own_cgroup_is_read_from_the_table_of_the_process() {
        let table = "9:name=systemd:/a\n4:cpu,cpuacct:/b:c\n2:cpu:/d\n0::/e\n";
        let v1 = |controllers: &[&str]| Kind::V1(controllers.iter().map(|c| (*c).to_owned()).collect());
        assert_eq!(own_cgroup(table, &v1(&["cpu", "cpuacct"])), Some("/b:c"));
        assert_eq!(own_cgroup(table, &v1(&["name=systemd"])), Some("/a"));
        assert_eq!(own_cgroup(table, &v1(&["memory"])), None);
        assert_eq!(own_cgroup(table, &Kind::V2), Some("/e"));
    }

    #[test]
    fn a_process_stays_where_it_is_when_moves_are_hastened() {
        let own = || std::fs::read_to_string("/proc/self/cgroup").expect("the table");
        let before = own();
        let hierarchies = Hierarchies::observe().expect("a hierarchy");
        hierarchies.hasten_moves().expect("a move to the same place");
        assert_eq!(own(), before);
    }

    #[test]
    fn cpu_limits_are_the_kubelets_numbers() {
        let limits = Limits { cpu_millis: Some(500), cpu_request_millis: Some(250), ..Limits::default() };
        let v2 = Hierarchy { mount: Path::new("/").into(), kind: Kind::V2 };
        assert_eq!(cpu_files(&v2, &limits), [("cpu.max", "50000 100000".to_owned()), ("cpu.weight", "10".to_owned())]);
    }

    #[test]
    fn a_cgroup_is_made_limited_killed_and_removed() {
        let hierarchies = Hierarchies::observe().expect("cgroups are mounted");
        let cgroup = format!("/minipod-test-{}", std::process::id());
        let limits = Limits { memory_bytes: Some(64 << 20), pids: Some(20), ..Limits::default() };
        hierarchies.ensure(&cgroup, &limits).expect("made (needs root)");
        let below = format!("{cgroup}/below");
        hierarchies.ensure(&below, &Limits::default()).expect("made");
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(Stdio::null());
        let mut child = command.spawn().expect("sleep starts");
        let pid = i32::try_from(child.id()).expect("a pid");
        hierarchies.add_process(&below, pid).expect("moved");
        let inside = hierarchies.pids(&cgroup);
        let killed = hierarchies.kill(&cgroup, PATIENCE);
        child.wait().expect("it ends");
        hierarchies.remove(&cgroup, PATIENCE).expect("removed");
        assert_eq!(inside, [pid]);
        killed.expect("killed");
        assert!(!hierarchies.exists(&cgroup));
    }
}
