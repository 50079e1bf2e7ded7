//! Ranges and addresses that follow from the settings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use minipod_model::defaults::CLUSTER_DNS_OFFSET;

use super::options::Settings;

/// The cluster's pod ranges, IPv4 first.
pub(super) fn cluster_cidrs(settings: &Settings) -> Vec<IpNet> {
    settings.cluster_v4.map(IpNet::V4).into_iter().chain(settings.cluster_v6.map(IpNet::V6)).collect()
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
