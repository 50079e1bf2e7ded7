//! The node's end of an attachment.

use minipod_kernel::netlink::{Ipv4Setting, Request, RouteKind, Rtnl, RtnlError, VethEnd};
use minipod_kernel::netns::NetNs;
use minipod_kernel::sysctl::{Sysctl, SysctlError};
use minipod_model::IpFamily;

use super::AttachError;
use super::pod_side::ipv6_is_there;
use super::record::Record;
use crate::links::SETTLE;
use crate::routes::{PodRoute, pod_route};

/// Strict source validation even though the from-gate does the same: both would have to fail.
const SETTINGS: [(Ipv4Setting, u32); 5] = [
    (Ipv4Setting::Forwarding, 1),
    (Ipv4Setting::RpFilter, 1),
    (Ipv4Setting::AcceptRedirects, 0),
    (Ipv4Setting::SendRedirects, 0),
    (Ipv4Setting::ProxyArp, 0),
];

const SETTINGS_V6: [(&str, &str); 2] = [("accept_ra", "0"), ("accept_redirects", "0")];

/// Makes the pair, the pod's end inside `netns`, and returns the number of the node's end.
pub(super) fn create(rtnl: &mut Rtnl, record: &Record, netns: &NetNs) -> Result<u32, AttachError> {
    let host = VethEnd { name: record.link.as_str(), mac: record.host_mac };
    let peer = VethEnd { name: &record.sandbox.ifname, mac: record.mac };
    rtnl.send(vec![Request::add_veth(host, peer, record.mtu, netns)]).map_err(|error| {
        if error.is_exists() {
            let (ifname, netns) = (record.sandbox.ifname.clone(), netns.path().to_owned());
            AttachError::InterfaceExists { ifname, netns, link: record.link.clone() }
        } else {
            kernel(record, error)
        }
    })?;
    let made = rtnl.link(record.link.as_str()).map_err(|error| kernel(record, error))?;
    Ok(made.ok_or_else(|| AttachError::Vanished(record.link.to_string()))?.index)
}

/// Switches the node's end on again; with it the kernel forgot its neighbours and routes.
pub(super) fn switch_on(rtnl: &mut Rtnl, record: &Record) -> Result<(), AttachError> {
    rtnl.send(vec![Request::set_up(record.link_index)]).map_err(|error| kernel(record, error))?;
    configure(rtnl, record)
}

/// Settings, neighbours and routes of the node's end.
pub(super) fn configure(rtnl: &mut Rtnl, record: &Record) -> Result<(), AttachError> {
    let link = record.link_index;
    let mut requests = vec![Request::configure(link, &SETTINGS, ipv6_is_there())];
    for &address in &record.addresses {
        requests.push(Request::set_neighbour(link, address, record.mac));
        // A route that a predecessor of the same address left is replaced.
        requests.push(Request::replace_route(&pod_route(PodRoute { address, link })));
    }
    rtnl.send(requests).map_err(|error| kernel(record, error))?;
    if record.addresses.iter().any(std::net::IpAddr::is_ipv6) {
        ipv6_settings(record).map_err(|source| AttachError::Setting { link: record.link.clone(), source })?;
    }
    Ok(())
}

/// Waits until the node's end sends: the first packet to the pod must not be lost.
pub(super) fn settle(rtnl: &mut Rtnl, record: &Record) -> Result<(), AttachError> {
    let name = record.link.as_str();
    if rtnl.wait_until_sending(name, SETTLE).map_err(|error| kernel(record, error))? {
        return Ok(());
    }
    Err(AttachError::NotSettled { what: format!("interface `{name}`"), link: record.link.clone() })
}

/// Takes the routes away at once; the link itself may take longer.
pub(super) fn withdraw(rtnl: &mut Rtnl, record: &Record) -> Result<(), AttachError> {
    let route = |address: &std::net::IpAddr| {
        Request::remove_route(&pod_route(PodRoute { address: *address, link: record.link_index }))
    };
    rtnl.send(record.addresses.iter().map(route).collect()).map_err(|error| kernel(record, error))
}

/// Deletes a link, and with it the pod's end, before it returns.
pub(super) fn delete(rtnl: &mut Rtnl, record: &Record, index: u32) -> Result<(), AttachError> {
    rtnl.send(vec![Request::remove_link(index)]).map_err(|error| kernel(record, error))
}

/// Compares what is on the node with the record.
pub(super) fn check(rtnl: &mut Rtnl, record: &Record) -> Result<(), AttachError> {
    let name = record.link.as_str();
    let Some(link) = rtnl.link(name).map_err(AttachError::List)? else {
        return Err(AttachError::differs(format!("interface `{name}` on the node"), &"absent", &"present"));
    };
    if link.index != record.link_index {
        return Err(AttachError::differs(format!("number of interface `{name}`"), &link.index, &record.link_index));
    }
    if !link.up {
        return Err(AttachError::differs(format!("interface `{name}` on the node"), &"down", &"up"));
    }
    if link.mtu != record.mtu {
        return Err(AttachError::differs(format!("MTU of `{name}`"), &link.mtu, &record.mtu));
    }
    for &address in &record.addresses {
        let routes = rtnl.routes(IpFamily::of(address)).map_err(AttachError::List)?;
        let wanted = pod_route(PodRoute { address, link: link.index });
        let leads = |route: &&minipod_kernel::netlink::Route| {
            route.kind == RouteKind::Unicast && route.destination == wanted.destination && route.link == wanted.link
        };
        if !routes.iter().any(|route| leads(&route)) {
            return Err(AttachError::differs(format!("the node's route to `{address}`"), &"absent", &"present"));
        }
    }
    Ok(())
}

fn ipv6_settings(record: &Record) -> Result<(), SysctlError> {
    for (setting, value) in SETTINGS_V6 {
        Sysctl::of_link(IpFamily::V6, record.link.as_str(), setting)?.write(value)?;
    }
    Ok(())
}

fn kernel(record: &Record, source: RtnlError) -> AttachError {
    AttachError::Kernel { link: record.link.clone(), source }
}
