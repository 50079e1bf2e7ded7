//! Everything that Minipod does to the kernel, in one place: system calls, netlink, sysctls, the `iptables` programs,
//! processes, locks, claims and terminals.
//!
//! This crate decides nothing: it says to the kernel what it is told, names what failed, and reads back what is there. All calls
//! block; none of them knows tokio. A netlink socket belongs to the network namespace in which it was opened, whichever thread uses it
//! later; [`netns::NetNs::run`] opens them inside a pod.

pub mod cgroup;
pub mod checksum;
pub mod claim;
pub mod conntrack;
pub mod file;
pub mod host;
pub mod ipset;
pub mod iptables;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod process;
pub mod sysctl;
pub mod terminal;
