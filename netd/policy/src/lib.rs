//! What `NetworkPolicy`, Pod, Namespace, Service and `EndpointSlice` objects mean for one node. Pure: objects in, [`intent::Intent`] out; no
//! async, no client, no clock, no file system.
//!
//! - [`read`] turns API objects into the types of [`object`], once, and reports what it cannot read;
//! - [`Index`] keeps them and says what they ask of this node ([`Index::intent`]), at a cost that depends on what has changed;
//! - [`evaluate`] judges one packet straight from the objects: the reference, and what `policy explain` prints;
//! - [`interpret`] judges one packet from an [`intent::Intent`]: what the kernel is going to do.

mod cluster;
mod compile;
mod derive;
pub mod evaluate;
mod index;
pub mod intent;
pub mod interpret;
mod narrowing;
mod nets;
pub mod object;
pub mod packet;
pub mod read;
mod services;
pub mod shared;

pub use cluster::{Cluster, Options};
pub use index::{Change, Index, Listed};
pub use narrowing::can_forbid;
pub use packet::{Packet, Transport};
