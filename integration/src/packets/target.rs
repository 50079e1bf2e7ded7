//! What is dialled.

use std::net::SocketAddr;

/// How a place is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// a connection
    Tcp,
    /// a datagram
    Udp,
    /// the first packet of an association, crafted
    Sctp,
    /// an echo request
    Icmp,
    /// a packet of a protocol that nobody has given a meaning
    Unknown,
}

impl Protocol {
    /// Those that policies name.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// As manifests spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
            Self::Unknown => "unknown",
        }
    }

    /// Whether its packets carry ports.
    #[must_use]
    pub fn has_ports(self) -> bool {
        Self::ALL.contains(&self)
    }
}

/// The ports on which every pod answers over every protocol that has ports.
pub const PORTS: [u16; 2] = [80, 81];

/// Name of a port in the pods' manifests.
#[must_use]
pub fn port_name(port: u16, protocol: Protocol) -> String {
    format!("serve-{port}-{}", protocol.as_str().to_lowercase())
}

/// A place that may answer; without ports the port is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// how it is dialled
    pub protocol: Protocol,
    /// where
    pub address: SocketAddr,
}
