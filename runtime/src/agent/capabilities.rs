//! Which capabilities a container has: the set that containerd, CRI-O and Docker give by default, and `add` and `drop` of its
//! security context.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Capabilities;

/// The default set of the usual runtimes (containerd `oci.defaultUnixCaps`).
const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What Linux knows beside the default set (`include/uapi/linux/capability.h`).
const OTHERS: [&str; 27] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_DAC_READ_SEARCH",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_NET_ADMIN",
    "CAP_NET_BROADCAST",
    "CAP_PERFMON",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYSLOG",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

/// A capability that Linux does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability `{0}`: use a name of capabilities(7) such as `NET_ADMIN`, or `ALL`")]
pub(super) struct UnknownCapability(String);

/// The container's capabilities, sorted. `ALL` is taken first, then the single names.
pub(super) fn resolve(changes: Option<&Capabilities>) -> Result<Vec<String>, UnknownCapability> {
    let names = |list: Option<&Vec<String>>| {
        list.into_iter().flatten().map(|name| parse(name)).collect::<Result<Vec<Name>, _>>()
    };
    let add = names(changes.and_then(|c| c.add.as_ref()))?;
    let drop = names(changes.and_then(|c| c.drop.as_ref()))?;
    let mut set = if drop.contains(&Name::All) { BTreeSet::new() } else { DEFAULT.into_iter().collect() };
    for name in add {
        match name {
            Name::All => set.extend(DEFAULT.into_iter().chain(OTHERS)),
            Name::One(name) => {
                set.insert(name);
            }
        }
    }
    for name in drop {
        if let Name::One(name) = name {
            set.remove(name);
        }
    }
    Ok(set.into_iter().map(str::to_owned).collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    All,
    One(&'static str),
}

fn parse(text: &str) -> Result<Name, UnknownCapability> {
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if bare == "ALL" {
        return Ok(Name::All);
    }
    let known = DEFAULT.into_iter().chain(OTHERS).find(|name| name.strip_prefix("CAP_") == Some(bare));
    known.map(Name::One).ok_or_else(|| UnknownCapability(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Capabilities;

    use super::{DEFAULT, OTHERS, resolve};

    #[track_caller]
    fn check(add: &[&str], drop: &[&str], expected: &[&str]) {
        let list = |names: &[&str]| (!names.is_empty()).then(|| names.iter().map(|n| (*n).to_owned()).collect());
        let changes = Capabilities { add: list(add), drop: list(drop) };
        assert_eq!(resolve(Some(&changes)).expect("known names"), expected);
    }

    #[test]
    fn without_a_word_the_default_set_holds() {
        assert_eq!(resolve(None).expect("no names"), DEFAULT);
    }

    #[test]
    fn add_and_drop_change_the_default_set() {
        check(&["NET_ADMIN"], &["ALL"], &["CAP_NET_ADMIN"]);
        check(&["cap_sys_time"], &["all"], &["CAP_SYS_TIME"]);
        check(&[], &["ALL"], &[]);
        check(
            &[],
            &["MKNOD", "CAP_NET_RAW"],
            &DEFAULT.into_iter().filter(|c| !matches!(*c, "CAP_MKNOD" | "CAP_NET_RAW")).collect::<Vec<_>>(),
        );
        let mut all: Vec<&str> = DEFAULT.into_iter().chain(OTHERS).collect();
        all.sort_unstable();
        check(&["ALL"], &[], &all);
        check(&["ALL"], &["SYS_ADMIN"], &all.iter().copied().filter(|c| *c != "CAP_SYS_ADMIN").collect::<Vec<_>>());
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let changes = Capabilities { add: Some(vec!["NET_ADMINISTRATION".into()]), drop: None };
        assert!(resolve(Some(&changes)).expect_err("unknown").to_string().contains("`NET_ADMINISTRATION`"));
    }
}
