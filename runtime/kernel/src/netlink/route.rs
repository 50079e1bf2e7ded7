//! Links, addresses, routes and neighbours of one network namespace.
//!
//! Model: requests are values that know their own name; any number of them goes in one send, in order. Atomicity: each request is;
//! a send is not: the kernel goes on after a refusal. Threads: one caller at a time; the namespace is the one of the thread that opened it.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use minipod_model::IpFamily;
use netlink_packet_route::RouteNetlinkMessage;

use super::message::{Message, NLM_F_EXCL};
use super::packets::{self, Ipv4Setting};
use super::socket::{Failure, NetlinkError, Socket};
use super::types::{AddressFlag, Forwarding, Link, LinkAddress, Mac, Neighbour, Route, Vxlan};
use super::vxlan;

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

/// The group of links that are deleted together; nobody else's number, as far as one can tell: "mpod" in ASCII.
const DYING_GROUP: u32 = 0x6d70_6f64;

/// A request that the kernel refused, or a socket that failed.
#[derive(Debug, thiserror::Error)]
pub enum RtnlError {
    /// No socket.
    #[error(transparent)]
    Socket(#[from] NetlinkError),
    /// A refusal.
    #[error("cannot {what}")]
    Refused {
        /// the request in words: verb, thing, value
        what: String,
        /// the kernel's reason
        #[source]
        failure: Failure,
    },
}

impl RtnlError {
    /// The kernel's error number, if it is the kernel that refused.
    #[must_use]
    pub fn errno(&self) -> Option<nix::errno::Errno> {
        match self {
            Self::Refused { failure, .. } => Some(failure.errno()),
            Self::Socket(_) => None,
        }
    }

    /// Whether the kernel refused because the thing is there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(nix::errno::Errno::EEXIST)
    }

    /// Whether the kernel refused because it has nothing of the kind, perhaps for want of a module.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.errno() == Some(nix::errno::Errno::EOPNOTSUPP)
    }
}

/// One end of a veth pair.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// its name
    pub name: &'a str,
    /// its hardware address
    pub mac: Mac,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Request {
    message: Message,
    what: String,
    /// the error number that means that there is nothing left to do
    done: &'static [i32],
}

impl Request {
    /// A veth pair with `peer` created inside `namespace` and `host` here and up; nothing is ever moved between namespaces.
    #[must_use]
    pub fn add_veth(host: VethEnd<'_>, peer: VethEnd<'_>, mtu: u32, namespace: impl AsFd) -> Self {
        let message = packets::veth((host.name, host.mac), (peer.name, peer.mac), mtu, namespace.as_fd().as_raw_fd());
        Self::new(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            format_args!("create interface `{}` with `{}` in the pod", host.name, peer.name),
        )
    }

    /// A VXLAN device, switched off.
    #[must_use]
    pub fn add_vxlan(name: &str, mac: Mac, mtu: u32, vxlan: &Vxlan) -> Self {
        Self::new(
            RouteNetlinkMessage::NewLink(vxlan::device(name, mac, mtu, vxlan)),
            NLM_F_CREATE | NLM_F_EXCL,
            format_args!("create VXLAN interface `{name}` with {} port {} id {}", vxlan.local, vxlan.port, vxlan.id),
        )
    }

    /// A bridge without ports, switched off, that asks nobody for hardware addresses.
    #[must_use]
    pub fn add_bridge(name: &str) -> Self {
        let message = RouteNetlinkMessage::NewLink(packets::bridge(name));
        Self::new(message, NLM_F_CREATE | NLM_F_EXCL, format_args!("create bridge `{name}`"))
    }

    /// Sets the largest packet of a link, in bytes.
    #[must_use]
    pub fn set_mtu(link: u32, mtu: u32) -> Self {
        let message = RouteNetlinkMessage::SetLink(packets::link_with_mtu(link, mtu));
        Self::new(message, 0, format_args!("set the MTU of interface #{link} to {mtu}"))
    }

    /// Switches a link on.
    #[must_use]
    pub fn set_up(link: u32) -> Self {
        Self::new(RouteNetlinkMessage::SetLink(packets::link_up(link)), 0, format_args!("switch interface #{link} on"))
    }

    /// IPv4 settings of a link, and no IPv6 link-local address of its own making.
    #[must_use]
    pub fn configure(link: u32, settings: &[(Ipv4Setting, u32)], without_link_local: bool) -> Self {
        Self {
            message: packets::configure_link(link, settings, without_link_local),
            what: format!("configure interface #{link}"),
            done: &[],
        }
    }

    /// Deletes a link, and with it its peer, addresses, routes and neighbours; an absent one is fine.
    #[must_use]
    pub fn remove_link(link: u32) -> Self {
        let message = RouteNetlinkMessage::DelLink(packets::link_at(link));
        Self::new(message, 0, format_args!("delete interface #{link}")).done(&[libc::ENODEV])
    }

