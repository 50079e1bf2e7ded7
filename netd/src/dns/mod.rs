//! The cluster DNS of this node: answers for `cluster.local` from the objects, forwards everything else to the node's resolvers.
//! Follows the Kubernetes DNS specification 1.1.0 (github.com/kubernetes/dns, `docs/specification.md`).
//!
//! [`records`] is pure: objects in, answers out. [`forward`] asks the node's resolvers. [`server`] owns the sockets. Who may ask is
//! not decided here but in the kernel: the addresses are reachable from this node and its pods only.

pub mod forward;
pub mod records;
pub mod resolv_conf;
pub mod server;
mod tcp;
#[cfg(test)]
mod tests;
mod wire;

pub use forward::{Forwarder, Upstreams};
pub use records::Records;
pub use resolv_conf::pod_dns;
pub use server::{BindError, DnsServer};
