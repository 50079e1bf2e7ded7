//! The pod's end of an attachment. Everything here happens on a short-lived thread inside the pod's namespace.

use std::net::IpAddr;

use ipnet::IpNet;
use minipod_kernel::netlink::{AddressFlag, Mac, Request, Route, RouteKind, Rtnl};
use minipod_kernel::sysctl::{Sysctl, SysctlError};
use minipod_model::IpFamily;
use minipod_model::defaults::{GATEWAY_V4, GATEWAY_V6};

use super::AttachError;
use super::record::Record;
use crate::links::SETTLE;
use crate::routes::LOOPBACK;

/// `RTPROT_BOOT`, what a route made by an administrator's tool carries; inside a pod there is no route of ours to recognise later.
const PROTOCOL: u8 = 3;

/// The next hop of a pod's default route.
pub(super) fn gateway(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => GATEWAY_V4.into(),
        IpFamily::V6 => GATEWAY_V6.into(),
    }
}

/// Gives the pod its addresses and routes and switches its links on.
pub(super) fn configure(record: &Record) -> Result<(), AttachError> {
    let ifname = record.sandbox.ifname.as_str();
    let kernel = |source| AttachError::Kernel { link: record.link.clone(), source };
    let mut rtnl = Rtnl::open()?;
    let link = rtnl.link(ifname).map_err(kernel)?.ok_or_else(|| AttachError::Vanished(ifname.to_owned()))?.index;
    if record.addresses.iter().any(IpAddr::is_ipv6) {
        ipv6_settings(ifname).map_err(|source| AttachError::Setting { link: record.link.clone(), source })?;
    }
    rtnl.send(requests(link, record)).map_err(kernel)?;
    for &address in record.addresses.iter().filter(|address| address.is_ipv6()) {
        if !rtnl.wait_until_local(address, SETTLE).map_err(kernel)? {
            return Err(AttachError::NotSettled { what: format!("address `{address}`"), link: record.link.clone() });
        }
    }
    Ok(())
}

/// Deletes the pod's end of a pair whose other end the node has lost to another namespace. An interface of somebody else stays.
pub(super) fn remove_stray(record: &Record) -> Result<(), AttachError> {
    let mut rtnl = Rtnl::open()?;
    let there = rtnl.link(&record.sandbox.ifname).map_err(AttachError::List)?;
    let Some(stray) = there.filter(|link| link.mac == Some(record.mac)) else { return Ok(()) };
    let kernel = |source| AttachError::Kernel { link: record.link.clone(), source };
    rtnl.send(vec![Request::remove_link(stray.index)]).map_err(kernel)
}

/// One send for everything. No link-local address, hence no duplicate address detection and no multicast chatter: the only neighbour is
/// the node, and it is known.
fn requests(link: u32, record: &Record) -> Vec<Request> {
    let mut requests =
        vec![Request::set_up(LOOPBACK), Request::configure(link, &[], ipv6_is_there()), Request::set_up(link)];
    for &address in &record.addresses {
        let family = IpFamily::of(address);
        let gateway = gateway(family);
        requests.push(Request::add_address(link, IpNet::from(address), AddressFlag::Ordinary, 0));
        if family == IpFamily::V4 {
            requests.push(Request::add_route(&Route::to_link(gateway.into(), link, PROTOCOL)));
        }
        requests.push(Request::set_neighbour(link, gateway, record.host_mac));
        requests.push(Request::add_route(&default_route(link, family)));
    }
    requests
}

fn default_route(link: u32, family: IpFamily) -> Route {
    let everything = match family {
        IpFamily::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
        IpFamily::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
    };
    Route::to_link(everything, link, PROTOCOL).via(gateway(family))
}

/// A namespace may have inherited IPv6 switched off; a pod takes no routes or redirects from anybody.
fn ipv6_settings(ifname: &str) -> Result<(), SysctlError> {
    for (setting, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_redirects", "0")] {
        Sysctl::of_link(IpFamily::V6, ifname, setting)?.write(value)?;
    }
    Ok(())
}

pub(super) fn ipv6_is_there() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6").exists()
}

/// Compares what is inside with the record.
pub(super) fn check(record: &Record) -> Result<(), AttachError> {
    let ifname = record.sandbox.ifname.as_str();
    let list = AttachError::List;
    let mut rtnl = Rtnl::open()?;
    let Some(link) = rtnl.link(ifname).map_err(list)? else {
        return Err(AttachError::differs(format!("interface `{ifname}` in the pod"), &"absent", &"present"));
    };
    if !link.up {
        return Err(AttachError::differs(format!("interface `{ifname}` in the pod"), &"down", &"up"));
    }
    if link.mac != Some(record.mac) {
        let found = link.mac.map_or_else(|| "none".to_owned(), |mac: Mac| mac.to_string());
        return Err(AttachError::differs(format!("MAC address of `{ifname}`"), &found, &record.mac));
    }
    if link.mtu != record.mtu {
        return Err(AttachError::differs(format!("MTU of `{ifname}`"), &link.mtu, &record.mtu));
    }
    let addresses = rtnl.addresses(None).map_err(list)?;
    for address in &record.addresses {
        if !addresses.iter().any(|found| found.link == link.index && found.net.addr() == *address) {
            return Err(AttachError::differs(format!("address `{address}` of `{ifname}`"), &"absent", &"present"));
        }
        let family = IpFamily::of(*address);
        let wanted = default_route(link.index, family);
        let leads = |route: &Route| {
            route.kind == RouteKind::Unicast
                && route.destination == wanted.destination
                && route.link == wanted.link
                && route.via == wanted.via
        };
        if !rtnl.routes(family).map_err(list)?.iter().any(leads) {
            let what = format!("{family} default route by `{}` in the pod", gateway(family));
            return Err(AttachError::differs(what, &"absent", &"present"));
        }
    }
    Ok(())
}
