//! The network daemon: watches the cluster, and keeps this node's links, routes, rules and sets as policies and services want them.

pub mod attach;
pub mod clock;
pub mod command;
mod connections;
pub mod consistent;
pub mod dns;
pub mod drops;
pub mod engine;
pub mod facts;
#[cfg(debug_assertions)]
pub mod fault;
pub mod hostnet;
pub mod ipam;
pub mod kernel;
pub mod links;
mod metrics;
pub mod nodes;
pub mod offload;
pub mod options;
pub mod policy_document;
mod released;
pub mod revoke;
pub mod routes;
pub mod socket;
mod start;
pub mod versions;
pub mod watch;

pub use netd_dataplane::facts::{DenyAction, MarkBits, MarkBitsError};
pub use options::{Iptables, Options, Routing};
pub use start::{Netd, StartError, check, reset};

/// What caused an error, outermost first.
fn causes(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string).collect()
}
