//! What changes in a network namespace, as the kernel tells it to everybody who listens: links, addresses, routes.
//!
//! Here the kernel speaks first, so this is asynchronous, unlike everything else of netlink. Ownership: bound for life to the network
//! namespace of the thread that opened it. A message that cannot be read is left out: look at the whole state now and then, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::StreamExt as _;
use futures::channel::mpsc::UnboundedReceiver;
use ipnet::IpNet;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::SocketAddr;
use rtnetlink::MulticastGroup;
use tokio::task::JoinHandle;

use super::socket::NetlinkError;

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkChange {
    /// a link was made, changed or deleted
    Link {
        /// its name; empty where the kernel does not say
        name: String,
        /// it is there and switched on
        up: bool,
    },
    /// an address was added to a link or removed
    Address,
    /// a route was added, replaced or removed
    Route {
        /// where it leads
        destination: IpNet,
        /// who made it
        protocol: u8,
        /// it is there
        present: bool,
    },
    /// changes came faster than they were read; some are not told
    Lost,
}

/// What changes from the moment at which it is opened.
#[derive(Debug)]
pub struct NetworkChanges {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: JoinHandle<()>,
}

impl NetworkChanges {
    /// Begins to listen in the current thread's network namespace. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// [`NetlinkError::Open`]
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, _, messages) = rtnetlink::new_multicast_connection(&GROUPS).map_err(NetlinkError::Open)?;
        Ok(Self { messages, connection: tokio::spawn(connection) })
    }

    /// The next change; `None` when the kernel tells no more. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<NetworkChange> {
        loop {
            let (message, _) = self.messages.next().await?;
            if let Some(change) = read(message.payload) {
                return Some(change);
            }
        }
    }
}

impl Drop for NetworkChanges {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn read(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<NetworkChange> {
    let message = match payload {
        NetlinkPayload::InnerMessage(message) => message,
        NetlinkPayload::Overrun(_) => return Some(NetworkChange::Lost),
        _ => return None,
    };
    match message {
        RouteNetlinkMessage::NewLink(link) => {
            let up = link.header.flags.contains(LinkFlags::Up);
            Some(NetworkChange::Link { name: name_of(link), up })
        }
        RouteNetlinkMessage::DelLink(link) => Some(NetworkChange::Link { name: name_of(link), up: false }),
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => Some(NetworkChange::Address),
        RouteNetlinkMessage::NewRoute(route) => read_route(&route, true),
        RouteNetlinkMessage::DelRoute(route) => read_route(&route, false),
        _ => None,
    }
}

fn name_of(link: LinkMessage) -> String {
    let name = |attribute| if let LinkAttribute::IfName(name) = attribute { Some(name) } else { None };
    link.attributes.into_iter().find_map(name).unwrap_or_default()
}

fn read_route(route: &RouteMessage, present: bool) -> Option<NetworkChange> {
    let given = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::from(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    });
    // A default route names no destination.
    let address = match (given, route.header.address_family) {
        (Some(address), _) => address,
        (None, AddressFamily::Inet) => Ipv4Addr::UNSPECIFIED.into(),
        (None, AddressFamily::Inet6) => Ipv6Addr::UNSPECIFIED.into(),
        (None, _) => return None,
    };
    Some(NetworkChange::Route {
        destination: IpNet::new(address, route.header.destination_prefix_length).ok()?,
        protocol: route.header.protocol.into(),
        present,
    })
}
