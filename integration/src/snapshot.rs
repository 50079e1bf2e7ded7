//! Everything of a node that Minipod could leave behind, as text to be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::lab::Lab;

/// A node's state, by what is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<&'static str, String>);

/// What is looked at, with the command that shows it. Counters, handles and lifetimes are left out: they change by themselves.
const LOOKS: [(&str, &str); 11] = [
    ("links", "ip -o link | sed 's/ qlen [0-9]*//'"),
    ("addresses", "ip -o address | sed 's/valid_lft.*//'"),
    ("routes", "ip route show table all; ip -6 route show table all; ip rule; ip -6 rule"),
    ("neighbours", "ip neighbour show nud permanent"),
    (
        "rules of the nft variant",
        "for f in iptables ip6tables; do for t in raw mangle nat filter; do echo $f $t; $f-nft-save -t $t; done; done | sed -n '/^-A/p; /^:.* - /p; /^:.* DROP/p; /^ip.*tables/p' | sed 's/\\[.*\\]//'",
    ),
    (
        "rules of the legacy variant",
        "for f in iptables ip6tables; do for t in raw mangle nat filter; do echo $f $t; $f-legacy-save -t $t; done; done | sed -n '/^-A/p; /^:.* - /p; /^:.* DROP/p; /^ip.*tables/p' | sed 's/\\[.*\\]//'",
    ),
    ("sets", "ipset save"),
    ("mounts", "sed 's/^[0-9]* [0-9]* //' /proc/self/mountinfo"),
    (
        "sysctls",
        "find /proc/sys/net -type f | sort | grep -v -e stable_secret -e nf_conntrack_count | xargs grep -s '' || true",
    ),
    // The anchor sleeps anew each hour; what has ended but was not reaped yet is gone.
    ("processes", "all=$(ps -e -o args); echo \"$all\" | grep -v -e '^sleep 3600$' -e '<defunct>'"),
    // iptables-legacy keeps its lock.
    ("files", "find /run /etc/systemd /etc/NetworkManager 2>/dev/null | grep -v xtables.lock | sort"),
];

impl Snapshot {
    /// The node as it is now.
    #[must_use]
    pub fn of(lab: &Lab) -> Self {
        let mut parts: BTreeMap<_, _> =
            LOOKS.into_iter().map(|(name, script)| (name, lab.shell(script).expect_success())).collect();
        parts.insert("cgroups", cgroups(&lab.cgroup()));
        Self(parts)
    }

    /// What differs, line by line: `-` only before, `+` only after. Empty when nothing does.
    #[must_use]
    pub fn differences(&self, after: &Self) -> String {
        let mut text = String::new();
        for (name, before) in &self.0 {
            let after = after.0.get(name).map_or("", String::as_str);
            let only = |a: &str, b: &str, sign: &str| -> String {
                let there: BTreeSet<&str> = b.lines().collect();
                let lines = a.lines().filter(|l| !there.contains(l));
                lines.fold(String::new(), |text, line| text + name + ": " + sign + " " + line + "\n")
            };
            text += &only(before, after, "-");
            text += &only(after, before, "+");
        }
        text
    }
}

/// The cgroups, in every hierarchy, whose path has `part` in it.
#[must_use]
pub fn cgroups(part: &str) -> String {
    let mut names = Vec::new();
    for root in crate::lab::cgroup_roots() {
        collect(&root, part, &mut names);
    }
    names.sort();
    names.join("\n")
}

fn collect(directory: &Path, part: &str, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            let path = entry.path();
            if path.to_string_lossy().contains(part) {
                names.push(path.display().to_string());
            }
            collect(&path, part, names);
        }
    }
}
