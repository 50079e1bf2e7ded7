//! Pod links and the node's own network on the real kernel. Every test works in network namespaces of its own. Needs root and
//! iptables.
#![expect(clippy::similar_names, reason = "an attacher attaches, and then something is attached")]

mod attach;
mod cost;
mod hostnet;
mod node;
