//! The VXLAN device: made, compared with what must be, and taken away. The kernel is asked each time; nothing is remembered.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use minipod_kernel::checksum;
use minipod_kernel::netlink::{self, AddressFlag, Ipv4Setting, Link, Request, Rtnl, RtnlError};
use minipod_kernel::sysctl::Sysctl;
use minipod_model::IpFamily;
use minipod_model::defaults::{ROUTE_PROTOCOL, VXLAN_ID, VXLAN_PORT};
use minipod_model::link::VXLAN_LINK;

use super::{HostNetError, Repaired};
use crate::nodes::Vxlan;

/// Inner sources are checked by the rules; strict source validation is the second lock.
const SETTINGS: [(Ipv4Setting, u32); 5] = [
    (Ipv4Setting::Forwarding, 1),
    (Ipv4Setting::RpFilter, 1),
    (Ipv4Setting::AcceptRedirects, 0),
    (Ipv4Setting::SendRedirects, 0),
    (Ipv4Setting::ProxyArp, 0),
];
const SETTINGS_V6: [(&str, &str); 2] = [("accept_ra", "0"), ("accept_redirects", "0")];

/// Makes the device what it must be, or takes it away; says its number.
pub(super) fn ensure(
    rtnl: &mut Rtnl,
    wanted: Option<&Vxlan>,
    families: &[IpFamily],
    repaired: &mut Repaired,
) -> Result<Option<u32>, HostNetError> {
    let mut there = rtnl.link(VXLAN_LINK).map_err(HostNetError::List)?;
    if let Some(link) = there.take_if(|link| !wanted.is_some_and(|wanted| is_as(link, wanted))) {
        send(rtnl, vec![Request::remove_link(link.index)])?;
        repaired.removed.push(VXLAN_LINK.to_owned());
    }
    let Some(wanted) = wanted else { return Ok(None) };
    let link = match there {
        Some(link) => link,
        None => make(rtnl, wanted, repaired)?,
    };
    if link.mtu != wanted.mtu {
        send(rtnl, vec![Request::set_mtu(link.index, wanted.mtu)])?;
        repaired.added.push(format!("MTU {} of {VXLAN_LINK}", wanted.mtu));
    }
    if !link.up {
        switch_on(rtnl, link.index, families)?;
        repaired.added.push(format!("{VXLAN_LINK} on"));
    }
    ensure_addresses(rtnl, link.index, wanted, repaired)?;
    ensure_neighbours(rtnl, link.index, wanted, repaired)?;
    ensure_forwardings(rtnl, link.index, wanted, repaired)?;
    Ok(Some(link.index))
}

/// What cannot be changed of a device that is there.
fn is_as(link: &Link, wanted: &Vxlan) -> bool {
    link.vxlan == Some(how(wanted)) && link.mac == Some(wanted.mac)
}

/// Nothing is learned: who is where is known, and who says otherwise lies.
fn how(wanted: &Vxlan) -> netlink::Vxlan {
    netlink::Vxlan { id: VXLAN_ID, port: VXLAN_PORT, local: wanted.local, learning: false }
}

fn make(rtnl: &mut Rtnl, wanted: &Vxlan, repaired: &mut Repaired) -> Result<Link, HostNetError> {
    send(rtnl, vec![Request::add_vxlan(VXLAN_LINK, wanted.mac, wanted.mtu, &how(wanted))])?;
    if !checksum::tunnels_can_offload() {
        checksum::set_offload(VXLAN_LINK, false)
            .map_err(|source| HostNetError::Checksums { link: VXLAN_LINK, source })?;
    }
    repaired.added.push(VXLAN_LINK.to_owned());
    rtnl.link(VXLAN_LINK).map_err(HostNetError::List)?.ok_or(HostNetError::Vanished { link: VXLAN_LINK })
}

