//! The interface to which the routes of the service ranges lead: what the node itself sends to a service needs a route before it is
//! translated, and what is not translated needs one that leads through the filter table, where it is refused.
//!
//! It is a bridge without ports, and has no addresses. Should our rules be missing for a moment, it swallows what comes. The loopback
//! device would not: IPv4 packets go in a circle there until their TTL ends, and IPv6 makes a refusing route of it. Kernels of small
//! machines have bridges, but not the kind `dummy`.

use minipod_kernel::netlink::{Link, Request, Rtnl, RtnlError};
use minipod_model::IpFamily;
use minipod_model::link::SERVICE_LINK;

use super::{HostNetError, Repaired};

/// Makes the interface what it must be; says its number.
pub(super) fn ensure(rtnl: &mut Rtnl, families: &[IpFamily], repaired: &mut Repaired) -> Result<u32, HostNetError> {
    let link = match rtnl.link(SERVICE_LINK).map_err(HostNetError::List)? {
        Some(link) => link,
        None => make(rtnl, repaired)?,
    };
    if !link.up {
        let v6 = families.contains(&IpFamily::V6);
        let on = vec![Request::configure(link.index, &[], v6), Request::set_up(link.index)];
        rtnl.send(on).map_err(refused)?;
        repaired.added.push(format!("{SERVICE_LINK} on"));
    }
    Ok(link.index)
}

fn make(rtnl: &mut Rtnl, repaired: &mut Repaired) -> Result<Link, HostNetError> {
    rtnl.send(vec![Request::add_bridge(SERVICE_LINK)]).map_err(refused)?;
    repaired.added.push(SERVICE_LINK.to_owned());
    rtnl.link(SERVICE_LINK).map_err(HostNetError::List)?.ok_or(HostNetError::Vanished { link: SERVICE_LINK })
}

fn refused(source: RtnlError) -> HostNetError {
    if source.is_unsupported() {
        return HostNetError::NoBridge { link: SERVICE_LINK };
    }
    HostNetError::Change { what: "set up the interface for services", source }
}
