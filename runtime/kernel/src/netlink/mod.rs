//! Netlink: a blocking socket, the wire format, the typed requests of rtnetlink, and its changes as they come.

mod changes;
pub(crate) mod message;
mod packet_log;
mod packets;
mod route;
mod socket;
mod types;
mod vxlan;

pub use changes::{NetworkChange, NetworkChanges};
pub use packet_log::{LoggedPacket, PacketLog};
pub use packets::Ipv4Setting;
pub use route::{Request, Rtnl, RtnlError, VethEnd};
pub use socket::{Failure, NetlinkError};
pub use types::{
    AddressFlag, Forwarding, Link, LinkAddress, MAIN_TABLE, Mac, Neighbour, ParseMacError, Route, RouteKind, Vxlan,
};

pub(crate) use socket::Socket;