    fn set_group(link: u32, group: u32) -> Self {
        let message = RouteNetlinkMessage::SetLink(packets::link_in_group(link, group));
        Self::new(message, 0, format_args!("mark interface #{link} for deletion")).done(&[libc::ENODEV])
    }

    fn remove_group(group: u32) -> Self {
        let message = RouteNetlinkMessage::DelLink(packets::link_in_group(0, group));
        Self::new(message, 0, format_args!("delete the marked interfaces")).done(&[libc::ENODEV])
    }

    /// Gives a link an address, or keeps it.
    #[must_use]
    pub fn add_address(link: u32, net: IpNet, flag: AddressFlag, protocol: u8) -> Self {
        let message = packets::address(link, net, flag, protocol);
        Self::new(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            format_args!("add address {net} to interface #{link}"),
        )
    }

    /// Takes an address from a link; an absent one is fine.
    #[must_use]
    pub fn remove_address(link: u32, net: IpNet) -> Self {
        let message = packets::address(link, net, AddressFlag::Ordinary, 0);
        Self::new(
            RouteNetlinkMessage::DelAddress(message),
            0,
            format_args!("remove address {net} from interface #{link}"),
        )
        .done(&[libc::EADDRNOTAVAIL, libc::ENODEV])
    }

    /// Adds a route; one to the same destination is refused.
    #[must_use]
    pub fn add_route(route: &Route) -> Self {
        let message = RouteNetlinkMessage::NewRoute(packets::route(route));
        Self::new(message, NLM_F_CREATE | NLM_F_EXCL, format_args!("add route {route}"))
    }

    /// Adds a route in place of one to the same destination with the same metric.
    #[must_use]
    pub fn replace_route(route: &Route) -> Self {
        let message = RouteNetlinkMessage::NewRoute(packets::route(route));
        Self::new(message, NLM_F_CREATE | NLM_F_REPLACE, format_args!("set route {route}"))
    }

    /// Removes a route; an absent one is fine.
    #[must_use]
    pub fn remove_route(route: &Route) -> Self {
        let message = RouteNetlinkMessage::DelRoute(packets::route(route));
        Self::new(message, 0, format_args!("remove route {route}")).done(&[libc::ESRCH, libc::ENODEV])
    }

    /// Sets a neighbour that never expires.
    #[must_use]
    pub fn set_neighbour(link: u32, address: IpAddr, mac: Mac) -> Self {
        let message = RouteNetlinkMessage::NewNeighbour(packets::neighbour(link, address, mac));
        Self::new(
            message,
            NLM_F_CREATE | NLM_F_REPLACE,
            format_args!("set neighbour {address} at {mac} on interface #{link}"),
        )
    }

    /// Removes a neighbour; an absent one is fine.
    #[must_use]
    pub fn remove_neighbour(link: u32, address: IpAddr) -> Self {
        let message = RouteNetlinkMessage::DelNeighbour(packets::neighbour(link, address, Mac([0; 6])));
        Self::new(message, 0, format_args!("remove neighbour {address} from interface #{link}"))
            .done(&[libc::ENOENT, libc::ENODEV])
    }

    /// Tells a VXLAN device behind which address of the underlay a hardware address is, for ever.
    #[must_use]
    pub fn set_forwarding(link: u32, entry: &Forwarding) -> Self {
        let message = RouteNetlinkMessage::NewNeighbour(vxlan::forwarding(link, entry));
        let what = format_args!("set {} behind {} on interface #{link}", entry.mac, entry.to);
        Self::new(message, NLM_F_CREATE | NLM_F_REPLACE, what)
    }

    /// Takes that back; an absent entry is fine.
    #[must_use]
    pub fn remove_forwarding(link: u32, entry: &Forwarding) -> Self {
        let message = RouteNetlinkMessage::DelNeighbour(vxlan::forwarding(link, entry));
        let what = format_args!("remove {} behind {} from interface #{link}", entry.mac, entry.to);
        Self::new(message, 0, what).done(&[libc::ENOENT, libc::ENODEV])
    }

    fn new(message: RouteNetlinkMessage, flags: u16, what: fmt::Arguments<'_>) -> Self {
        Self { message: Message::of(message, flags), what: what.to_string(), done: &[] }
    }

    fn done(mut self, errors: &'static [i32]) -> Self {
        self.done = errors;
        self
    }
}

/// See the module.
#[derive(Debug)]
pub struct Rtnl(Socket);

impl Rtnl {
    /// Opens a socket in the current thread's network namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Open`]
    pub fn open() -> Result<Self, NetlinkError> {
        Socket::open(netlink_sys::protocols::NETLINK_ROUTE).map(Self)
    }

    /// Sends all requests in one system call (or few).
    ///
    /// # Errors
    /// The first refusal in order; requests after it were tried nevertheless.
    pub fn send(&mut self, requests: Vec<Request>) -> Result<(), RtnlError> {
        let mut failures = self.try_each(requests)?;
        if failures.is_empty() { Ok(()) } else { Err(failures.remove(0)) }
    }

