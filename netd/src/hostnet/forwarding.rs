//! The host as a router: what has to be set before packets are forwarded, and what was set is written down.

use std::path::Path;

use minipod_kernel::netlink::{Link, Route, Rtnl};
use minipod_kernel::sysctl::{Journal, Sysctl, SysctlError};
use minipod_model::{IpFamily, LinkName};

use super::{HostNetError, JOURNAL_FILE};
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

/// Forwarding of this host.
///
/// Opened before the rules are made, which have to know whether it is our doing; switched on after them, so that nothing is ever
/// forwarded that was not before.
#[derive(Debug)]
pub struct Forwarding {
    journal: Journal,
    families: Vec<IpFamily>,
    off: Vec<IpFamily>,
}

impl Forwarding {
    /// Looks whether the host forwards; changes nothing.
    ///
    /// # Errors
    /// A setting or the journal cannot be read.
    pub fn open(state_dir: &Path, families: &[IpFamily]) -> Result<Self, HostNetError> {
        let journal = Journal::open(&state_dir.join(JOURNAL_FILE))?;
        let mut off = Vec::new();
        for &family in families {
            if switch(family)?.read()? == "0" {
                off.push(family);
            }
        }
        Ok(Self { journal, families: families.to_vec(), off })
    }

    /// Where it is on because of us, since an earlier start or as soon as it is switched on.
    ///
    /// # Errors
    /// None of the names used here is invalid.
    pub fn because_of_us(&self) -> Result<SwitchedOn, HostNetError> {
        let ours = |family| -> Result<bool, HostNetError> {
            let journalled = self.journal.changes().contains_key(&switch(family)?);
            Ok(self.families.contains(&family) && (journalled || self.off.contains(&family)))
        };
        Ok(SwitchedOn { v4: ours(IpFamily::V4)?, v6: ours(IpFamily::V6)? })
    }

    /// Switches forwarding on where it is off. A host that forwards ignores router advertisements unless told otherwise, and would
    /// lose its IPv6 default route: links that live by them are told before.
    ///
    /// # Errors
    /// A setting cannot be made; those before it are.
    pub fn switch_on(mut self) -> Result<(), HostNetError> {
        if self.off.contains(&IpFamily::V6) {
            let mut rtnl = Rtnl::open()?;
            let links = rtnl.links().map_err(HostNetError::List)?;
            let routes = rtnl.routes(IpFamily::V6).map_err(HostNetError::List)?;
            for link in advertised(&links, &routes) {
                let accept = Sysctl::of_link(IpFamily::V6, &link.name, "accept_ra").map_err(SysctlError::from)?;
                if accept.read_if_present()?.as_deref() == Some("1") {
                    self.journal.ensure(&accept, "2")?;
                }
            }
        }
        for &family in &self.families {
            self.journal.ensure(&switch(family)?, "1")?;
        }
        Ok(())
    }
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
            // An unreadable setting means a kernel without IPv6.
            let off = Sysctl::of_link(IpFamily::V6, "all", "disable_ipv6").ok().and_then(|name| name.read().ok());
            Path::new("/proc/net/if_inet6").exists() && off.is_some_and(|value| value == "0")
        }
    }
}
