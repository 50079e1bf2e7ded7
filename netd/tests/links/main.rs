//! Pod links and the node's own network on the real kernel. Every test works in network namespaces of its own. Needs root and
//! iptables.

mod attach;
mod cost;
mod hostnet;
mod node;
