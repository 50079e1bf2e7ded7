//! The laboratory: nodes as network and mount namespaces of their own, with the real programs in them.
//!
//! Nothing here touches the machine's own network: a [`lab::Lab`] is a namespace with no uplink, whose only neighbours are
//! the ones that a test gives it. A lab removes everything that it made when it is dropped, also when the test failed, and
//! prints what it looked like at that moment.

pub mod api;
pub mod bench;
pub mod fixture;
pub mod inventory;
pub mod lab;
pub mod outside;
pub mod packets;
pub mod programs;
pub mod ran;
pub mod snapshot;
pub mod wait;
