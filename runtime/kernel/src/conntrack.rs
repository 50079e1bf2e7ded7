//! Tracked connections over netlink (`ctnetlink`): listing, deleting, marking.
//!
//! Ownership: works in the network namespace in which it was opened. Atomicity: each connection by itself; packets may be tracked
//! between a list and what follows from it.

use std::net::IpAddr;

use minipod_model::IpFamily;
use netlink_packet_core::{DefaultNla, Nla as _, ParseableParametrized as _};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Status, Tuple,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use crate::netlink::message::{Message, Received, TYPE_MASK};
use crate::netlink::{Failure, NetlinkError, Socket};

// Attributes that the library has no names for.
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;

// `TCP_CONNTRACK_TIME_WAIT` and `TCP_CONNTRACK_CLOSE` of `linux/netfilter/nf_conntrack_tcp.h`.
const TCP_OVER: [u8; 2] = [7, 8];

/// A connection that could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// No socket, or no list.
    #[error(
        "cannot speak to the kernel's connection tracking; this needs root and the kernel's nf_conntrack_netlink support"
    )]
    Socket(#[from] NetlinkError),
    /// A refusal.
    #[error("cannot {verb} the connection {connection}")]
    Refused {
        /// delete or mark
        verb: &'static str,
        /// source and destination
        connection: String,
        /// the kernel's reason
        #[source]
        failure: Failure,
    },
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Direction {
    /// where its packets come from
    pub source: IpAddr,
    /// where they go
    pub destination: IpAddr,
    /// IP protocol number
    pub protocol: u8,
    /// port, where the protocol has ports; 0 elsewhere
    pub source_port: u16,
    /// port, where the protocol has ports; 0 elsewhere
    pub destination_port: u16,
}

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// as the first packet had it, before any translation
    pub original: Direction,
    /// as answers have it: its source is who really answers
    pub reply: Direction,
    /// the connection's mark
    pub mark: u32,
    /// an answer was seen
    pub replied: bool,
    /// a TCP connection that was closed or reset, and is tracked for what may still be on its way
    pub over: bool,
    /// the first direction and the zone as the kernel wrote them, by which the connection is named
    name: Vec<ConntrackAttribute>,
    id: Option<DefaultNla>,
}

impl Connection {
    /// Whether `address` takes part in it, before or after translation.
    #[must_use]
    pub fn involves(&self, address: IpAddr) -> bool {
        [self.original, self.reply].iter().any(|d| d.source == address || d.destination == address)
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.original.source)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Conntrack(Socket);

impl Conntrack {
    /// Opens a socket in the current thread's network namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Open`]
    pub fn open() -> Result<Self, ConntrackError> {
        Ok(Self(Socket::open(netlink_sys::protocols::NETLINK_NETFILTER)?))
    }

    /// All connections of a family, in one pass over the table of both.
    ///
    /// # Errors
    /// The socket fails.
    pub fn list(&mut self, family: IpFamily) -> Result<Vec<Connection>, ConntrackError> {
        self.request_list(protocol_family(family))
    }

    fn request_list(&mut self, family: NetfilterProtoFamily) -> Result<Vec<Connection>, ConntrackError> {
        let request = request(family, ConntrackMessage::Get(Vec::new()));
        Ok(self.0.dump(&request, |found, received| found.extend(read(received)))?)
    }

    /// All connections of both families in one pass. A pass costs the kernel some ten milliseconds however few there are: it
    /// walks the whole table (`nf_conntrack_buckets`).
    ///
    /// # Errors
    /// The socket fails.
    pub fn list_all(&mut self) -> Result<Vec<Connection>, ConntrackError> {
        self.request_list(NetfilterProtoFamily::Unspec)
    }

    /// The connections that an address takes part in, before or after translation.
    ///
    /// # Errors
    /// The socket fails.
    pub fn of_address(&mut self, address: IpAddr) -> Result<Vec<Connection>, ConntrackError> {
        let mut found = self.list(IpFamily::of(address))?;
        found.retain(|connection| connection.involves(address));
        Ok(found)
    }

    /// Deletes connections; those that are gone already are fine. Says how many were there.
    ///
    /// # Errors
    /// The first refusal; the others were tried.
    pub fn delete(&mut self, connections: &[Connection]) -> Result<usize, ConntrackError> {
        let requests = connections.iter().map(delete).collect();
        self.execute("delete", connections, requests)
    }

    /// Deletes every connection that one of the addresses takes part in. Says how many there were.
    ///
    /// # Errors
    /// As [`Conntrack::delete`].
    pub fn delete_of(&mut self, addresses: &[IpAddr]) -> Result<usize, ConntrackError> {
        let mut found = self.list_all()?;
        found.retain(|connection| addresses.iter().any(|address| connection.involves(*address)));
        self.delete(&found)
    }

