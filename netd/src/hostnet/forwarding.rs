//! The host as a router: what has to be set before packets are forwarded, and what was set is written down.

use std::path::Path;

use minipod_kernel::netlink::{Link, Route};
use minipod_kernel::sysctl::{Journal, Sysctl, SysctlError};
use minipod_model::{IpFamily, LinkName};

use crate::links::uplinks;

/// `RTPROT_RA`: a route that a router advertisement made.
const ROUTE_BY_ADVERTISEMENT: u8 = 9;

/// The families in which forwarding is on because of us: what is forwarded neither from nor to a pod must be dropped there, as it
/// was before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwitchedOn {
    /// IPv4
    pub v4: bool,
    /// IPv6
    pub v6: bool,
}

impl SwitchedOn {
    /// Whether it is so in `family`.
    #[must_use]
    pub fn in_family(self, family: IpFamily) -> bool {
        match family {
            IpFamily::V4 => self.v4,
            IpFamily::V6 => self.v6,
        }
    }
}

/// Switches forwarding on where it is off. A host that forwards ignores router advertisements unless told otherwise, and would lose
/// its IPv6 default route: links that live by them are told before.
pub(super) fn ensure(
    journal: &mut Journal,
    families: &[IpFamily],
    links: &[Link],
    routes_v6: &[Route],
) -> Result<SwitchedOn, SysctlError> {
    for &family in families {
        if family == IpFamily::V6 && switch(family)?.read()? == "0" {
            for link in advertised(links, routes_v6) {
                let accept = Sysctl::of_link(IpFamily::V6, &link.name, "accept_ra")?;
                if accept.read_if_present()?.as_deref() == Some("1") {
                    journal.ensure(&accept, "2")?;
                }
            }
        }
        journal.ensure(&switch(family)?, "1")?;
    }
    Ok(SwitchedOn {
        v4: journal.changes().contains_key(&switch(IpFamily::V4)?),
        v6: journal.changes().contains_key(&switch(IpFamily::V6)?),
    })
}

/// Hardware and every other link that has routes from advertisements or a default route.
fn advertised<'a>(links: &'a [Link], routes: &'a [Route]) -> impl Iterator<Item = &'a Link> {
    links.iter().filter(move |link| {
        let by_advertisement =
            routes.iter().any(|r| r.protocol == ROUTE_BY_ADVERTISEMENT && r.link == Some(link.index));
        let uplink = uplinks(routes).any(|index| index == link.index);
        let hardware = link.kind.is_none() && !link.loopback;
        LinkName::parse(&link.name).is_none() && (by_advertisement || uplink || hardware)
    })
}

fn switch(family: IpFamily) -> Result<Sysctl, SysctlError> {
    Ok(match family {
        IpFamily::V4 => Sysctl::new("net/ipv4/ip_forward")?,
        IpFamily::V6 => Sysctl::of_link(IpFamily::V6, "all", "forwarding")?,
    })
}

/// Whether the kernel has the family and it is not switched off.
pub(super) fn is_available(family: IpFamily) -> bool {
    match family {
        IpFamily::V4 => true,
        IpFamily::V6 => {
            let off = Sysctl::of_link(IpFamily::V6, "all", "disable_ipv6").and_then(|name| {
                // An unreadable setting means a kernel without IPv6.
                Ok(name.read_if_present().ok().flatten())
            });
            Path::new("/proc/net/if_inet6").exists() && matches!(off, Ok(Some(value)) if value == "0")
        }
    }
}
