//! The node's own network: families, forwarding, the routes beneath the pods' routes, the cluster DNS address.
//!
//! Model: [`HostNet::open`] judges the ranges; [`Forwarding`] makes the host a router once the rules are there; [`HostNet::ensure`] makes routes and addresses what they must
//! be, as often as it is called, and says what it repaired; [`remove_all`] puts everything back. Ownership: routes with protocol 109, the
//! interface for services, addresses that it gave the loopback device, settings in its journal. Threads: one caller, in the node's network namespace.

mod dropins;
mod error;
mod forwarding;
mod own_addresses;
mod reset;
mod services;
mod vxlan;
mod watch;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use minipod_kernel::netlink::{Link, LinkAddress, Request, Route, RouteKind, Rtnl};
use minipod_model::defaults::ROUTE_PROTOCOL;
use minipod_model::link::{SERVICE_LINK, VXLAN_LINK};
use minipod_model::{IpFamily, LinkName};

pub use error::HostNetError;
pub use forwarding::{Forwarding, SwitchedOn};
pub use reset::{Removed, remove_all};
pub use watch::watch_changes;

use crate::links::{SETTLE, compute_mtu};
use crate::nodes::{Hop, Hops, Network, Vxlan};
use crate::routes::{LOOPBACK, PodRoute, Ranges, check_overlap, compile_routes, diff_routes};
use own_addresses::OwnFile;

/// Settings that were changed, in `STATE_DIR`.
const JOURNAL_FILE: &str = "changed-sysctls.json";
/// Addresses that the node got from us, in `STATE_DIR`.
const ADDRESSES_FILE: &str = "own-addresses.json";

/// See the module.
#[derive(Debug)]
pub struct HostNet {
    rtnl: Rtnl,
    ranges: Ranges,
    dns: Vec<IpAddr>,
    families: Vec<IpFamily>,
    forwarding: SwitchedOn,
    own: OwnFile,
    mtu: u32,
    /// `None`: the other nodes are not known yet, and what leads to them stays as it is
    network: Option<Network>,
}

/// What [`HostNet::ensure`] had to do.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// routes, the interface for services, and what belongs to the VXLAN device, that were missing
    pub added: Vec<String>,
    /// such of ours that nobody needs any more
    pub removed: Vec<String>,
    /// addresses of the loopback and of the VXLAN device, added and removed
    pub addresses: usize,
    /// the MTU of pod links changed to this
    pub mtu: Option<u32>,
}

impl Repaired {
    /// Whether everything was as it must be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl HostNet {
    /// Judges the ranges and leaves out families that this host does not have. Forwarding is left to [`Forwarding::switch_on`].
    ///
    /// # Errors
    /// A range overlaps a route of someone else; nothing is changed then. A setting cannot be read.
    pub fn open(state_dir: &Path, ranges: &Ranges, dns: &[IpAddr]) -> Result<Self, HostNetError> {
        let mut rtnl = Rtnl::open()?;
        let own = OwnFile::open(&state_dir.join(ADDRESSES_FILE))?;
        let available = available_families();
        let ranges = restrict(ranges, &available)?;
        if !available.contains(&IpFamily::V6) {
            tracing::info!("this host has no IPv6; pods get IPv4 addresses only");
        }
        let families: Vec<IpFamily> =
            available.into_iter().filter(|f| ranges.node.iter().any(|r| IpFamily::of(r.addr()) == *f)).collect();
        let (routes, links) = (list_routes(&mut rtnl, &families)?, rtnl.links().map_err(HostNetError::List)?);
        judge_ranges(&mut rtnl, &ranges, &routes, &own)?;
        let forwarding = Forwarding::open(state_dir, &families)?.because_of_us()?;
        dropins::ensure(Path::new("/"))?;
        let mtu = compute_mtu(&links, &routes);
        Ok(Self { rtnl, ranges, dns: dns.to_vec(), families, forwarding, own, mtu, network: None })
    }

    /// The families in which this node has pods; one that the host does not have is left out.
    #[must_use]
    pub fn families(&self) -> &[IpFamily] {
        &self.families
    }

    /// The ranges without those of families that the host does not have.
    #[must_use]
    pub fn ranges(&self) -> &Ranges {
        &self.ranges
    }

    /// Where forwarding is on because of us, since an earlier start or as soon as it is switched on.
    #[must_use]
    pub fn forwarding_switched_on(&self) -> SwitchedOn {
        self.forwarding
    }