/// The settings first: from the first packet on they hold.
fn switch_on(rtnl: &mut Rtnl, link: u32, families: &[IpFamily]) -> Result<(), HostNetError> {
    let v6 = families.contains(&IpFamily::V6);
    send(rtnl, vec![Request::configure(link, &SETTINGS, v6)])?;
    for (setting, value) in SETTINGS_V6.iter().filter(|_| v6) {
        Sysctl::of_link(IpFamily::V6, VXLAN_LINK, setting)
            .map_err(minipod_kernel::sysctl::SysctlError::from)?
            .write(value)?;
    }
    send(rtnl, vec![Request::set_up(link)])
}

fn ensure_addresses(rtnl: &mut Rtnl, link: u32, wanted: &Vxlan, repaired: &mut Repaired) -> Result<(), HostNetError> {
    let wanted: BTreeSet<IpNet> = wanted.addresses.iter().map(|address| IpNet::from(*address)).collect();
    let present = rtnl.addresses(None).map_err(HostNetError::List)?;
    let present: BTreeSet<IpNet> = present.iter().filter(|a| a.link == link).map(|a| a.net).collect();
    let add = wanted.difference(&present);
    let remove = present.difference(&wanted);
    let requests: Vec<Request> = add
        .map(|net| Request::add_address(link, *net, AddressFlag::Ordinary, ROUTE_PROTOCOL))
        .chain(remove.map(|net| Request::remove_address(link, *net)))
        .collect();
    repaired.addresses += requests.len();
    send(rtnl, requests)
}

fn ensure_neighbours(rtnl: &mut Rtnl, link: u32, wanted: &Vxlan, repaired: &mut Repaired) -> Result<(), HostNetError> {
    let wanted = wanted.neighbours();
    let mut present = Vec::new();
    for family in IpFamily::ALL {
        present.extend(rtnl.neighbours(family).map_err(HostNetError::List)?);
    }
    // The kernel has neighbours of its own making, multicast above all: those are not permanent.
    present.retain(|neighbour| neighbour.link == link && neighbour.permanent);
    let is_there = |address: &IpAddr, mac| present.iter().any(|n| n.address == *address && n.mac == Some(mac));
    let missing: Vec<_> = wanted.iter().filter(|(address, mac)| !is_there(address, **mac)).collect();
    let stale: Vec<IpAddr> = present.iter().map(|n| n.address).filter(|a| !wanted.contains_key(a)).collect();
    repaired.added.extend(missing.iter().map(|(address, _)| format!("neighbour {address}")));
    repaired.removed.extend(stale.iter().map(|address| format!("neighbour {address}")));
    let set = missing.into_iter().map(|(address, mac)| Request::set_neighbour(link, *address, *mac));
    send(rtnl, set.chain(stale.into_iter().map(|address| Request::remove_neighbour(link, address))).collect())
}

fn ensure_forwardings(rtnl: &mut Rtnl, link: u32, wanted: &Vxlan, repaired: &mut Repaired) -> Result<(), HostNetError> {
    let wanted = wanted.forwardings();
    let present = BTreeSet::from_iter(rtnl.forwardings(link).map_err(HostNetError::List)?);
    // What is stale goes first: a hardware address that has moved has one entry, not two.
    let stale = present.difference(&wanted);
    let missing = wanted.difference(&present);
    repaired.removed.extend(stale.clone().map(|entry| format!("{} behind {}", entry.mac, entry.to)));
    repaired.added.extend(missing.clone().map(|entry| format!("{} behind {}", entry.mac, entry.to)));
    let remove = stale.map(|entry| Request::remove_forwarding(link, entry));
    send(rtnl, remove.chain(missing.map(|entry| Request::set_forwarding(link, entry))).collect())
}

fn send(rtnl: &mut Rtnl, requests: Vec<Request>) -> Result<(), HostNetError> {
    if requests.is_empty() {
        return Ok(());
    }
    rtnl.send(requests).map_err(refused)
}

fn refused(source: RtnlError) -> HostNetError {
    HostNetError::Change { what: "set up the VXLAN device to other nodes", source }
}
