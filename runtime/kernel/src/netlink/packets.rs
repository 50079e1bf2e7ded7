//! rtnetlink on the wire: requests are laid out by `netlink-packet-route`, answers are read attribute by attribute, so that what a
//! newer kernel adds cannot make a list unreadable. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use ipnet::IpNet;
use minipod_model::IpFamily;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};

use super::message::{Message, attribute, text_of, u16_at, u32_at};
use super::types::{AddressFlag, Link, LinkAddress, Mac, Neighbour, Route, RouteKind};
use super::vxlan;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_QDISC: u16 = 6;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET_CONF: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
/// `IN6_ADDR_GEN_MODE_NONE`: no link-local address by itself
const ADDR_GEN_NONE: u8 = 1;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 1 << 3;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_PROTO: u16 = 11;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;

pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;

/// an entry of the route cache
const RTM_F_CLONED: u32 = 0x200;
/// answer with the route itself, not with what becomes of it for one packet
const RTM_F_FIB_MATCH: u32 = 0x2000;
const RTNH_F_ONLINK: u32 = 4;

const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_UNREACHABLE: u8 = 7;

const RTM_SETLINK: u16 = 19;
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
pub(super) const RTM_GETNEIGH: u16 = 30;

const IFINFO_LEN: usize = 16;
const IFADDR_LEN: usize = 8;
const RTMSG_LEN: usize = 12;
pub(super) const NDMSG_LEN: usize = 12;

/// IPv4 settings of a link (`include/uapi/linux/ip.h`, `IPV4_DEVCONF_*`) that can be set with the link itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv4Setting {
    /// packets that arrive here may be forwarded
    Forwarding = 1,
    /// answer ARP for what is routed elsewhere
    ProxyArp = 3,
    /// believe ICMP redirects
    AcceptRedirects = 4,
    /// send ICMP redirects
    SendRedirects = 6,
    /// source validation: 0 none, 1 strict, 2 loose
    RpFilter = 8,
}

pub(super) fn af(family: IpFamily) -> AddressFamily {
    match family {
        IpFamily::V4 => AddressFamily::Inet,
        IpFamily::V6 => AddressFamily::Inet6,
    }
}

fn af_number(family: Option<IpFamily>) -> u8 {
    family.map_or(0, |family| af(family).into())
}

pub(super) fn veth(host: (&str, Mac), peer: (&str, Mac), mtu: u32, peer_namespace: RawFd) -> LinkMessage {
    let mut inner = LinkMessage::default();
    inner.attributes = vec![
        LinkAttribute::IfName(peer.0.to_owned()),
        LinkAttribute::Address(peer.1.0.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::NetNsFd(peer_namespace),
    ];
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes = vec![
        LinkAttribute::IfName(host.0.to_owned()),
        LinkAttribute::Address(host.1.0.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner))),
        ]),
    ];
    link
}

/// A bridge that is switched off and asks nobody for hardware addresses.
pub(super) fn bridge(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Noarp;
    link.header.change_mask = LinkFlags::Noarp;
    link.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)])];
    link
}

pub(super) fn link_up(index: u32) -> LinkMessage {
    let mut link = link_at(index);
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

pub(super) fn link_with_mtu(index: u32, mtu: u32) -> LinkMessage {
    let mut link = link_at(index);
    link.attributes = vec![LinkAttribute::Mtu(mtu)];
    link
}

pub(super) fn link_in_group(index: u32, group: u32) -> LinkMessage {
    let mut link = link_at(index);
    link.attributes = vec![LinkAttribute::Group(group)];
    link
}

pub(super) fn link_at(index: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link
}

/// IPv4 settings and, where the kernel has IPv6, no self-made link-local address. `IFLA_AF_SPEC` as it is written differs from
/// how it is listed, so it is laid out here.
pub(super) fn configure_link(index: u32, settings: &[(Ipv4Setting, u32)], without_link_local: bool) -> Message {
    let mut message = Message::new(RTM_SETLINK, 0);
    message.raw(&[0; 4]);
    message.raw(&index.to_ne_bytes());
    message.raw(&[0; 8]);
    message.nest(IFLA_AF_SPEC, |families| {
        families.nest(u16::from(af_number(Some(IpFamily::V4))), |inet| {
            inet.nest(IFLA_INET_CONF, |conf| {
                for (setting, value) in settings {
                    conf.bytes(*setting as u16, &value.to_ne_bytes());
                }
            });
        });
        if without_link_local {
            families.nest(u16::from(af_number(Some(IpFamily::V6))), |inet6| {
                inet6.u8(IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE);
            });
        }
    });
    message
}

pub(super) fn address(link: u32, net: IpNet, flag: AddressFlag, protocol: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = af(IpFamily::of(net.addr()));
    message.header.prefix_len = net.prefix_len();
    message.header.index = link;
    message.attributes = vec![AddressAttribute::Address(net.addr()), AddressAttribute::Local(net.addr())];
    if protocol != 0 {
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(protocol)));
    }
    let never_source = flag == AddressFlag::NeverSource;
    if net.addr().is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Permanent));
        if never_source {
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_valid = u32::MAX;
            message.attributes.push(AddressAttribute::CacheInfo(lifetime));
        }
    } else if never_source {
        message.header.scope = AddressScope::Host;
    }
    message
}

