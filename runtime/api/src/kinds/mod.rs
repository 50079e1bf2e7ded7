//! The table of kinds.

mod cluster;

pub(crate) use cluster::Cluster;
