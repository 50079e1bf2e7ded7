//! The end of a lab: what it looked like when a test failed, and its removal.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Lab;
use crate::wait::until;

/// Prints the node's state: for the reader of a failed test.
#[expect(clippy::print_stderr, reason = "a failed test explains itself on standard error")]
pub(super) fn dump(lab: &Lab) {
    let script = "minipod get pods,services,networkpolicies -A -o wide; ip -br address; ip route; ip -6 route; \
                  iptables-$MINIPOD_IPTABLES-save -c; ip6tables-$MINIPOD_IPTABLES-save -c; ipset list; conntrack -L; true";
    eprintln!("=== {} at the time of the failure\n{}", lab.name, lab.shell(script));
    eprintln!("=== log of the daemon\n{}", lab.node_log());
}

/// Removes everything: first as a user would, then whatever is left. With the first process of the node's process namespace
/// every other one ends, and with the last process the other namespaces.
pub(super) fn remove(lab: &mut Lab) {
    let _ = lab.minipod(&["node", "reset", "--yes"]);
    let _ = Command::new("kill").args(["-KILL", &lab.anchor.to_string()]).stderr(Stdio::null()).status();
    let _ = lab.launcher.wait();
    for root in cgroup_roots() {
        remove_cgroup(&root.join(lab.cgroup()));
    }
}

/// The roots of all cgroup hierarchies: one with v2, one per controller with v1.
#[must_use]
pub fn cgroup_roots() -> Vec<std::path::PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|f| f.get(2).is_some_and(|kind| kind.starts_with("cgroup"))).map(|f| f[1].into()).collect()
}

fn remove_cgroup(directory: &Path) {
    for child in child_groups(directory) {
        remove_cgroup(&child);
    }
    // The processes were killed a moment ago; the directory can go once the kernel has let go of them.
    let _ = until("the cgroup to be empty", Duration::from_secs(5), || {
        (!directory.exists() || std::fs::remove_dir(directory).is_ok()).then_some(())
    });
}

fn child_groups(directory: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}
