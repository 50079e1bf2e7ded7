//! Tracked connections over netlink (`ctnetlink`): listing, deleting, marking.
//!
//! Ownership: works in the network namespace in which it was opened. Atomicity: each connection by itself; packets may be tracked
//! between a list and what follows from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use minipod_model::IpFamily;

use crate::netlink::message::{Message, NFGEN_LEN, attribute, attributes, be16_of, be32_of};
use crate::netlink::{Failure, NetlinkError, Socket};

const SUBSYSTEM: u8 = 1;
const NFPROTO_UNSPEC: u8 = 0;
const CMD_NEW: u8 = 0;
const CMD_GET: u8 = 1;
const CMD_DELETE: u8 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_MARK: u16 = 8;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

/// `IPS_SEEN_REPLY`
const SEEN_REPLY: u32 = 1 << 1;

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
    /// the first direction as the kernel wrote it, by which the connection is named
    tuple: Vec<u8>,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
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
        self.request_list(nfproto(family))
    }

    fn request_list(&mut self, family: u8) -> Result<Vec<Connection>, ConntrackError> {
        let request = Message::netfilter(SUBSYSTEM, CMD_GET, 0, family);
        Ok(self.0.dump(&request, |found, received| {
            found.extend(received.payload.get(NFGEN_LEN..).and_then(read));
        })?)
    }

    /// All connections of both families in one pass. A pass costs the kernel some ten milliseconds however few there are: it
    /// walks the whole table (`nf_conntrack_buckets`).
    ///
    /// # Errors
    /// The socket fails.
    pub fn list_all(&mut self) -> Result<Vec<Connection>, ConntrackError> {
        self.request_list(NFPROTO_UNSPEC)
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
        let requests = connections.iter().map(|connection| named(connection, CMD_DELETE, 0)).collect();
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
        let requests = connections
            .iter()
            .map(|connection| {
                // Without NLM_F_CREATE this changes an existing connection only.
                let mut request = named(connection, CMD_NEW, 0);
                request.be32(CTA_MARK, value & mask);
                request.be32(CTA_MARK_MASK, mask);
                request
            })
            .collect();
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

fn nfproto(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => 2,
        IpFamily::V6 => 10,
    }
}

fn named(connection: &Connection, command: u8, flags: u16) -> Message {
    let mut message = Message::netfilter(SUBSYSTEM, command, flags, nfproto(connection.family()));
    message.nest(CTA_TUPLE_ORIG, |tuple| tuple.raw(&connection.tuple));
    if let Some(zone) = &connection.zone {
        message.be_bytes(CTA_ZONE, zone);
    }
    // The kernel takes the identity on deletion only: a connection that reuses the ports is spared.
    if let (Some(id), CMD_DELETE) = (&connection.id, command) {
        message.be_bytes(CTA_ID, id);
    }
    message
}

fn read(bytes: &[u8]) -> Option<Connection> {
    let tuple = attribute(bytes, CTA_TUPLE_ORIG)?;
    Some(Connection {
        original: read_direction(tuple)?,
        reply: read_direction(attribute(bytes, CTA_TUPLE_REPLY)?)?,
        mark: attribute(bytes, CTA_MARK).and_then(be32_of).unwrap_or(0),
        replied: attribute(bytes, CTA_STATUS).and_then(be32_of).unwrap_or(0) & SEEN_REPLY != 0,
        tuple: tuple.to_vec(),
        id: attribute(bytes, CTA_ID).map(<[u8]>::to_vec),
        zone: attribute(bytes, CTA_ZONE).map(<[u8]>::to_vec),
    })
}

fn read_direction(tuple: &[u8]) -> Option<Direction> {
    let (mut source, mut destination) = (None, None);
    for (kind, value) in attributes(attribute(tuple, CTA_TUPLE_IP)?) {
        match kind {
            CTA_IP_V4_SRC | CTA_IP_V6_SRC => source = read_ip(value),
            CTA_IP_V4_DST | CTA_IP_V6_DST => destination = read_ip(value),
            _ => {}
        }
    }
    let transport = attribute(tuple, CTA_TUPLE_PROTO)?;
    let port = |kind| attribute(transport, kind).and_then(be16_of).unwrap_or(0);
    Some(Direction {
        source: source?,
        destination: destination?,
        protocol: *attribute(transport, CTA_PROTO_NUM)?.first()?,
        source_port: port(CTA_PROTO_SRC_PORT),
        destination_port: port(CTA_PROTO_DST_PORT),
    })
}

fn read_ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}
