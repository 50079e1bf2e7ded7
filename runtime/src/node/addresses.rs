//! Ranges and addresses that follow from the settings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use minipod_model::IpFamily;
use minipod_model::defaults::CLUSTER_DNS_OFFSET;

use super::options::Settings;

/// The cluster's pod ranges, IPv4 first.
pub(super) fn cluster_cidrs(settings: &Settings) -> Vec<IpNet> {
    settings.cluster_v4.map(IpNet::V4).into_iter().chain(settings.cluster_v6.map(IpNet::V6)).collect()
}

/// The settings without the service range of a family that the host does not have: nobody would serve such a cluster IP, and
/// nobody answer on such a DNS address. Pod ranges stay: the node's belongs to it for good, also for the day when the host has the
/// family (again). Where no range would be left, netd says so.
pub(super) fn of_host(settings: Settings, available: &[IpFamily]) -> Settings {
    let has = |family| available.contains(&family);
    let v4 = settings.service_v4.filter(|_| has(IpFamily::V4));
    let v6 = settings.service_v6.filter(|_| has(IpFamily::V6));
    if v4.is_none() && v6.is_none() {
        return settings;
    }
    Settings { service_v4: v4, service_v6: v6, ..settings }
}

/// The ranges of cluster IPs, IPv4 first.
pub(super) fn service_cidrs(settings: &Settings) -> Vec<IpNet> {
    settings.service_v4.map(IpNet::V4).into_iter().chain(settings.service_v6.map(IpNet::V6)).collect()
}

/// The cluster DNS: the tenth address of each service range.
pub(super) fn cluster_dns(settings: &Settings) -> Vec<IpAddr> {
    let v4 = settings.service_v4.map(|net| u32::from(net.network()).saturating_add(CLUSTER_DNS_OFFSET));
    let v6 = settings.service_v6.map(|net| u128::from(net.network()).saturating_add(CLUSTER_DNS_OFFSET.into()));
    v4.map(|bits| Ipv4Addr::from(bits).into()).into_iter().chain(v6.map(|bits| Ipv6Addr::from(bits).into())).collect()
}

#[cfg(test)]
mod tests {
    use minipod_model::IpFamily;

    use super::{cluster_cidrs, cluster_dns, of_host, service_cidrs};
    use crate::node::options::tests::options;

    #[track_caller]
    fn check(args: &[&str], available: &[IpFamily], services: &[&str], dns: &[&str]) {
        let settings = options(args).check("n1").expect("options that work");
        let pods = cluster_cidrs(&settings);
        let settings = of_host(settings, available);
        assert_eq!(service_cidrs(&settings).iter().map(ToString::to_string).collect::<Vec<_>>(), services);
        assert_eq!(cluster_dns(&settings).iter().map(ToString::to_string).collect::<Vec<_>>(), dns);
        assert_eq!(cluster_cidrs(&settings), pods, "the node's own ranges are remembered");
    }

    #[test]
    fn a_family_that_the_host_does_not_have_has_no_cluster_ips_and_no_dns() {
        let (v4, v6) = (["10.96.0.0/16", "10.96.0.10"], ["fd00:10:96::/112", "fd00:10:96::a"]);
        check(&[], &IpFamily::ALL, &[v4[0], v6[0]], &[v4[1], v6[1]]);
        check(&[], &[IpFamily::V4], &[v4[0]], &[v4[1]]);
        check(&["--service-cidr", v6[0]], &[IpFamily::V4], &[v6[0]], &[v6[1]]);
    }
}