pub(super) fn route(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = af(route.family());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.kind = match route.kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Other(kind) => RouteType::from(kind),
    };
    let direct = route.kind == RouteKind::Unicast && route.via.is_none();
    if direct && route.family() == IpFamily::V4 {
        message.header.scope = RouteScope::Link;
    }
    message.header.table = u8::try_from(route.table).unwrap_or(0);
    if route.onlink {
        message.header.flags = RouteFlags::Onlink;
    }
    let attributes = &mut message.attributes;
    if route.destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(RouteAddress::from(route.destination.network())));
    }
    attributes.extend(route.via.map(|via| RouteAttribute::Gateway(RouteAddress::from(via))));
    attributes.extend(route.link.map(RouteAttribute::Oif));
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(RouteAddress::from(source))));
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    attributes.extend(route.mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
    attributes.push(RouteAttribute::Table(route.table));
    message
}

pub(super) fn neighbour(link: u32, address: IpAddr, mac: Mac) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = af(IpFamily::of(address));
    message.header.ifindex = link;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![destination(address), NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    message
}

pub(super) fn destination(address: IpAddr) -> NeighbourAttribute {
    NeighbourAttribute::Destination(match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    })
}

/// A request for one link by its name.
pub(super) fn get_link(name: &str) -> Message {
    let mut message = Message::new(RTM_GETLINK, 0);
    message.raw(&[0; IFINFO_LEN]);
    message.text(IFLA_IFNAME, name);
    message
}

/// A request for what becomes of a packet to `address`.
pub(super) fn get_route(address: IpAddr) -> Message {
    ask_route(address, 0)
}

/// A request for the route by which a packet to `address` leaves.
pub(super) fn match_route(address: IpAddr) -> Message {
    ask_route(address, RTM_F_FIB_MATCH)
}

fn ask_route(address: IpAddr, flags: u32) -> Message {
    let family = IpFamily::of(address);
    let mut header = [0; RTMSG_LEN];
    header[8..].copy_from_slice(&flags.to_ne_bytes());
    header[0] = af_number(Some(family));
    header[1] = family.host_prefix_len();
    let mut message = Message::new(RTM_GETROUTE, 0);
    message.raw(&header);
    match address {
        IpAddr::V4(address) => message.bytes(RTA_DST, &address.octets()),
        IpAddr::V6(address) => message.bytes(RTA_DST, &address.octets()),
    }
    message
}

/// Whether a route leads to this host itself.
pub(super) fn read_is_local(payload: &[u8]) -> Option<bool> {
    payload.get(7).map(|kind| *kind == RTN_LOCAL)
}

pub(super) fn list_links() -> Message {
    list(RTM_GETLINK, None, IFINFO_LEN)
}

pub(super) fn list_addresses(family: Option<IpFamily>) -> Message {
    list(RTM_GETADDR, family, IFADDR_LEN)
}

pub(super) fn list_routes(family: IpFamily) -> Message {
    list(RTM_GETROUTE, Some(family), RTMSG_LEN)
}

pub(super) fn list_neighbours(family: IpFamily) -> Message {
    list(RTM_GETNEIGH, Some(family), NDMSG_LEN)
}

fn list(kind: u16, family: Option<IpFamily>, header: usize) -> Message {
    let mut message = Message::new(kind, 0);
    let mut bytes = vec![0; header];
    bytes[0] = af_number(family);
    message.raw(&bytes);
    message
}

