//! What tests send between pods, and what they run there: connections, datagrams, crafted packets, live flows. All of it is done
//! from the pods' own network namespaces, and none of it asks the programs under test.

pub mod echo;
pub mod flow;
pub mod probe;
pub mod sctp;
pub mod server;
pub mod target;
