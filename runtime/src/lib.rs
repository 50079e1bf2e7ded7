//! The `minipod` program: the command line ([`cli`]), the node daemon ([`node`]) and the pod agent ([`agent`]).

pub mod agent;
pub mod cli;
pub mod node;
