//! The command line against the real API server, over a unix socket in a directory of its own. Needs no root: pods are played by
//! [`node::Node`], which answers logs and sessions and moves pods through their phases.

mod changes;
mod manifests;
mod node;
mod sessions;
mod shows;
