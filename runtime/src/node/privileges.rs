//! What root must be allowed to do to be a node. In a container or a restricted session root may have lost it; that is told at
//! start, by name, rather than by the first pod that fails.

use std::fs;
use std::io;

/// Bits of `CapEff` (`capabilities(7)`, `linux/capability.h`): links and rules, the programs that make rules, namespaces and mounts.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// Why this process cannot be a node.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    /// `/proc` is not as it should be
    #[error("cannot read the privileges of this process from `/proc/self/status`: mount proc at /proc")]
    Unknown(#[source] io::Error),
    /// some are missing
    #[error(
        "`minipod node` runs as root, but without {}: start it outside of the container or session that took it away",
        .0.join(" and ")
    )]
    Missing(Vec<&'static str>),
}

/// Whether this process has every privilege that a node needs.
pub(super) fn check() -> Result<(), PrivilegesError> {
    let status = fs::read_to_string("/proc/self/status").map_err(PrivilegesError::Unknown)?;
    match missing(&status) {
        names if names.is_empty() => Ok(()),
        names => Err(PrivilegesError::Missing(names)),
    }
}

fn missing(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    NEEDED.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn privileges_that_root_lost_are_named() {
        assert_eq!(missing("Uid:\t0\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n"), [""; 0]);
        assert_eq!(missing("CapEff:\t00000000a80425fb\n"), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    }
}
