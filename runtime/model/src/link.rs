//! Names of the network interfaces that Minipod makes on the node.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::short_hash;

/// Every pod interface on the node begins with this; `iptables` matches them all as `mpod+`.
pub const POD_LINK_PREFIX: &str = "mpod";

/// The interface by which packets to pods of other nodes are encapsulated, where there is one. No pod's begins like it.
pub const VXLAN_LINK: &str = "minipod-vxlan";

/// The interface to which the routes of the service ranges lead. Nobody is behind it.
pub const SERVICE_LINK: &str = "minipod-svc";

/// The name of a pod's interface on the node: `mpod` and 11 hexadecimal characters, 15 bytes, the most that the
/// kernel takes (`IFNAMSIZ`, `include/uapi/linux/if.h`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkName(String);

impl LinkName {
    /// The node's end of interface `ifname` in the sandbox `container_id`. A sandbox may have several interfaces.
    #[must_use]
    pub fn for_sandbox(container_id: &str, ifname: &str) -> Self {
        Self(format!("{POD_LINK_PREFIX}{}", short_hash([container_id, ifname], 11)))
    }

    /// The name, if it is one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let tail = name.strip_prefix(POD_LINK_PREFIX)?;
        let ours = tail.len() == 11 && tail.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ours.then(|| Self(name.to_owned()))
    }

    /// The name as the kernel spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::LinkName;

    #[test]
    fn a_link_name_fits_the_kernel_and_is_recognised() {
        let name = LinkName::for_sandbox("5d1c", "eth0");
        assert_eq!(name.as_str().len(), 15);
        assert_eq!(LinkName::parse(name.as_str()), Some(name));
        assert_eq!(LinkName::parse("mpodxyz"), None);
        assert_eq!(LinkName::parse("eth0"), None);
    }
}
