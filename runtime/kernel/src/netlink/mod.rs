//! Blocking netlink: the socket, the wire format, and the typed requests of rtnetlink.

pub(crate) mod message;

mod socket;

pub use socket::{Failure, NetlinkError};

pub(crate) use socket::Socket;
