//! Links, addresses, routes and neighbours as values.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use minipod_model::IpFamily;
use serde::{Deserialize, Serialize};

/// The main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether a station may have it: not multicast, not all zero.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// An address of the locally administered range made from `seed`.
    #[must_use]
    pub fn local(seed: [u8; 6]) -> Self {
        let mut bytes = seed;
        bytes[0] = (bytes[0] & 0xfc) | 0x02;
        Self(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

/// Not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no MAC address: six hexadecimal bytes with colons are expected, as in `0a:58:0a:f4:01:05`")]
pub struct ParseMacError(pub String);

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let wrong = || ParseMacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or_else(wrong)?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, ParseMacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// its number in its namespace
    pub index: u32,
    /// its name
    pub name: String,
    /// largest packet in bytes
    pub mtu: u32,
    /// its hardware address, where it has one of six bytes
    pub mac: Option<Mac>,
    /// it is switched on
    pub up: bool,
    /// it is a loopback
    pub loopback: bool,
    /// what it is made of: `veth`, `vxlan`; hardware has none
    pub kind: Option<String>,
    /// the other end's number, in the other end's namespace
    pub peer_index: Option<u32>,
    /// it has a queue that sends: some time after both ends of a pair were switched on. Before, it drops without a word.
    pub sends: bool,
    /// how it encapsulates, if it is a VXLAN
    pub vxlan: Option<Vxlan>,
}

/// How a VXLAN device encapsulates (RFC 7348).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// the network identifier, 24 bits
    pub id: u32,
    /// the UDP port, of both ends
    pub port: u16,
    /// the source of outer packets; its family is that of the underlay
    pub local: IpAddr,
    /// it takes note of where hardware addresses send from
    pub learning: bool,
}

/// Behind which address of the underlay a hardware address is: an entry of a VXLAN device's forwarding database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forwarding {
    /// the hardware address
    pub mac: Mac,
    /// the underlay's address
    pub to: IpAddr,
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkAddress {
    /// the link
    pub link: u32,
    /// the address with its prefix length
    pub net: IpNet,
    /// who made it, `ifa_proto`; 0 where the kernel does not say (before 5.18)
    pub protocol: u8,
    /// valid on the host only, on the link only, or everywhere: `rtnetlink(7)`'s `RT_SCOPE_*`
    pub scope: u8,
}

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressFlag {
    /// an ordinary one; IPv6 without duplicate address detection
    Ordinary,
    /// served here but never chosen as the source of this host's own packets: host scope (IPv4), deprecated (IPv6)
    NeverSource,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// leads somewhere
    Unicast,
    /// refuses with an ICMP error
    Unreachable,
    /// any other, as `RTN_*`
    Other(u8),
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// where to; a /0 is the default route
    pub destination: IpNet,
    /// what it does
    pub kind: RouteKind,
    /// next hop
    pub via: Option<IpAddr>,
    /// outgoing link
    pub link: Option<u32>,
    /// the source of packets that this host itself sends
    pub source: Option<IpAddr>,
    /// smaller is preferred; IPv6 reads none as 1024
    pub metric: Option<u32>,
    /// the table
    pub table: u32,
    /// who made it
    pub protocol: u8,
    /// largest packet in bytes, where it is to be smaller than the link's
    pub mtu: Option<u32>,
    /// the next hop is on the link whatever the addresses say
    pub onlink: bool,
}

impl Route {
    /// A route out of `link` in the main table.
    #[must_use]
    pub fn to_link(destination: IpNet, link: u32, protocol: u8) -> Self {
        Self { link: Some(link), ..Self::new(destination, RouteKind::Unicast, protocol) }
    }

    /// A route in the main table that refuses.
    #[must_use]
    pub fn unreachable(destination: IpNet, protocol: u8) -> Self {
        Self::new(destination, RouteKind::Unreachable, protocol)
    }

    /// The same by a next hop.
    #[must_use]
    pub fn via(mut self, gateway: IpAddr) -> Self {
        self.via = Some(gateway);
        self
    }

    /// The same with a next hop that no address of the link leads to.
    #[must_use]
    pub fn onlink(mut self) -> Self {
        self.onlink = true;
        self
    }

    /// The same with a metric.
    #[must_use]
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    /// The same for packets of at most `mtu` bytes.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    fn new(destination: IpNet, kind: RouteKind, protocol: u8) -> Self {
        let (via, link, source, metric, mtu) = (None, None, None, None, None);
        Self { destination, kind, via, link, source, metric, table: MAIN_TABLE, protocol, mtu, onlink: false }
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> IpFamily {
        IpFamily::of(self.destination.addr())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Unreachable => f.write_str("unreachable ")?,
            RouteKind::Other(kind) => write!(f, "type {kind} ")?,
        }
        match self.destination.prefix_len() {
            0 => f.write_str("default")?,
            _ => write!(f, "{}", self.destination)?,
        }
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(link) = self.link {
            write!(f, " dev #{link}")?;
        }
        Ok(())
    }
}

/// A neighbour entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// the link
    pub link: u32,
    /// the neighbour's address
    pub address: IpAddr,
    /// its hardware address
    pub mac: Option<Mac>,
    /// it never expires
    pub permanent: bool,
}

#[cfg(test)]
mod tests {
    use super::Mac;

    #[test]
    fn a_mac_address_is_read_and_printed() {
        let mac: Mac = "0a:58:0A:f4:01:05".parse().expect("a MAC address");
        assert_eq!(mac.to_string(), "0a:58:0a:f4:01:05");
        for bad in ["", "0a:58:0a:f4:01", "0a:58:0a:f4:01:05:06", "0a58:0a:f4:01:05", "+a:58:0a:f4:01:05"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_made_up_address_is_local_and_unicast() {
        let mac = Mac::local([0xff; 6]);
        assert!(mac.is_unicast());
        assert_eq!(mac.0[0] & 2, 2);
    }
}
