//! Benchmarks: our programs against a peer or a floor, in the same run, in interleaved rounds.

pub mod figure;
pub mod memory;
pub mod pod;
pub mod podman;
pub mod timing;