    /// The same, with every refusal.
    ///
    /// # Errors
    /// The socket fails.
    pub fn try_each(&mut self, requests: Vec<Request>) -> Result<Vec<RtnlError>, RtnlError> {
        let (mut messages, rest): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|request| (request.message, (request.what, request.done))).unzip();
        let outcomes = self.0.transact(&mut messages)?;
        Ok(outcomes
            .into_iter()
            .zip(rest)
            .filter_map(|(outcome, (what, done))| {
                let failure = outcome.err()?;
                (!done.contains(&failure.errno)).then_some(RtnlError::Refused { what, failure })
            })
            .collect())
    }

    /// Deletes links together, which costs the kernel hardly more than one of them. Absent ones are fine.
    ///
    /// # Errors
    /// The socket fails; refusals are returned.
    pub fn remove_links(&mut self, links: &[u32]) -> Result<Vec<RtnlError>, RtnlError> {
        if let [link] = links {
            return self.try_each(vec![Request::remove_link(*link)]);
        }
        let mut requests: Vec<Request> = links.iter().map(|link| Request::set_group(*link, DYING_GROUP)).collect();
        requests.push(Request::remove_group(DYING_GROUP));
        self.try_each(requests)
    }

    /// The link of that name.
    ///
    /// # Errors
    /// The socket fails or the kernel refuses to look.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, RtnlError> {
        match self.0.query(packets::get_link(name), |received| packets::read_link(received.payload))? {
            Ok(link) => Ok(link),
            Err(failure) if failure.errno == libc::ENODEV => Ok(None),
            Err(failure) => Err(RtnlError::Refused { what: format!("look up interface `{name}`"), failure }),
        }
    }

    /// Waits until a link sends. The kernel activates the end of a pair that was switched on first by a worker of its own
    /// (`net/core/link_watch.c`); until then it drops packets. Says whether it sends.
    ///
    /// # Errors
    /// The socket fails.
    pub fn wait_until_sending(&mut self, name: &str, patience: Duration) -> Result<bool, RtnlError> {
        wait(patience, || Ok(self.link(name)?.is_some_and(|link| link.sends)))
    }

    /// Waits until packets to an address of this host arrive. The kernel makes the route for an IPv6 address by a worker of its own
    /// (`addrconf_dad_work`), also without duplicate address detection. Says whether they do.
    ///
    /// # Errors
    /// The socket fails.
    pub fn wait_until_local(&mut self, address: IpAddr, patience: Duration) -> Result<bool, RtnlError> {
        wait(patience, || {
            let answer = self.0.query(packets::get_route(address), |r| packets::read_is_local(r.payload))?;
            Ok(answer.ok().flatten().unwrap_or(false))
        })
    }

    /// The route by which what this host sends to `address` leaves; `None` where there is none.
    ///
    /// # Errors
    /// The socket fails.
    pub fn route_to(&mut self, address: IpAddr) -> Result<Option<Route>, RtnlError> {
        let answer = self.0.query(packets::match_route(address), |r| packets::read_route(r.payload))?;
        // A refusal is the answer that nothing leads there.
        Ok(answer.ok().flatten())
    }

    /// All links.
    ///
    /// # Errors
    /// The socket fails.
    pub fn links(&mut self) -> Result<Vec<Link>, RtnlError> {
        self.list(&packets::list_links(), packets::read_link)
    }

    /// All addresses, of one family or of both.
    ///
    /// # Errors
    /// The socket fails.
    pub fn addresses(&mut self, family: Option<IpFamily>) -> Result<Vec<LinkAddress>, RtnlError> {
        self.list(&packets::list_addresses(family), packets::read_address)
    }

    /// The routes of a family in all tables.
    ///
    /// # Errors
    /// The socket fails.
    pub fn routes(&mut self, family: IpFamily) -> Result<Vec<Route>, RtnlError> {
        self.list(&packets::list_routes(family), packets::read_route)
    }

    /// The neighbours of a family.
    ///
    /// # Errors
    /// The socket fails.
    pub fn neighbours(&mut self, family: IpFamily) -> Result<Vec<Neighbour>, RtnlError> {
        self.list(&packets::list_neighbours(family), packets::read_neighbour)
    }

    /// The entries of a VXLAN device's forwarding database.
    ///
    /// # Errors
    /// The socket fails.
    pub fn forwardings(&mut self, link: u32) -> Result<Vec<Forwarding>, RtnlError> {
        let all = self.list(&vxlan::list_forwardings(), vxlan::read_forwarding)?;
        Ok(all.into_iter().filter(|(other, _)| *other == link).map(|(_, entry)| entry).collect())
    }

    fn list<T>(&mut self, request: &Message, read: fn(&[u8]) -> Option<T>) -> Result<Vec<T>, RtnlError> {
        Ok(self.0.dump(request, |found, received| found.extend(read(received.payload)))?)
    }
}

/// Asks until the answer is yes or `patience` is over.
fn wait(patience: Duration, mut ask: impl FnMut() -> Result<bool, RtnlError>) -> Result<bool, RtnlError> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(20);
    loop {
        if ask()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::park_timeout(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}