pub(super) fn read_link(payload: &[u8]) -> Option<Link> {
    let body = payload.get(IFINFO_LEN..)?;
    let flags = u32_at(payload, 8)?;
    let info = attribute(body, IFLA_LINKINFO);
    let kind = info.and_then(|info| attribute(info, IFLA_INFO_KIND)).and_then(text_of).map(str::to_owned);
    let data = info.and_then(|info| attribute(info, IFLA_INFO_DATA));
    Some(Link {
        index: u32_at(payload, 4)?,
        name: text_of(attribute(body, IFLA_IFNAME)?)?.to_owned(),
        mtu: attribute(body, IFLA_MTU).and_then(|value| u32_at(value, 0)).unwrap_or(0),
        mac: attribute(body, IFLA_ADDRESS).and_then(read_mac),
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        vxlan: data.filter(|_| kind.as_deref() == Some(vxlan::KIND)).and_then(vxlan::read),
        kind,
        peer_index: attribute(body, IFLA_LINK).and_then(|value| u32_at(value, 0)),
        sends: attribute(body, IFLA_QDISC).and_then(text_of).is_some_and(|qdisc| qdisc != "noop"),
    })
}

pub(super) fn read_address(payload: &[u8]) -> Option<LinkAddress> {
    let body = payload.get(IFADDR_LEN..)?;
    // On a point-to-point link IFA_ADDRESS is the other side.
    let value = attribute(body, IFA_LOCAL).or_else(|| attribute(body, IFA_ADDRESS))?;
    Some(LinkAddress {
        link: u32_at(payload, 4)?,
        net: IpNet::new(read_ip(value)?, *payload.get(1)?).ok()?,
        protocol: attribute(body, IFA_PROTO).and_then(|value| value.first().copied()).unwrap_or(0),
        scope: *payload.get(3)?,
    })
}

/// A route over several next hops is read by its first one.
pub(super) fn read_route(payload: &[u8]) -> Option<Route> {
    let body = payload.get(RTMSG_LEN..)?;
    let family = family_of(*payload.first()?)?;
    // Entries of the IPv6 route cache (exceptions) are listed among the routes.
    let flags = u32_at(payload, 8)?;
    if flags & RTM_F_CLONED != 0 {
        return None;
    }
    let first_hop = attribute(body, RTA_MULTIPATH);
    let hop_attributes = first_hop.and_then(|hops| hops.get(8..usize::from(u16_at(hops, 0)?)));
    let in_either = |kind| attribute(body, kind).or_else(|| attribute(hop_attributes?, kind));
    Some(Route {
        destination: read_net(attribute(body, RTA_DST), family, *payload.get(1)?)?,
        kind: match *payload.get(7)? {
            RTN_UNICAST => RouteKind::Unicast,
            RTN_UNREACHABLE => RouteKind::Unreachable,
            other => RouteKind::Other(other),
        },
        via: in_either(RTA_GATEWAY).and_then(read_ip),
        link: attribute(body, RTA_OIF)
            .and_then(|value| u32_at(value, 0))
            .or_else(|| first_hop.and_then(|hop| u32_at(hop, 4))),
        source: attribute(body, RTA_PREFSRC).and_then(read_ip),
        metric: attribute(body, RTA_PRIORITY).and_then(|value| u32_at(value, 0)),
        table: attribute(body, RTA_TABLE).and_then(|value| u32_at(value, 0)).unwrap_or(u32::from(*payload.get(4)?)),
        protocol: *payload.get(5)?,
        mtu: attribute(body, RTA_METRICS)
            .and_then(|metrics| attribute(metrics, RTAX_MTU))
            .and_then(|value| u32_at(value, 0)),
        onlink: flags & RTNH_F_ONLINK != 0,
    })
}

pub(super) fn read_neighbour(payload: &[u8]) -> Option<Neighbour> {
    let body = payload.get(NDMSG_LEN..)?;
    Some(Neighbour {
        link: u32_at(payload, 4)?,
        address: attribute(body, NDA_DST).and_then(read_ip)?,
        mac: attribute(body, NDA_LLADDR).and_then(read_mac),
        permanent: u16_at(payload, 8)? & NUD_PERMANENT != 0,
    })
}

fn family_of(number: u8) -> Option<IpFamily> {
    IpFamily::ALL.into_iter().find(|family| af_number(Some(*family)) == number)
}

fn read_net(address: Option<&[u8]>, family: IpFamily, length: u8) -> Option<IpNet> {
    let address = match (address, family) {
        (Some(value), _) => read_ip(value)?,
        (None, IpFamily::V4) => Ipv4Addr::UNSPECIFIED.into(),
        (None, IpFamily::V6) => Ipv6Addr::UNSPECIFIED.into(),
    };
    IpNet::new(address, length).ok()
}

pub(super) fn read_ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}

pub(super) fn read_mac(value: &[u8]) -> Option<Mac> {
    value.try_into().ok().map(Mac)
}