    /// Sets the bits of `mask` in the connections' marks to those of `value`; the other bits stay as others set them. Says how
    /// many were still there.
    ///
    /// # Errors
    /// The first refusal; the others were tried.
    pub fn mark(&mut self, connections: &[Connection], value: u32, mask: u32) -> Result<usize, ConntrackError> {
        let requests = connections.iter().map(|connection| mark(connection, value, mask)).collect();
        self.execute("mark", connections, requests)
    }

    fn execute(
        &mut self,
        verb: &'static str,
        connections: &[Connection],
        mut requests: Vec<Message>,
    ) -> Result<usize, ConntrackError> {
        let outcomes = self.0.transact(&mut requests)?;
        let mut present = 0;
        let mut refused = None;
        for (outcome, connection) in outcomes.into_iter().zip(connections) {
            match outcome {
                Ok(()) => present += 1,
                Err(failure) if failure.errno == libc::ENOENT => {}
                Err(failure) => {
                    let direction = connection.original;
                    let connection = format!("{} -> {}", direction.source, direction.destination);
                    refused.get_or_insert(ConntrackError::Refused { verb, connection, failure });
                }
            }
        }
        refused.map_or(Ok(present), Err)
    }
}

fn protocol_family(family: IpFamily) -> NetfilterProtoFamily {
    match family {
        IpFamily::V4 => NetfilterProtoFamily::IPv4,
        IpFamily::V6 => NetfilterProtoFamily::IPv6,
    }
}

fn request(family: NetfilterProtoFamily, message: ConntrackMessage) -> Message {
    Message::of(NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message), 0)
}

/// With its identity, which the kernel takes on deletion only: a connection that reuses the ports is spared.
fn delete(connection: &Connection) -> Message {
    let mut attributes = connection.name.clone();
    attributes.extend(connection.id.clone().map(ConntrackAttribute::Other));
    request(protocol_family(connection.family()), ConntrackMessage::Delete(attributes))
}

/// Without `NLM_F_CREATE` this changes an existing connection only.
fn mark(connection: &Connection, value: u32, mask: u32) -> Message {
    let mut attributes = connection.name.clone();
    attributes.push(ConntrackAttribute::CtaMark(value & mask));
    attributes.push(ConntrackAttribute::Other(DefaultNla::new(CTA_MARK_MASK, mask.to_be_bytes().to_vec())));
    request(protocol_family(connection.family()), ConntrackMessage::New(attributes))
}

fn read(received: Received<'_>) -> Option<Connection> {
    let message = NetfilterMessage::parse_with_param(received.payload, received.kind).ok()?;
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else { return None };
    let (mut original, mut reply, mut name, mut id) = (None, None, Vec::new(), None);
    let (mut mark, mut replied, mut over) = (0, false, false);
    for attribute in attributes {
        match &attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => {
                original = read_direction(tuple);
                name.push(attribute);
            }
            ConntrackAttribute::CtaTupleReply(tuple) => reply = read_direction(tuple),
            ConntrackAttribute::CtaProtoInfo(of_protocol) => over = is_over(of_protocol),
            ConntrackAttribute::CtaStatus(status) => replied = status.contains(Status::SeenReply),
            ConntrackAttribute::CtaMark(value) => mark = *value,
            ConntrackAttribute::Other(other) => match other.kind() & TYPE_MASK {
                CTA_ID => id = Some(other.clone()),
                CTA_ZONE => name.push(attribute),
                _ => {}
            },
            _ => {}
        }
    }
    Some(Connection { original: original?, reply: reply?, mark, replied, over, name, id })
}

fn is_over(of_protocol: &[ProtoInfo]) -> bool {
    let tcp = of_protocol.iter().flat_map(|info| match info {
        ProtoInfo::TCP(tcp) => tcp.as_slice(),
        _ => &[],
    });
    tcp.into_iter().any(|info| matches!(info, ProtoInfoTCP::State(state) if TCP_OVER.contains(state)))
}

fn read_direction(tuples: &[Tuple]) -> Option<Direction> {
    let (mut source, mut destination, mut protocol) = (None, None, None);
    let (mut source_port, mut destination_port) = (0, 0);
    for tuple in tuples {
        match tuple {
            Tuple::Ip(addresses) => {
                for address in addresses {
                    match address {
                        IPTuple::SourceAddress(address) => source = Some(*address),
                        IPTuple::DestinationAddress(address) => destination = Some(*address),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(transport) => {
                for part in transport {
                    match part {
                        ProtoTuple::Protocol(number) => protocol = Some((*number).into()),
                        ProtoTuple::SourcePort(port) => source_port = *port,
                        ProtoTuple::DestinationPort(port) => destination_port = *port,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(Direction { source: source?, destination: destination?, protocol: protocol?, source_port, destination_port })
}
