//! From the policies that select a pod to its signature: their rules merged, and the merged rules named by their content. Decides what is
//! allowed; knows neither pods' addresses nor chains and sets.

mod merge;
mod naming;
mod peers;
mod signature;

pub(crate) use merge::Who;
pub(crate) use peers::{PeerScope, PeerSet, PodPeer};
pub(crate) use signature::{Compiled, NamedPeers, named_ports, sealed, signature};
