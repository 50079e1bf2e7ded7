//! The kernel as the engine changes it. In debug builds it can be told to end the daemon in the middle of a change, which is how
//! `./scripts/test policy-faults` shows that no such end opens a gap; a release build has nothing of that.

use std::path::Path;

use netd_dataplane::LinuxKernel;

#[cfg(debug_assertions)]
use crate::fault::Breakable;

/// The kernel that the engine changes.
#[cfg(not(debug_assertions))]
pub type NodeKernel = LinuxKernel;
/// The kernel that the engine changes.
#[cfg(debug_assertions)]
pub type NodeKernel = Breakable<LinuxKernel>;

#[cfg(not(debug_assertions))]
pub(crate) fn node_kernel(kernel: LinuxKernel, _: &Path) -> NodeKernel {
    kernel
}

#[cfg(debug_assertions)]
pub(crate) fn node_kernel(kernel: LinuxKernel, run_dir: &Path) -> NodeKernel {
    Breakable::new(kernel, run_dir.join("fault"))
}
