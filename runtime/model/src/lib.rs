//! The vocabulary that every part of Minipod shares: names, labels, selectors, ports, address families.
//!
//! Pure: no input or output, no clock, no async. A value of a type in this crate is valid by construction; what
//! cannot be meant cannot be made.

pub mod channel;
pub mod defaults;
pub mod family;
pub mod hash;
pub mod key;
pub mod label;
pub mod link;
pub mod name;
pub mod port;
pub mod quantity;
pub mod range;
pub mod selector;

pub use family::{Family, IpFamily, V4, V6};
pub use key::PodKey;
pub use label::Labels;
pub use link::LinkName;
pub use port::Protocol;
pub use quantity::Quantity;
pub use selector::Selector;
