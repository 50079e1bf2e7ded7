//! Benchmarks: our programs against a peer or a floor, in the same run, in interleaved rounds.

mod attach;
mod crowd;
pub mod figure;
mod memory;
pub mod pod;
pub mod podman;
pub mod policy;
mod start;
pub mod timing;
