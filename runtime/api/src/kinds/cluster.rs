//! What holds for the whole cluster and objects are judged by: the ranges of cluster IPs.

use std::net::IpAddr;

use ipnet::IpNet;
use minipod_model::IpFamily;
use minipod_model::defaults::CLUSTER_DNS_OFFSET;

/// The service ranges, one per family at most; the first is preferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    ranges: Vec<IpNet>,
}

impl Cluster {
    /// # Errors
    /// What is wrong with the ranges.
    pub(crate) fn new(ranges: &[IpNet]) -> Result<Self, &'static str> {
        let families: Vec<_> = ranges.iter().map(|range| IpFamily::of(range.addr())).collect();
        match families.as_slice() {
            [] => return Err("there is none"),
            [_] => {}
            [a, b] if a != b => {}
            _ => return Err("there are two of one family"),
        }
        if ranges.iter().any(|range| range.max_prefix_len() - range.prefix_len() < 5) {
            return Err("a range has fewer than 32 addresses");
        }
        Ok(Self { ranges: ranges.iter().map(IpNet::trunc).collect() })
    }

    /// The families of the cluster, the preferred one first.
    pub(crate) fn families(&self) -> impl Iterator<Item = IpFamily> {
        self.ranges.iter().map(|range| IpFamily::of(range.addr()))
    }

    /// The range of a family.
    pub(crate) fn range(&self, family: IpFamily) -> Option<IpNet> {
        self.ranges.iter().copied().find(|range| IpFamily::of(range.addr()) == family)
    }

    /// The addresses of the cluster DNS, the preferred family first.
    pub(crate) fn dns_addresses(&self) -> Vec<IpAddr> {
        self.ranges.iter().map(|range| nth(*range, CLUSTER_DNS_OFFSET)).collect()
    }
}

/// The address at `offset` of a range that is known to be long enough.
pub(crate) fn nth(range: IpNet, offset: u32) -> IpAddr {
    match range.network() {
        IpAddr::V4(base) => IpAddr::V4((u32::from(base).saturating_add(offset)).into()),
        IpAddr::V6(base) => IpAddr::V6((u128::from(base).saturating_add(offset.into())).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::Cluster;

    #[test]
    fn ranges_are_one_per_family() {
        let cluster = |ranges: &[&str]| Cluster::new(&ranges.iter().filter_map(|r| r.parse().ok()).collect::<Vec<_>>());
        let both = cluster(&["10.96.0.0/16", "fd00:10:96::/112"]).map(|c| c.dns_addresses());
        assert_eq!(
            both.map(|a| a.iter().map(ToString::to_string).collect::<Vec<_>>()),
            Ok(vec!["10.96.0.10".to_owned(), "fd00:10:96::a".to_owned()])
        );
        assert!(cluster(&[]).is_err());
        assert!(cluster(&["10.96.0.0/16", "10.97.0.0/16"]).is_err());
        assert!(cluster(&["10.96.0.0/28"]).is_err());
    }
}
