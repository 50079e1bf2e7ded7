//! Which routes this node must have, and whether a range collides with one that is there. Pure.
//!
//! Every route of ours carries protocol number 109. Beneath the host routes of the pods lie routes that refuse: what is sent to a
//! pod that does not exist is refused at once instead of leaving by the default route.
//!
//! A service address is translated in `nat OUTPUT` when the node itself dials it, but the kernel looks for a route before that. A
//! refusing route would end the attempt, and so would a host without a default route. Therefore the service ranges lead to an interface
//! with nobody behind it; after the translation the kernel looks again. What is not translated, of the node or of a pod, comes by that
//! route as far as the filter table, whose rules refuse it.

use std::net::IpAddr;

use ipnet::IpNet;
use minipod_kernel::netlink::{Link, MAIN_TABLE, Route, RouteKind};
use minipod_model::IpFamily;
use minipod_model::defaults::ROUTE_PROTOCOL;

/// The loopback device has this number in every namespace.
pub const LOOPBACK: u32 = 1;

/// What IPv6 makes of a route without a metric (`IP6_RT_PRIO_USER`).
const IPV6_METRIC: u32 = 1024;

/// The ranges of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    /// this node's pods
    pub node: Vec<IpNet>,
    /// all pods
    pub cluster: Vec<IpNet>,
    /// cluster IPs
    pub services: Vec<IpNet>,
}

/// A pod's way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodRoute {
    /// its address
    pub address: IpAddr,
    /// its link on the node
    pub link: u32,
}

/// A range that something else already routes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} `{range}` overlaps the existing route `{route}`{table}; choose another with `{flag}`, or remove the route"
)]
pub struct Overlap {
    /// what the range is for
    pub what: &'static str,
    /// the range
    pub range: IpNet,
    /// the route, as `ip route` prints it
    pub route: String,
    /// where it is, if not in the main table
    pub table: String,
    /// the flag that sets the range
    pub flag: &'static str,
}

/// The routes that must be there; those of the services lead to the link `services`, and are left out where there is none.
#[must_use]
pub fn compile_routes(ranges: &Ranges, pods: &[PodRoute], services: Option<u32>, mtu: u32) -> Vec<Route> {
    let refused = ranges.node.iter().chain(&ranges.cluster);
    let mut routes: Vec<Route> = refused.map(|range| normal(Route::unreachable(*range, ROUTE_PROTOCOL))).collect();
    let to_services = |(range, link): (&IpNet, u32)| normal(Route::to_link(*range, link, ROUTE_PROTOCOL)).mtu(mtu);
    routes.extend(ranges.services.iter().zip(services.into_iter().cycle()).map(to_services));
    routes.extend(pods.iter().map(|pod| pod_route(*pod)));
    routes.sort();
    routes.dedup();
    routes
}

/// The host route of a pod.
#[must_use]
pub fn pod_route(pod: PodRoute) -> Route {
    normal(Route::to_link(pod.address.into(), pod.link, ROUTE_PROTOCOL))
}

/// What has to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// missing
    pub add: Vec<Route>,
    /// ours and no longer wanted
    pub remove: Vec<Route>,
}

