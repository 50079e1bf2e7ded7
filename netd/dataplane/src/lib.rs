//! From what policies and services ask of a node ([`netd_policy::intent::Intent`]) to what its kernel holds.
//!
//! `compile` turns intent into a [`Spec`], `diff` compares it with what is there and makes a [`plan::Plan`] whose order is the order
//! of application; all of that is pure. Only a [`kernel::Kernel`] touches anything. [`Dataplane`] is the whole as one value.
//!
//! Invariants, and the tests that hold them:
//! - The kernel gives the verdict of the objects: `the_kernel_gives_the_verdict_of_the_evaluator`, with real packets
//!   `policies_and_services_with_nft` and `_with_legacy`.
//! - No moment passes what neither the old nor the new state passes, also after an interrupted change:
//!   `no_step_passes_what_neither_the_old_nor_the_new_state_allows`.
//! - Any path to an intent gives the same kernel state: `any_path_to_an_intent_gives_the_same_state`.
//! - A pod that changes its labels keeps what it may do before and after: `a_pod_that_changes_its_labels_keeps_what_both_allow`.
//! - Pods that come, go or change labels run no program: `pods_that_come_and_go_run_no_program`.
//! - A first packet's way does not grow with the node: `a_first_packet_meets_no_more_rules_on_a_large_node`.
//! - What is there is adopted and judged without memory: `what_is_there_is_adopted_on_linux`, `what_somebody_changed_is_put_right`.
//! - The fake kernel is like the real one: `tests/contract.rs` as a whole.

pub mod before;
pub mod compile;
pub mod contents;
mod crossing;
mod dataplane;
mod delta;
pub mod denied;
pub mod diff;
pub mod facts;
pub mod fake;
pub mod index;
pub mod inspect;
pub mod interpret;
pub mod kernel;
pub mod linux;
pub mod name;
pub mod observed;
pub mod plan;
pub mod spec;
pub mod text;
pub mod tree;
mod variants;

pub use compile::{CompileError, compile, signature_tag};
pub use dataplane::{Changes, Dataplane, DataplaneError};
pub use facts::{DenyAction, FamilyFacts, HostFirewall, MarkBits, NodeFacts, PodToNode, VxlanFacts};
pub use inspect::Inspection;
pub use kernel::{Kernel, KernelError};
pub use linux::LinuxKernel;
pub use spec::Spec;
pub use variants::remove_from_other_variants;
