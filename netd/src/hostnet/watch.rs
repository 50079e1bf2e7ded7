//! Notices that others changed links, addresses or routes: systemd-networkd, DHCP clients and people take away what is
//! ours. What is ours is then repaired at once instead of at the next look.

use std::time::Duration;

use ipnet::IpNet;
use minipod_kernel::netlink::{NetworkChange, NetworkChanges};
use minipod_model::LinkName;
use minipod_model::defaults::ROUTE_PROTOCOL;
use tokio::time::{Instant, sleep, timeout_at};

use crate::routes::Ranges;

/// How long nothing may change before it is said: who takes one route away often takes more.
const QUIET: Duration = Duration::from_millis(100);
/// How long it is not said at most.
const LATEST: Duration = Duration::from_secs(1);
/// How long nothing is said after that: who takes away what is repaired, again and again, keeps us from nothing else.
const PAUSE: Duration = Duration::from_millis(500);

/// Calls `tell` after changes that may concern what is ours, once for those that follow each other closely. Ends when the kernel
/// tells no more, or nobody listens.
pub async fn watch_changes(mut changes: NetworkChanges, ranges: Ranges, tell: impl Fn() -> bool) {
    while let Some(change) = changes.next().await {
        if !may_concern_us(&change, &ranges) {
            continue;
        }
        settle(&mut changes, &ranges).await;
        if !tell() {
            return;
        }
        sleep(PAUSE).await;
    }
    tracing::warn!("the kernel tells no more of changed links and routes; what is lost is found by the next look");
}

/// Waits until nothing that concerns us changes any more, but not for ever.
async fn settle(changes: &mut NetworkChanges, ranges: &Ranges) {
    let latest = Instant::now() + LATEST;
    let mut quiet = Instant::now() + QUIET;
    while let Ok(Some(change)) = timeout_at(quiet.min(latest), changes.next()).await {
        if may_concern_us(&change, ranges) {
            quiet = Instant::now() + QUIET;
        }
    }
}

/// Whether something of ours may be missing or different after this change. What we add ourselves, for each pod, does not count. Pure.
fn may_concern_us(change: &NetworkChange, ranges: &Ranges) -> bool {
    match change {
        NetworkChange::Link { name, up } => !(*up && LinkName::parse(name).is_some()),
        NetworkChange::Address | NetworkChange::Lost => true,
        NetworkChange::Route { protocol: ROUTE_PROTOCOL, present, .. } => !present,
        // The default route decides the MTU; a route of others inside our ranges may stand in the place of one of ours.
        NetworkChange::Route { destination, .. } => destination.prefix_len() == 0 || is_within(ranges, destination),
    }
}

fn is_within(ranges: &Ranges, destination: &IpNet) -> bool {
    let mut all = ranges.node.iter().chain(&ranges.cluster).chain(&ranges.services);
    all.any(|range| range.contains(destination))
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use minipod_kernel::netlink::NetworkChange;

    use super::may_concern_us;
    use crate::routes::Ranges;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    #[track_caller]
    fn check(change: &NetworkChange, expected: bool) {
        let ranges = Ranges {
            node: vec![net("10.244.0.0/24"), net("fd00:10:244::/64")],
            cluster: vec![net("10.244.0.0/16"), net("fd00:10:244::/48")],
            services: vec![net("10.96.0.0/16")],
        };
        assert_eq!(may_concern_us(change, &ranges), expected, "{change:?}");
    }

    fn link(name: &str, up: bool) -> NetworkChange {
        NetworkChange::Link { name: name.into(), up }
    }

    fn route(destination: &str, protocol: u8, present: bool) -> NetworkChange {
        NetworkChange::Route { destination: net(destination), protocol, present }
    }

    #[test]
    fn what_an_attach_does_concerns_nobody() {
        check(&link("mpod0123456789a", true), false);
        check(&route("10.244.0.2/32", 109, true), false);
        check(&route("fd00:10:244::2/128", 109, true), false);
    }

    #[test]
    fn what_is_taken_away_concerns_us() {
        check(&link("mpod0123456789a", false), true);
        check(&link("minipod-svc", false), true);
        check(&route("10.244.0.2/32", 109, false), true);
        check(&NetworkChange::Address, true);
        check(&NetworkChange::Lost, true);
    }

    #[test]
    fn of_others_routes_only_those_that_may_stand_in_our_way_concern_us() {
        check(&route("0.0.0.0/0", 16, true), true);
        check(&route("10.244.0.7/32", 4, true), true);
        check(&route("10.96.3.0/24", 4, false), true);
        check(&route("192.0.2.0/24", 2, true), false);
        check(&route("fe80::/64", 2, true), false);
    }

    #[test]
    fn an_uplink_concerns_us() {
        check(&link("eth0", true), true);
    }
}
