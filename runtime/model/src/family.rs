//! IPv4 and IPv6 as a type parameter, so that each piece of code is written once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// An address family as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IpFamily {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl IpFamily {
    /// Both families, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The prefix length of a single address: 32 or 128.
    #[must_use]
    pub fn host_prefix_len(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The digit that ends set names and distinguishes the families elsewhere: `4` or `6`.
    #[must_use]
    pub fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address family as a type.
pub trait Family: Copy + fmt::Debug + Eq + Ord + Send + Sync + 'static {
    /// The address type.
    type Addr: Copy + Eq + Ord + std::hash::Hash + fmt::Debug + fmt::Display + Into<IpAddr> + Send + Sync;
    /// The network type.
    type Net: Copy + Eq + Ord + std::hash::Hash + fmt::Debug + fmt::Display + Into<IpNet> + Send + Sync;
    /// The family as a value.
    const FAMILY: IpFamily;
    /// The address, if it belongs to the family.
    fn addr(addr: IpAddr) -> Option<Self::Addr>;
    /// The network, if it belongs to the family.
    fn net(net: IpNet) -> Option<Self::Net>;
}

/// IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V4;

/// IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V6;

impl Family for V4 {
    type Addr = Ipv4Addr;
    type Net = Ipv4Net;
    const FAMILY: IpFamily = IpFamily::V4;

    fn addr(addr: IpAddr) -> Option<Ipv4Addr> {
        match addr {
            IpAddr::V4(addr) => Some(addr),
            IpAddr::V6(_) => None,
        }
    }

    fn net(net: IpNet) -> Option<Ipv4Net> {
        match net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }
}

impl Family for V6 {
    type Addr = Ipv6Addr;
    type Net = Ipv6Net;
    const FAMILY: IpFamily = IpFamily::V6;

    fn addr(addr: IpAddr) -> Option<Ipv6Addr> {
        match addr {
            IpAddr::V6(addr) => Some(addr),
            IpAddr::V4(_) => None,
        }
    }

    fn net(net: IpNet) -> Option<Ipv6Net> {
        match net {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        }
    }
}
