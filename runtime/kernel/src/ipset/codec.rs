//! Sets and members as netlink attributes (`include/uapi/linux/netfilter/ipset/ip_set.h`), both ways. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use minipod_model::IpFamily;

use super::{Element, Entry, Mark, SetHeader, SetName, SetSpec, SetType};
use crate::netlink::message::{Message, attribute, attributes, be16_of, be32_of, be64_of, text_of};

pub(super) const SUBSYSTEM: u8 = 6;
pub(super) const PROTOCOL: u8 = 7;

pub(super) const CMD_PROTOCOL: u8 = 1;
pub(super) const CMD_CREATE: u8 = 2;
pub(super) const CMD_DESTROY: u8 = 3;
pub(super) const CMD_FLUSH: u8 = 4;
pub(super) const CMD_RENAME: u8 = 5;
pub(super) const CMD_SWAP: u8 = 6;
pub(super) const CMD_LIST: u8 = 7;
pub(super) const CMD_ADD: u8 = 9;
pub(super) const CMD_DEL: u8 = 10;
pub(super) const CMD_TYPE: u8 = 13;

pub(super) const ATTR_PROTOCOL: u16 = 1;
pub(super) const ATTR_SETNAME: u16 = 2;
pub(super) const ATTR_TYPENAME: u16 = 3;
pub(super) const ATTR_SETNAME2: u16 = 3;
pub(super) const ATTR_REVISION: u16 = 4;
pub(super) const ATTR_FAMILY: u16 = 5;
pub(super) const ATTR_FLAGS: u16 = 6;
pub(super) const ATTR_DATA: u16 = 7;
pub(super) const ATTR_ADT: u16 = 8;
pub(super) const ATTR_LINENO: u16 = 9;

pub(super) const FLAG_LIST_HEADER: u32 = 1 << 2;

const IP: u16 = 1;
const CIDR: u16 = 3;
const PORT: u16 = 4;
const PORT_TO: u16 = 5;
const TIMEOUT: u16 = 6;
const PROTO: u16 = 7;
const CADT_FLAGS: u16 = 8;
const HASHSIZE: u16 = 18;
const MAXELEM: u16 = 19;
const SIZE: u16 = 23;
const ELEMENTS: u16 = 24;
const REFERENCES: u16 = 25;
const NAME: u16 = 18;
const IP2: u16 = 20;
const IFACE: u16 = 23;
const SKBMARK: u16 = 27;

const IPADDR_IPV4: u16 = 1;
const IPADDR_IPV6: u16 = 2;

const WITH_SKBINFO: u32 = 1 << 6;

const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// The family as netfilter numbers it; set types without one are registered under none.
pub(super) fn nfproto(kind: SetType, family: IpFamily) -> u8 {
    match (kind.has_family(), family) {
        (false, _) => NFPROTO_UNSPEC,
        (true, IpFamily::V4) => NFPROTO_IPV4,
        (true, IpFamily::V6) => NFPROTO_IPV6,
    }
}

/// A request with its protocol version. `exclusive`: what exists already is an error.
pub(super) fn request(command: u8, flags: u16) -> Message {
    let mut message = Message::netfilter(SUBSYSTEM, command, flags, NFPROTO_IPV4);
    message.u8(ATTR_PROTOCOL, PROTOCOL);
    message
}

pub(super) fn put_spec(message: &mut Message, spec: &SetSpec) {
    message.nest(ATTR_DATA, |data| {
        if spec.kind == SetType::BitmapPort {
            data.be16(PORT, 0);
            data.be16(PORT_TO, u16::MAX);
        }
        if spec.kind.is_hash() {
            if let Some(hashsize) = spec.hashsize {
                data.be32(HASHSIZE, hashsize);
            }
            if let Some(maxelem) = spec.maxelem {
                data.be32(MAXELEM, maxelem);
            }
        }
        if let (SetType::ListSet, Some(size)) = (spec.kind, spec.size) {
            data.be32(SIZE, size);
        }
        if let Some(timeout) = spec.timeout {
            data.be32(TIMEOUT, timeout);
        }
        if spec.skbinfo {
            data.be32(CADT_FLAGS, WITH_SKBINFO);
        }
    });
}

/// One member with its place in the batch, by which the kernel names it when it refuses.
pub(super) fn put_element(message: &mut Message, element: &Element, line: u32) {
    message.nest(ATTR_DATA, |data| {
        put_entry(data, &element.entry);
        if let Some(timeout) = element.timeout {
            data.be32(TIMEOUT, timeout);
        }
        if let Some(mark) = element.mark {
            data.be64(SKBMARK, u64::from(mark.value) << 32 | u64::from(mark.mask));
        }
        data.be32(ATTR_LINENO, line);
    });
}

fn put_entry(data: &mut Message, entry: &Entry) {
    match entry {
        Entry::Ip(address) => put_address(data, IP, *address),
        Entry::Net(net) => put_net(data, *net),
        Entry::IpPort(address, protocol, port) => {
            put_address(data, IP, *address);
            put_port(data, *protocol, *port);
        }
        Entry::NetPort(net, protocol, port) => {
            put_net(data, *net);
            put_port(data, *protocol, *port);
        }
        Entry::IpPortIp(address, protocol, port, second) => {
            put_address(data, IP, *address);
            put_port(data, *protocol, *port);
            put_address(data, IP2, *second);
        }
        Entry::NetIface(net, link) => {
            put_net(data, *net);
            data.text(IFACE, link);
        }
        Entry::Port(port) => data.be16(PORT, *port),
        Entry::Ports(first, last) => {
            data.be16(PORT, *first);
            data.be16(PORT_TO, *last);
        }
        Entry::Set(name) => data.text(NAME, name.as_str()),
    }
}

