//! What a refused command could have left half-made beside the kernel's things, which are a [`crate::snapshot::Snapshot`]: objects,
//! files and processes.

use std::collections::BTreeSet;

use crate::lab::Lab;

/// What is looked at, with the command that shows it. Logs, locks, the marks of the directories, the directory of the locks and the memory of released addresses
/// are no trace of a refused command.
const LOOKS: [(&str, &str); 4] = [
    ("object", "minipod get namespaces,nodes,pods,services,endpointslices,networkpolicies -A -o name || true"),
    (
        "file",
        "find /run/state /run/minipod 2>/dev/null | grep -v -e '\\.log$' -e '\\.lock$' -e /node.pid -e /node.json -e '/\\.minipod$' -e /boot-id -e '^/run/minipod$' -e /released-addresses.json -e /address-cursor || true",
    ),
    ("mount", "cut -d' ' -f5 /proc/self/mountinfo"),
    ("process", "pgrep -l -x minipod-shim || true; pgrep -l -x minipod || true"),
];

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// The node as it is now. Without a daemon it has no objects.
    #[must_use]
    pub fn of(lab: &Lab) -> Self {
        let look = |(what, script): (&str, &str)| {
            let seen = lab.shell(script).expect_success();
            seen.lines().map(|line| format!("{what}: {line}")).collect::<Vec<_>>()
        };
        Self(LOOKS.into_iter().flat_map(look).collect())
    }

    /// What differs, line by line: `-` only before, `+` only after. Empty when nothing does.
    #[must_use]
    pub fn differences(&self, after: &Self) -> String {
        let gone = self.0.difference(&after.0).map(|line| format!("- {line}\n"));
        let new = after.0.difference(&self.0).map(|line| format!("+ {line}\n"));
        gone.chain(new).collect()
    }
}
