//! Blocking netlink: the socket, the wire format, and the typed requests of rtnetlink.

pub(crate) mod message;
mod packets;
mod route;
mod socket;
mod types;

pub use packets::Ipv4Setting;
pub use route::{Request, Rtnl, RtnlError, VethEnd, Watch};
pub use socket::{Failure, NetlinkError};
pub use types::{AddressFlag, Link, LinkAddress, MAIN_TABLE, Mac, Neighbour, ParseMacError, Route, RouteKind, Rule};

pub(crate) use socket::Socket;