fn put_address(data: &mut Message, kind: u16, address: IpAddr) {
    data.nest(kind, |inner| match address {
        IpAddr::V4(address) => inner.be_bytes(IPADDR_IPV4, &address.octets()),
        IpAddr::V6(address) => inner.be_bytes(IPADDR_IPV6, &address.octets()),
    });
}

fn put_net(data: &mut Message, net: IpNet) {
    put_address(data, IP, net.network());
    data.u8(CIDR, net.prefix_len());
}

fn put_port(data: &mut Message, protocol: u8, port: u16) {
    data.be16(PORT, port);
    data.u8(PROTO, protocol);
}

/// The line number in a refused batch, which the kernel writes into the request that it sends back.
pub(super) fn refused_line(request: &[u8]) -> Option<u32> {
    let attributes = request.get(super::super::netlink::message::HEADER_LEN + 4..)?;
    be32_of(attribute(attributes, ATTR_LINENO)?)
}

/// The set that a listing speaks of.
pub(super) fn read_name(attributes: &[u8]) -> Option<&str> {
    text_of(attribute(attributes, ATTR_SETNAME)?)
}

/// The description of a set; `None` in the later messages of a long listing, which have members only.
pub(super) fn read_header(bytes: &[u8]) -> Option<SetHeader> {
    let type_name = text_of(attribute(bytes, ATTR_TYPENAME)?)?.to_owned();
    let data = attribute(bytes, ATTR_DATA)?;
    let number = |kind| attribute(data, kind).and_then(be32_of);
    let kind = SetType::parse(&type_name);
    let family = match attribute(bytes, ATTR_FAMILY).and_then(|value| value.first()) {
        Some(&NFPROTO_IPV4) => Some(IpFamily::V4),
        Some(&NFPROTO_IPV6) => Some(IpFamily::V6),
        _ => None,
    };
    Some(SetHeader {
        name: read_name(bytes)?.to_owned(),
        type_name,
        kind,
        family,
        maxelem: number(MAXELEM),
        timeout: number(TIMEOUT),
        skbinfo: number(CADT_FLAGS).unwrap_or(0) & WITH_SKBINFO != 0,
        references: number(REFERENCES).unwrap_or(0),
        elements: number(ELEMENTS).unwrap_or(0),
    })
}

/// The members in a message of a listing; `None` for one that cannot be read.
pub(super) fn read_elements(bytes: &[u8], kind: SetType) -> impl Iterator<Item = Option<Element>> {
    let list = attribute(bytes, ATTR_ADT).unwrap_or_default();
    attributes(list).filter(|(found, _)| *found == ATTR_DATA).map(move |(_, data)| read_element(data, kind))
}

fn read_element(data: &[u8], kind: SetType) -> Option<Element> {
    let entry = match kind {
        SetType::HashIp => Entry::Ip(read_address(data, IP)?),
        SetType::HashNet => Entry::Net(read_net(data)?),
        SetType::HashIpPort => Entry::IpPort(read_address(data, IP)?, read_protocol(data)?, read_port(data)?),
        SetType::HashNetPort => Entry::NetPort(read_net(data)?, read_protocol(data)?, read_port(data)?),
        SetType::HashIpPortIp => {
            Entry::IpPortIp(read_address(data, IP)?, read_protocol(data)?, read_port(data)?, read_address(data, IP2)?)
        }
        SetType::HashNetIface => Entry::NetIface(read_net(data)?, text_of(attribute(data, IFACE)?)?.to_owned()),
        SetType::BitmapPort => Entry::Port(read_port(data)?),
        SetType::ListSet => Entry::Set(SetName::new(text_of(attribute(data, NAME)?)?).ok()?),
    };
    let mark = attribute(data, SKBMARK).and_then(be64_of).map(|both| Mark {
        value: u32::try_from(both >> 32).unwrap_or(0),
        mask: u32::try_from(both & u64::from(u32::MAX)).unwrap_or(0),
    });
    Some(Element { entry, timeout: attribute(data, TIMEOUT).and_then(be32_of), mark })
}

fn read_address(data: &[u8], kind: u16) -> Option<IpAddr> {
    let (family, value) = attributes(attribute(data, kind)?).next()?;
    match family {
        IPADDR_IPV4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        IPADDR_IPV6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

fn read_net(data: &[u8]) -> Option<IpNet> {
    let address = read_address(data, IP)?;
    let length = match attribute(data, CIDR) {
        Some(value) => *value.first()?,
        None => IpFamily::of(address).host_prefix_len(),
    };
    IpNet::new(address, length).ok()
}

fn read_port(data: &[u8]) -> Option<u16> {
    be16_of(attribute(data, PORT)?)
}

fn read_protocol(data: &[u8]) -> Option<u8> {
    attribute(data, PROTO)?.first().copied()
}
