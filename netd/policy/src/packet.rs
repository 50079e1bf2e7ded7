//! A first packet of a connection, after service translation and before any masquerade (semantics, ruling 10).

use std::net::IpAddr;

use minipod_model::Protocol;
use minipod_model::defaults::VXLAN_PORT;

/// What policy looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// who opens the connection
    pub source: IpAddr,
    /// to whom: a backend, never a cluster IP
    pub destination: IpAddr,
    /// protocol and destination port
    pub transport: Transport,
}

/// Protocol and destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// a protocol with ports
    Port(Protocol, u16),
    /// ICMP and every other protocol; only rules without `ports` allow it (ruling 13)
    Other,
}

impl Transport {
    /// Whether it may reach the address of the cluster DNS, if the policies let it. Without ports it is taken for ICMP: of such protocols
    /// nothing else reaches that address (ruling 18).
    #[must_use]
    pub fn reaches_dns(self) -> bool {
        matches!(self, Self::Port(Protocol::Tcp | Protocol::Udp, 53) | Self::Other)
    }

    /// Whether it is what nodes speak with one another where pods are reached by VXLAN.
    pub(crate) fn is_vxlan(self) -> bool {
        self == Self::Port(Protocol::Udp, VXLAN_PORT)
    }
}
