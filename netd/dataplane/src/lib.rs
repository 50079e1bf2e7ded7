//! From what policies and services ask of a node ([`netd_policy::intent::Intent`]) to what its kernel holds.
//!
//! `compile` turns intent into a [`Spec`], `diff` compares it with what is there and makes a [`plan::Plan`] whose order is the order
//! of application; all of that is pure. Only a [`kernel::Kernel`] touches anything. [`Dataplane`] is the whole as one value.

pub mod before;
pub mod compile;
mod dataplane;
mod delta;
pub mod diff;
pub mod facts;
pub mod fake;
pub mod index;
pub mod interpret;
pub mod kernel;
pub mod linux;
pub mod name;
pub mod observed;
pub mod plan;
pub mod spec;
pub mod text;
pub mod tree;

pub use compile::{CompileError, compile};
pub use dataplane::{Changes, Dataplane, DataplaneError};
pub use facts::{FamilyFacts, HostFirewall, MarkBits, NodeFacts, PodToNode};
pub use kernel::{Kernel, KernelError};
pub use linux::LinuxKernel;
pub use spec::Spec;