    /// The MTU of pod links.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// How packets to these addresses leave.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn observe_hops(&mut self, addresses: impl Iterator<Item = IpAddr>) -> Result<Hops, HostNetError> {
        let links = self.rtnl.links().map_err(HostNetError::List)?;
        let mut hops = Hops::new();
        for address in addresses {
            let route = self.rtnl.route_to(address).map_err(HostNetError::List)?;
            hops.extend(route.and_then(|route| hop(&route, &links)).map(|hop| (address, hop)));
        }
        Ok(hops)
    }

    /// What leads to other nodes from now on; made by the next [`HostNet::ensure`].
    pub fn set_network(&mut self, network: Network) {
        self.network = Some(network);
    }

    /// Whether the next [`HostNet::ensure`] leaves a VXLAN device there.
    #[must_use]
    pub fn keeps_vxlan(&self) -> bool {
        self.network.as_ref().is_none_or(|network| network.vxlan.is_some())
    }

    /// The device that the last [`HostNet::ensure`] was to leave there.
    #[must_use]
    pub fn vxlan(&self) -> Option<&Vxlan> {
        self.network.as_ref()?.vxlan.as_ref()
    }

    /// Makes routes, the interface for services, the VXLAN device and the loopback device's addresses what they must be for these pods.
    ///
    /// # Errors
    /// The first refusal; the rest was tried.
    pub fn ensure(&mut self, pods: &[PodRoute]) -> Result<Repaired, HostNetError> {
        let mut repaired = Repaired::default();
        // Where one of these devices cannot be made everything else is done nevertheless.
        let (services, no_services) = or_failed(self.ensure_services(&mut repaired));
        let (device, no_device) = or_failed(self.ensure_vxlan(&mut repaired));
        let links = self.rtnl.links().map_err(HostNetError::List)?;
        let present = list_routes(&mut self.rtnl, &IpFamily::ALL)?;
        let mtu = compute_mtu(&links, &present);
        if mtu != self.mtu {
            self.mtu = mtu;
            repaired.mtu = Some(mtu);
        }
        self.ensure_addresses(&mut repaired, links.iter().any(|link| link.loopback && link.up))?;
        // A pod whose link is gone has no route; its attachment is released by whoever made it.
        let reachable: Vec<PodRoute> =
            pods.iter().filter(|pod| links.iter().any(|link| link.index == pod.link)).copied().collect();
        self.ensure_routes(&mut repaired, &reachable, services, device, &present)?;
        no_services.or(no_device).map_or(Ok(repaired), Err)
    }

    fn ensure_services(&mut self, repaired: &mut Repaired) -> Result<Option<u32>, HostNetError> {
        if self.ranges.services.is_empty() {
            return Ok(None);
        }
        services::ensure(&mut self.rtnl, &self.families, repaired).map(Some)
    }

    fn ensure_vxlan(&mut self, repaired: &mut Repaired) -> Result<Option<u32>, HostNetError> {
        let Some(network) = &self.network else { return Ok(None) };
        vxlan::ensure(&mut self.rtnl, network.vxlan.as_ref(), &self.families, repaired)
    }

    fn ensure_addresses(&mut self, repaired: &mut Repaired, loopback_is_up: bool) -> Result<(), HostNetError> {
        let present = self.rtnl.addresses(None).map_err(HostNetError::List)?;
        let wanted =
            own_addresses::compute(&self.dns, &self.ranges.node, &self.families, &present, &self.own.addresses);
        let mut requests = own_addresses::changes(&wanted, &present, &self.own.addresses);
        repaired.addresses += requests.len();
        if !loopback_is_up {
            requests.insert(0, Request::set_up(LOOPBACK));
        }
        if requests.is_empty() {
            return Ok(());
        }
        self.own.note(&wanted)?;
        let what = "give the loopback device its addresses";
        self.rtnl.send(requests).map_err(|source| HostNetError::Change { what, source })?;
        for own in wanted {
            self.rtnl.wait_until_local(own.net.addr(), SETTLE).map_err(HostNetError::List)?;
        }
        Ok(())
    }

    fn ensure_routes(
        &mut self,
        repaired: &mut Repaired,
        pods: &[PodRoute],
        services: Option<u32>,
        device: Option<u32>,
        present: &[Route],
    ) -> Result<(), HostNetError> {
        let mut wanted = compile_routes(&self.ranges, pods, services, self.mtu);
        wanted.extend(self.network.iter().flat_map(|network| network.routes(device)));
        let mut routes = diff_routes(&wanted, present);
        if self.network.is_none() {
            // Of ours only those to other nodes have a next hop.
            routes.remove.retain(|route| route.via.is_none());
        }
        // What is stale goes first where it stands in the way: two IPv4 routes differ by more than their destination, or not at all.
        let remove = routes.remove.iter().map(Request::remove_route);
        let requests = remove.chain(routes.add.iter().map(Request::replace_route)).collect();
        repaired.added.extend(routes.add.iter().map(ToString::to_string));
        repaired.removed.extend(routes.remove.iter().map(ToString::to_string));
        self.rtnl.send(requests).map_err(|source| HostNetError::Change { what: "set the node's routes", source })
    }
}

