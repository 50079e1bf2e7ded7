//! Putting the node's network back as it was: `minipod node reset`.

use std::path::Path;

use minipod_kernel::netlink::{Link, Request, Rtnl};
use minipod_kernel::sysctl::Journal;
use minipod_model::defaults::ROUTE_PROTOCOL;
use minipod_model::link::{SERVICE_LINK, VXLAN_LINK};
use minipod_model::{IpFamily, LinkName};

use super::own_addresses::{OwnFile, is_ours};
use super::{ADDRESSES_FILE, HostNetError, JOURNAL_FILE, dropins};

/// What was removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Removed {
    /// interfaces of pods
    pub links: usize,
    /// the VXLAN device and the interface for services
    pub node_links: usize,
    /// routes
    pub routes: usize,
    /// addresses of the loopback device
    pub addresses: usize,
    /// settings of the kernel
    pub settings: usize,
}

/// Removes every link, route and address of ours and gives changed settings their old values back. What is gone already is fine;
/// nothing that is not ours is touched. Rules and sets of the policies are removed elsewhere, before this.
///
/// # Errors
/// The first thing that stays; called again, it goes on.
pub fn remove_all(state_dir: &Path) -> Result<Removed, HostNetError> {
    let mut rtnl = Rtnl::open()?;
    let mut removed = Removed::default();
    let is_pods = |link: &&Link| LinkName::parse(&link.name).is_some();
    let is_nodes = |link: &&Link| [VXLAN_LINK, SERVICE_LINK].contains(&link.name.as_str());
    let present = rtnl.links().map_err(HostNetError::List)?;
    (removed.links, removed.node_links) =
        (present.iter().filter(is_pods).count(), present.iter().filter(is_nodes).count());
    let ours = present.iter().filter(|link| is_pods(link) || is_nodes(link));
    let links: Vec<u32> = ours.map(|link| link.index).collect();
    if !links.is_empty() {
        let what = "delete the interfaces of pods, of services and to other nodes";
        let failures = rtnl.remove_links(&links).map_err(|source| refused(what, source))?;
        if let Some(source) = failures.into_iter().next() {
            return Err(refused(what, source));
        }
    }
    let mut requests = Vec::new();
    for family in IpFamily::ALL {
        let routes = rtnl.routes(family).map_err(HostNetError::List)?;
        requests.extend(routes.iter().filter(|route| route.protocol == ROUTE_PROTOCOL).map(Request::remove_route));
    }
    removed.routes = requests.len();
    rtnl.send(requests).map_err(|source| refused("remove routes", source))?;
    let own = OwnFile::open(&state_dir.join(ADDRESSES_FILE))?;
    let addresses = rtnl.addresses(None).map_err(HostNetError::List)?;
    let requests: Vec<Request> = addresses
        .iter()
        .filter(|address| is_ours(address, &own.addresses))
        .map(|address| Request::remove_address(address.link, address.net))
        .collect();
    removed.addresses = requests.len();
    rtnl.send(requests).map_err(|source| refused("remove addresses from the loopback device", source))?;
    own.remove()?;
    let journal = Journal::open(&state_dir.join(JOURNAL_FILE))?;
    removed.settings = journal.changes().len();
    journal.restore()?;
    dropins::remove(Path::new("/"))?;
    Ok(removed)
}

fn refused(what: &'static str, source: minipod_kernel::netlink::RtnlError) -> HostNetError {
    HostNetError::Change { what, source }
}
