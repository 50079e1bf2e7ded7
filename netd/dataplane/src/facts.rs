//! What this node is: addresses, ranges and choices of its administrator that the rules depend on beside the intent.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use minipod_model::IpFamily;

/// The node, as far as its rules depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// IPv4, if the node runs it
    pub v4: Option<FamilyFacts>,
    /// IPv6, if the node runs it
    pub v6: Option<FamilyFacts>,
    /// the mark bits that are ours
    pub marks: MarkBits,
    /// `--host-firewall`
    pub host_firewall: HostFirewall,
    /// `--pod-to-node`
    pub pod_to_node: PodToNode,
    /// `--deny-action`
    pub deny_action: DenyAction,
    /// all addresses of all nodes, if there are others: to none of them may a pod speak VXLAN
    pub every_node: BTreeSet<IpAddr>,
    /// VXLAN, as long as pods of other nodes are reached by it
    pub vxlan: Option<VxlanFacts>,
}

/// What is spoken between nodes, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VxlanFacts {
    /// this node's address in the underlay, the only one at which VXLAN is taken in
    pub local: IpAddr,
    /// the nodes from which it is taken in, by their addresses in the underlay
    pub peers: BTreeSet<IpAddr>,
    /// the ranges that inner sources lie in
    pub ranges: BTreeSet<IpNet>,
}

impl NodeFacts {
    /// The facts of a family, if it is enabled.
    #[must_use]
    pub fn family(&self, family: IpFamily) -> Option<&FamilyFacts> {
        match family {
            IpFamily::V4 => self.v4.as_ref(),
            IpFamily::V6 => self.v6.as_ref(),
        }
    }

    /// The enabled families.
    pub fn families(&self) -> impl Iterator<Item = (IpFamily, &FamilyFacts)> {
        IpFamily::ALL.into_iter().filter_map(|family| self.family(family).map(|facts| (family, facts)))
    }
}

/// The part of [`NodeFacts`] that each family has. Addresses and ranges of the other family are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FamilyFacts {
    /// addresses of the node itself; no rule needs them
    pub node_addresses: BTreeSet<IpAddr>,
    /// the range that this node's pods have their addresses from; what leaves the cluster from it is masqueraded
    pub node_pod_cidr: Option<IpNet>,
    /// the ranges of all pods of the cluster
    pub cluster_pod_cidrs: BTreeSet<IpNet>,
    /// the range of cluster IPs, if services are ours; what nothing in it answers is refused
    pub service_cidr: Option<IpNet>,
    /// the cluster DNS address, if this node answers on it (on `lo`)
    pub cluster_dns: Option<IpAddr>,
    /// we switched forwarding on: then nothing is forwarded that neither comes from a pod nor goes to one
    pub forwarding_switched_on: bool,
}

/// Bits of packet marks and connection marks that this node's rules use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkBits {
    /// bits of the packet mark in which a first packet carries a look-up's result from one rule to the next; zero again when the
    /// hook is left. Adjacent bits, at least 4.
    scratch: u32,
    /// bit of the connection mark: the connection was allowed once and is no more, or its first packet is about to be refused
    revoked: u32,
}

impl Default for MarkBits {
    /// Scratch `0xffff0000` (65,535 signatures; kube-proxy's `0x4000` and `0x8000` are outside), revoked
    /// `0x80000000` of the connection mark.
    fn default() -> Self {
        Self { scratch: 0xffff_0000, revoked: 0x8000_0000 }
    }
}

/// Mark bits that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MarkBitsError {
    /// not one run of at least four bits
    #[error("scratch mark bits {0:#x} are not one run of at least 4 adjacent bits: use for example 0xffff0000")]
    Scratch(u32),
    /// kube-proxy's bits
    #[error("scratch mark bits {0:#x} overlap kube-proxy's 0x4000 or 0x8000: use for example 0xffff0000")]
    KubeProxy(u32),
    /// not one bit
    #[error("revoked connection mark {0:#x} is not a single bit: use for example 0x80000000")]
    Revoked(u32),
}

impl MarkBits {
    /// Checks a choice of bits.
    ///
    /// # Errors
    /// Where the bits cannot serve.
    pub fn new(scratch: u32, revoked: u32) -> Result<Self, MarkBitsError> {
        let run = if scratch == 0 { 0 } else { scratch >> scratch.trailing_zeros() };
        if run.count_ones() < 4 || run.checked_add(1).is_some_and(|next| !next.is_power_of_two()) {
            return Err(MarkBitsError::Scratch(scratch));
        }
        if scratch & 0xc000 != 0 {
            return Err(MarkBitsError::KubeProxy(scratch));
        }
        if !revoked.is_power_of_two() {
            return Err(MarkBitsError::Revoked(revoked));
        }
        Ok(Self { scratch, revoked })
    }

    /// The scratch bits of the packet mark.
    #[must_use]
    pub fn scratch(self) -> u32 {
        self.scratch
    }

    /// The bit of the connection mark that says "revoked".
    #[must_use]
    pub fn revoked(self) -> u32 {
        self.revoked
    }

    /// How many bits an index has.
    pub(crate) fn index_bits(self) -> u32 {
        self.scratch.count_ones()
    }

    /// The largest index; 0 means "none".
    pub(crate) fn index_max(self) -> u32 {
        self.scratch >> self.scratch.trailing_zeros()
    }

    /// An index as a mark.
    pub(crate) fn mark_of(self, index: u32) -> u32 {
        index << self.scratch.trailing_zeros()
    }

    /// A mark's index.
    pub(crate) fn index_of(self, mark: u32) -> u32 {
        (mark & self.scratch) >> self.scratch.trailing_zeros()
    }
}

/// `--host-firewall`: what the host's own filter rules may do to packets that policy allows (semantics, ruling 21).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostFirewall {
    /// what policy allows is accepted before the host's rules
    #[default]
    Accept,
    /// the host's rules judge it as well
    Respect,
}

/// `--pod-to-node`: how a pod's packets to its own node are judged (semantics, ruling 8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PodToNode {
    /// as egress
    #[default]
    Enforce,
    /// always allowed
    Allow,
}

/// `--deny-action`: what becomes of a packet that policy denies (semantics, ruling 14).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DenyAction {
    /// nobody answers it
    #[default]
    Drop,
    /// its sender is told at once
    Reject,
}

#[cfg(test)]
mod tests {
    use super::{MarkBits, MarkBitsError};

    #[test]
    fn mark_bits_are_checked() {
        assert_eq!(MarkBits::new(0xffff_0000, 0x8000_0000), Ok(MarkBits::default()));
        assert!(MarkBits::new(0x0fff_0000, 1).is_ok());
        assert_eq!(MarkBits::new(0, 1), Err(MarkBitsError::Scratch(0)));
        assert_eq!(MarkBits::new(0xf0f0_0000, 1), Err(MarkBitsError::Scratch(0xf0f0_0000)));
        assert_eq!(MarkBits::new(0xffff_f000, 1), Err(MarkBitsError::KubeProxy(0xffff_f000)));
        assert_eq!(MarkBits::new(0xffff_0000, 3), Err(MarkBitsError::Revoked(3)));
    }

    #[test]
    fn an_index_survives_the_mark() {
        let marks = MarkBits::default();
        assert_eq!(marks.index_of(marks.mark_of(0x1234) | 0xffff), 0x1234);
        assert_eq!(marks.index_max(), 0xffff);
    }
}
