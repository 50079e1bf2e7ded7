//! What a set is and what it holds.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use minipod_model::{IpFamily, Protocol};

use super::SetName;

/// The type of a set. Hash sets of addresses hold one family, `None` stands for the types without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetType {
    /// `hash:ip`
    HashIp,
    /// `hash:net`
    HashNet,
    /// `hash:ip,port`
    HashIpPort,
    /// `hash:net,port`
    HashNetPort,
    /// `hash:ip,port,ip`
    HashIpPortIp,
    /// `hash:net,iface`
    HashNetIface,
    /// `bitmap:port`, always 0 to 65535
    BitmapPort,
    /// `list:set`
    ListSet,
}

impl SetType {
    /// All types that are spoken here.
    pub const ALL: [Self; 8] = [
        Self::HashIp,
        Self::HashNet,
        Self::HashIpPort,
        Self::HashNetPort,
        Self::HashIpPortIp,
        Self::HashNetIface,
        Self::BitmapPort,
        Self::ListSet,
    ];

    /// The kernel's name of the type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HashIp => "hash:ip",
            Self::HashNet => "hash:net",
            Self::HashIpPort => "hash:ip,port",
            Self::HashNetPort => "hash:net,port",
            Self::HashIpPortIp => "hash:ip,port,ip",
            Self::HashNetIface => "hash:net,iface",
            Self::BitmapPort => "bitmap:port",
            Self::ListSet => "list:set",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether a set of this type is made for one address family.
    #[must_use]
    pub fn has_family(self) -> bool {
        self.is_hash()
    }

    pub(crate) fn is_hash(self) -> bool {
        !matches!(self, Self::BitmapPort | Self::ListSet)
    }
}

impl fmt::Display for SetType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a set is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// the type
    pub kind: SetType,
    /// the family; ignored by `bitmap:port` and `list:set`
    pub family: IpFamily,
    /// the most members it takes (hash types); the kernel's default is 65536
    pub maxelem: Option<u32>,
    /// initial buckets (hash types), rounded up to a power of two; the kernel's default is 1024
    pub hashsize: Option<u32>,
    /// default life time of members in seconds; `Some(0)`: members may have one but live for ever by default
    pub timeout: Option<u32>,
    /// members carry marks for `SET --map-set`
    pub skbinfo: bool,
    /// members of a `list:set` at most; the kernel's default is 8
    pub size: Option<u32>,
}

impl SetSpec {
    /// A set of `kind` and `family` with the kernel's defaults.
    #[must_use]
    pub fn new(kind: SetType, family: IpFamily) -> Self {
        Self { kind, family, maxelem: None, hashsize: None, timeout: None, skbinfo: false, size: None }
    }

    /// The same with room for `maxelem` members.
    #[must_use]
    pub fn maxelem(mut self, maxelem: u32) -> Self {
        self.maxelem = Some(maxelem);
        self
    }

    /// The same with marks on its members.
    #[must_use]
    pub fn skbinfo(mut self) -> Self {
        self.skbinfo = true;
        self
    }
}

/// What identifies a member of a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    /// of `hash:ip`
    Ip(IpAddr),
    /// of `hash:net`; a /0 fits in none
    Net(IpNet),
    /// of `hash:ip,port`: address, IP protocol number, port
    IpPort(IpAddr, u8, u16),
    /// of `hash:net,port`: network, IP protocol number, port
    NetPort(IpNet, u8, u16),
    /// of `hash:ip,port,ip`: address, IP protocol number, port, address
    IpPortIp(IpAddr, u8, u16, IpAddr),
    /// of `hash:net,iface`
    NetIface(IpNet, String),
    /// of `bitmap:port`
    Port(u16),
    /// of `bitmap:port`: every port from the first to the last, in one element; never listed
    Ports(u16, u16),
    /// of `list:set`
    Set(SetName),
}

impl Entry {
    /// An address with a port of a transport protocol.
    #[must_use]
    pub fn ip_port(address: IpAddr, protocol: Protocol, port: u16) -> Self {
        Self::IpPort(address, protocol.number(), port)
    }

    /// A network with a port of a transport protocol.
    #[must_use]
    pub fn net_port(net: IpNet, protocol: Protocol, port: u16) -> Self {
        Self::NetPort(net, protocol.number(), port)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Net(net) => write!(f, "{net}"),
            Self::IpPort(address, protocol, port) => write!(f, "{address},{protocol}:{port}"),
            Self::NetPort(net, protocol, port) => write!(f, "{net},{protocol}:{port}"),
            Self::IpPortIp(address, protocol, port, second) => write!(f, "{address},{protocol}:{port},{second}"),
            Self::NetIface(net, link) => write!(f, "{net},{link}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Ports(first, last) => write!(f, "{first}-{last}"),
            Self::Set(name) => write!(f, "{name}"),
        }
    }
}

/// A mark with the bits of it that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// the value
    pub value: u32,
    /// the bits that are written
    pub mask: u32,
}

/// A member of a set with what it carries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// what identifies it
    pub entry: Entry,
    /// seconds left to live; 0: for ever
    pub timeout: Option<u32>,
    /// the mark (`skbmark`); only in a set with `skbinfo`
    pub mark: Option<Mark>,
}

impl Element {
    /// `entry` with a mark.
    #[must_use]
    pub fn marked(entry: Entry, value: u32, mask: u32) -> Self {
        Self { entry, timeout: None, mark: Some(Mark { value, mask }) }
    }
}

impl From<Entry> for Element {
    fn from(entry: Entry) -> Self {
        Self { entry, timeout: None, mark: None }
    }
}

/// A set as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetHeader {
    /// its name; may be a foreign one
    pub name: String,
    /// the kernel's name of its type
    pub type_name: String,
    /// the type, if it is one of those spoken here
    pub kind: Option<SetType>,
    /// the family, for types that have one
    pub family: Option<IpFamily>,
    /// the most members
    pub maxelem: Option<u32>,
    /// the default life time in seconds, if members have one
    pub timeout: Option<u32>,
    /// members carry marks
    pub skbinfo: bool,
    /// rules and sets that name it; such a set cannot be destroyed
    pub references: u32,
    /// members
    pub elements: u32,
}

/// What happens to members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// added; present ones get the new timeout and mark
    Add,
    /// removed; absent ones are fine
    Remove,
}