impl Change {
    /// Whether everything is as it must be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}

/// Compares routes; those of others are not looked at.
#[must_use]
pub fn diff_routes(wanted: &[Route], present: &[Route]) -> Change {
    let ours: Vec<&Route> = present.iter().filter(|route| route.protocol == ROUTE_PROTOCOL).collect();
    Change {
        add: wanted.iter().filter(|route| !ours.iter().any(|other| same(route, other))).cloned().collect(),
        remove: ours.into_iter().filter(|route| !wanted.iter().any(|other| same(other, route))).cloned().collect(),
    }
}

/// The first range that shares addresses with a route of someone else. `own` are addresses that we gave this host; `links` only
/// give the route's link its name.
pub fn check_overlap(ranges: &Ranges, present: &[Route], own: &[IpAddr], links: &[Link]) -> Result<(), Overlap> {
    let groups = [
        ("the service range", "--service-cidr", &ranges.services),
        ("the cluster's pod range", "--cluster-cidr", &ranges.cluster),
        ("this node's pod range", "--cluster-cidr", &ranges.node),
    ];
    for (what, flag, group) in groups {
        for range in group {
            if let Some(route) = present.iter().find(|route| collides(*range, route, own)) {
                let table =
                    if route.table == MAIN_TABLE { String::new() } else { format!(" of table {}", route.table) };
                return Err(Overlap { what, range: *range, route: describe(route, links), table, flag });
            }
        }
    }
    Ok(())
}

/// A route as `ip route` prints it.
fn describe(route: &Route, links: &[Link]) -> String {
    match links.iter().find(|link| route.link == Some(link.index)) {
        Some(link) => format!("{} dev {}", Route { link: None, ..route.clone() }, link.name),
        None => route.to_string(),
    }
}

fn collides(range: IpNet, route: &Route, own: &[IpAddr]) -> bool {
    let destination = route.destination;
    let ours = route.protocol == ROUTE_PROTOCOL
        || (destination.prefix_len() == destination.max_prefix_len() && own.contains(&destination.addr()));
    !ours && destination.prefix_len() > 0 && (range.contains(&destination) || destination.contains(&range))
}

/// As the kernel lists it.
pub(crate) fn normal(route: Route) -> Route {
    match route.family() {
        IpFamily::V4 => route,
        IpFamily::V6 => route.metric(IPV6_METRIC),
    }
}

/// IPv6 lists a refusing route with the loopback device.
fn same(wanted: &Route, listed: &Route) -> bool {
    let mut listed = listed.clone();
    if listed.kind == RouteKind::Unreachable {
        listed.link = None;
    }
    *wanted == listed
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use minipod_kernel::netlink::{Link, Route, RouteKind};

    use super::{PodRoute, Ranges, check_overlap, compile_routes, diff_routes};

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    fn ranges() -> Ranges {
        Ranges {
            node: vec![net("10.244.0.0/24"), net("fd00:10:244::/64")],
            cluster: vec![net("10.244.0.0/16"), net("fd00:10:244::/48")],
            services: vec![net("10.96.0.0/16"), net("fd00:10:96::/112")],
        }
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_stale_removed() {
        let pod = |text: &str, link| PodRoute { address: text.parse().expect("an address"), link };
        let before = compile_routes(&ranges(), &[pod("10.244.0.2", 7)], Some(3), 1500);
        let after = compile_routes(&ranges(), &[pod("10.244.0.3", 8), pod("fd00:10:244::3", 8)], Some(3), 1500);
        assert!(diff_routes(&before, &before).is_empty());
        let change = diff_routes(&after, &before);
        let texts = |routes: &[Route]| routes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&change.add), ["10.244.0.3/32 dev #8", "fd00:10:244::3/128 dev #8"]);
        assert_eq!(texts(&change.remove), ["10.244.0.2/32 dev #7"]);
        let foreign = Route::to_link(net("192.0.2.0/24"), 2, 2);
        assert!(diff_routes(&[], &[foreign]).is_empty(), "routes of others are left alone");
    }

    #[test]
    fn a_refusing_ipv6_route_is_recognised_as_the_kernel_lists_it() {
        let wanted = compile_routes(&ranges(), &[], Some(3), 1500);
        let mut listed = wanted.clone();
        for route in listed.iter_mut().filter(|r| r.kind == RouteKind::Unreachable && r.destination.addr().is_ipv6()) {
            route.link = Some(1);
        }
        assert!(diff_routes(&wanted, &listed).is_empty());
    }

    #[test]
    fn a_range_that_something_else_routes_is_refused_with_route_and_flag() {
        let check = |destination: &str, protocol| {
            let route = Route::to_link(net(destination), 2, protocol);
            let own = ["10.96.0.10".parse().expect("an address")];
            let links = [Link { index: 2, name: "eth0".to_owned(), ..Link::default() }];
            check_overlap(&ranges(), &[route], &own, &links).map_err(|e| e.to_string())
        };
        assert_eq!(check("192.0.2.0/24", 2), Ok(()));
        assert_eq!(check("0.0.0.0/0", 2), Ok(()));
        assert_eq!(check("10.244.0.0/16", 109), Ok(()), "ours");
        assert_eq!(check("10.96.0.10/32", 2), Ok(()), "our address");
        for within_or_around in ["10.244.7.0/24", "10.0.0.0/8", "10.96.0.11/32", "fd00::/16"] {
            assert!(check(within_or_around, 2).is_err(), "{within_or_around}");
        }
        assert_eq!(
            check("10.96.0.0/12", 2).expect_err("overlaps"),
            "the service range `10.96.0.0/16` overlaps the existing route `10.96.0.0/12 dev eth0`; choose another with \
             `--service-cidr`, or remove the route"
        );
    }
}
