//! VXLAN devices and their forwarding databases on the wire. Pure.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};

use super::message::{Message, attribute, be16_of, u32_at};
use super::packets::{NDA_DST, NDA_LLADDR, NDMSG_LEN, RTM_GETNEIGH, destination, read_ip, read_mac};
use super::types::{Forwarding, Mac, Vxlan};

/// `IFLA_INFO_KIND` of such a device
pub(super) const KIND: &str = "vxlan";

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;

/// A device that is switched off: what it must know before the first packet can be told first.
pub(super) fn device(name: &str, mac: Mac, mtu: u32, vxlan: &Vxlan) -> LinkMessage {
    let local = match vxlan.local {
        IpAddr::V4(address) => InfoVxlan::Local(address),
        IpAddr::V6(address) => InfoVxlan::Local6(address),
    };
    let how = vec![InfoVxlan::Id(vxlan.id), local, InfoVxlan::Learning(vxlan.learning), InfoVxlan::Port(vxlan.port)];
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(how))]),
    ];
    link
}

/// A device without an address of its own has none that can be compared.
pub(super) fn read(data: &[u8]) -> Option<Vxlan> {
    let local = attribute(data, IFLA_VXLAN_LOCAL).or_else(|| attribute(data, IFLA_VXLAN_LOCAL6))?;
    Some(Vxlan {
        id: attribute(data, IFLA_VXLAN_ID).and_then(|value| u32_at(value, 0))?,
        port: attribute(data, IFLA_VXLAN_PORT).and_then(be16_of)?,
        local: read_ip(local)?,
        learning: attribute(data, IFLA_VXLAN_LEARNING).and_then(|value| value.first()).is_some_and(|on| *on != 0),
    })
}

pub(super) fn forwarding(link: u32, entry: &Forwarding) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec()), destination(entry.to)];
    message
}

/// The entries of all links: the kernel's filter by link differs between versions.
pub(super) fn list_forwardings() -> Message {
    let mut header = [0; NDMSG_LEN];
    header[0] = AddressFamily::Bridge.into();
    let mut message = Message::new(RTM_GETNEIGH, 0);
    message.raw(&header);
    message
}

/// An entry that leads to an address of the underlay, with its link.
pub(super) fn read_forwarding(payload: &[u8]) -> Option<(u32, Forwarding)> {
    let body = payload.get(NDMSG_LEN..)?;
    let mac = attribute(body, NDA_LLADDR).and_then(read_mac)?;
    let to = attribute(body, NDA_DST).and_then(read_ip)?;
    Some((u32_at(payload, 4)?, Forwarding { mac, to }))
}