/// The link, or why there is none.
fn or_failed(link: Result<Option<u32>, HostNetError>) -> (Option<u32>, Option<HostNetError>) {
    match link {
        Ok(link) => (link, None),
        Err(error) => (None, Some(error)),
    }
}

/// How packets leave by a route; `None` where it leads to this host itself, to pods, or nowhere.
fn hop(route: &Route, links: &[Link]) -> Option<Hop> {
    let link = links.iter().find(|link| route.link == Some(link.index))?;
    let is_ours = [VXLAN_LINK, SERVICE_LINK].contains(&link.name.as_str()) || LinkName::parse(&link.name).is_some();
    let leaves = route.kind == RouteKind::Unicast && !link.loopback && !is_ours;
    // What a default route without a next hop leads to is at the far end of a tunnel or dial-up link, not known to be on it.
    let on_link = route.via.is_none() && route.destination.prefix_len() > 0;
    let mtu = route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
    leaves.then_some(Hop { link: link.index, on_link, mtu })
}

/// Every address of this machine's own.
///
/// # Errors
/// They cannot be listed.
pub fn local_addresses() -> Result<BTreeSet<IpAddr>, HostNetError> {
    let all = Rtnl::open()?.addresses(None).map_err(HostNetError::List)?;
    Ok(all.into_iter().map(|address| address.net.addr()).collect())
}

/// The addresses of this node by which others know it, where none were given: those of the uplinks, else any that is valid everywhere; one
/// per family, IPv4 first.
///
/// # Errors
/// Links or routes cannot be listed.
pub fn observe_node_addresses() -> Result<Vec<IpAddr>, HostNetError> {
    let mut rtnl = Rtnl::open()?;
    let mut found = Vec::new();
    for family in IpFamily::ALL {
        let routes = rtnl.routes(family).map_err(HostNetError::List)?;
        let uplinks: Vec<u32> = crate::links::uplinks(&routes).collect();
        let mut addresses = rtnl.addresses(Some(family)).map_err(HostNetError::List)?;
        addresses.retain(|a| a.scope == 0 && !a.net.addr().is_loopback() && a.protocol != ROUTE_PROTOCOL);
        addresses.sort_by_key(|address| !uplinks.contains(&address.link));
        found.extend(addresses.first().map(|address| address.net.addr()));
    }
    Ok(found)
}

/// Whether the ranges can be used on this host; changes nothing.
///
/// # Errors
/// As [`HostNet::open`].
pub fn check_ranges(state_dir: &Path, ranges: &Ranges) -> Result<(), HostNetError> {
    let mut rtnl = Rtnl::open()?;
    let own = OwnFile::open(&state_dir.join(ADDRESSES_FILE))?;
    let available = available_families();
    let ranges = restrict(ranges, &available)?;
    let routes = list_routes(&mut rtnl, &available)?;
    judge_ranges(&mut rtnl, &ranges, &routes, &own)
}

fn judge_ranges(rtnl: &mut Rtnl, ranges: &Ranges, routes: &[Route], own: &OwnFile) -> Result<(), HostNetError> {
    let present = rtnl.addresses(None).map_err(HostNetError::List)?;
    let links = rtnl.links().map_err(HostNetError::List)?;
    let device = links.iter().find(|link| link.name == VXLAN_LINK).map(|link| link.index);
    let is_given = |a: &&LinkAddress| own_addresses::is_ours(a, &own.addresses) || Some(a.link) == device;
    let given = present.iter().filter(is_given).map(|a| a.net.addr());
    Ok(check_overlap(ranges, routes, &given.collect::<Vec<_>>(), &links)?)
}

/// The families that this host has, IPv4 first.
#[must_use]
pub fn available_families() -> Vec<IpFamily> {
    IpFamily::ALL.into_iter().filter(|family| forwarding::is_available(*family)).collect()
}

fn list_routes(rtnl: &mut Rtnl, families: &[IpFamily]) -> Result<Vec<Route>, HostNetError> {
    let mut routes = Vec::new();
    for &family in families {
        routes.extend(rtnl.routes(family).map_err(HostNetError::List)?);
    }
    Ok(routes)
}

fn restrict(ranges: &Ranges, families: &[IpFamily]) -> Result<Ranges, HostNetError> {
    let there = |range: &&IpNet| families.contains(&IpFamily::of(range.addr()));
    let keep = |list: &[IpNet]| list.iter().filter(there).copied().collect::<Vec<_>>();
    let kept = Ranges { node: keep(&ranges.node), cluster: keep(&ranges.cluster), services: keep(&ranges.services) };
    match (kept.node.first(), ranges.node.first()) {
        (None, Some(&range)) => Err(HostNetError::NoFamily { family: IpFamily::of(range.addr()), range }),
        _ => Ok(kept),
    }
}
