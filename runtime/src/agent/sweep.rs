//! What earlier boots and daemons left: swept before the agent looks at any pod. A pod's directory in the run directory says
//! that a shim of this boot has run it; writable layers and cgroups without such a directory belong to nobody.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use minipod_kernel::cgroup::Hierarchies;

use super::Config;
use super::effects::with_causes;

/// Killed processes end within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes what belongs to no pod of this boot. What cannot be removed is logged and left.
pub(super) async fn sweep(config: &Config, cgroups: &Hierarchies) {
    let (config, cgroups) = (config.clone(), cgroups.clone());
    let swept = tokio::task::spawn_blocking(move || {
        let known: BTreeSet<String> = directories(&config.directories.pods()).into_iter().collect();
        remove_unknown(&config.directories.pod_data(), &known);
        for name in cgroups.children(&config.cgroup_parent) {
            let Some(uid) = pod_of_cgroup(&name).filter(|uid| !known.contains(*uid)) else { continue };
            let cgroup = format!("{}/{name}", config.cgroup_parent);
            let removed = cgroups.kill(&cgroup, PATIENCE).and_then(|()| cgroups.remove(&cgroup, PATIENCE));
            if let Err(error) = removed {
                tracing::warn!(uid, error = with_causes(&error), "the cgroup of an earlier pod is left");
            }
        }
    });
    if let Err(error) = swept.await {
        tracing::warn!(error = with_causes(&error), "the sweep ended early");
    }
}

/// Removes the directories below that are not named by one of the known UIDs.
pub(super) fn remove_unknown(path: &Path, known: &BTreeSet<String>) {
    for uid in directories(path).into_iter().filter(|uid| !known.contains(uid)) {
        if let Err(error) = fs::remove_dir_all(path.join(&uid)) {
            tracing::warn!(uid, path = %path.display(), error = with_causes(&error), "files of an earlier pod are left");
        }
    }
}

/// The UID of the pod whose cgroup has this name. What else is below the parent is somebody else's.
pub(crate) fn pod_of_cgroup(name: &str) -> Option<&str> {
    let uid = name.strip_prefix("pod")?;
    (uid.len() == 36 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')).then_some(uid)
}

/// Names of the directories below; none where there is no such directory.
pub(crate) fn directories(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut names: Vec<String> =
        entries.flatten().filter(is_dir).filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::pod_of_cgroup;

    #[test]
    fn only_cgroups_that_are_named_by_a_uid_are_pods() {
        let uid = "2b209c2a-3e63-4855-ba99-2e4da3f8d5f3";
        assert_eq!(pod_of_cgroup(&format!("pod{uid}")), Some(uid));
        for other in ["podman.service", "pod", "ssh.service", uid] {
            assert_eq!(pod_of_cgroup(other), None, "{other}");
        }
    }
}
