//! Everything that Minipod does to the kernel, in one place.

pub mod cgroup;
pub mod process;
