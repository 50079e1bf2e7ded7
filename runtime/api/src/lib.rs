//! The Kubernetes-compatible API server of a standalone node and its store.
//!
//! Everything that wants to know something lists and watches through [`Server::router`], in the process or over the unix
//! socket. The crate decides what an object may say (one table of kinds) and keeps it ([`store`]); it never acts on what an
//! object asks for. Logs and exec sessions come from whoever implements [`PodStreams`].

mod bootstrap;
mod decode;
mod discovery;
mod field;
mod fields;
mod kinds;
mod merge;
mod meta;
mod request;
mod rest;
mod server;
mod shared;
mod status;
pub mod store;
pub mod streams;

#[cfg(test)]
mod never_panics;

pub use server::{Config, OpenError, ServeError, Server};
pub use streams::PodStreams;
