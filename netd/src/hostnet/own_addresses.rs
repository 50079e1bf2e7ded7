//! The addresses that the node itself gets from us: the cluster DNS on the loopback device, and an address out of its own range where
//! it has none at all.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use minipod_kernel::file::{Durability, ensure_removed, read_if_present, write_atomically};
use minipod_kernel::netlink::{AddressFlag, LinkAddress, Request};
use minipod_model::IpFamily;
use minipod_model::defaults::ROUTE_PROTOCOL;
use minipod_model::range::node_address;

use super::HostNetError;
use crate::routes::LOOPBACK;

/// `RT_SCOPE_UNIVERSE`
const EVERYWHERE: u8 = 0;

/// An address that the node must have on its loopback device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnAddress {
    pub(super) net: IpNet,
    pub(super) flag: AddressFlag,
}

/// Pure: the addresses that the loopback device must have. A node without an address of a family would send to its pods from none.
pub(super) fn compute(
    dns: &[IpAddr],
    ranges: &[IpNet],
    families: &[IpFamily],
    present: &[LinkAddress],
    ours: &BTreeSet<IpAddr>,
) -> Vec<OwnAddress> {
    let mut wanted: Vec<OwnAddress> = dns
        .iter()
        .filter(|address| families.contains(&IpFamily::of(**address)))
        .map(|&address| OwnAddress { net: address.into(), flag: AddressFlag::NeverSource })
        .collect();
    for range in ranges {
        let family = IpFamily::of(range.addr());
        let usable = |address: &LinkAddress| {
            IpFamily::of(address.net.addr()) == family
                && address.scope == EVERYWHERE
                && !address.net.addr().is_loopback()
                && !is_ours(address, ours)
        };
        if families.contains(&family) && !present.iter().any(usable) {
            wanted.push(OwnAddress { net: node_address(*range).into(), flag: AddressFlag::Ordinary });
        }
    }
    wanted
}

pub(super) fn is_ours(address: &LinkAddress, ours: &BTreeSet<IpAddr>) -> bool {
    address.link == LOOPBACK && (address.protocol == ROUTE_PROTOCOL || ours.contains(&address.net.addr()))
}

/// What has to change: additions, then removals of what is ours and no longer wanted.
pub(super) fn changes(wanted: &[OwnAddress], present: &[LinkAddress], ours: &BTreeSet<IpAddr>) -> Vec<Request> {
    let there = |net: IpNet| present.iter().any(|address| address.link == LOOPBACK && address.net == net);
    let missing = wanted.iter().filter(|own| !there(own.net));
    let stale = present.iter().filter(|address| is_ours(address, ours) && !wanted.iter().any(|w| w.net == address.net));
    missing
        .map(|own| Request::add_address(LOOPBACK, own.net, own.flag, ROUTE_PROTOCOL))
        .chain(stale.map(|address| Request::remove_address(LOOPBACK, address.net)))
        .collect()
}

/// The addresses that we gave the node, for kernels that do not remember who did (before 5.18).
#[derive(Debug)]
pub(super) struct OwnFile {
    path: PathBuf,
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl OwnFile {
    pub(super) fn open(path: &Path) -> Result<Self, HostNetError> {
        let failed = |source| HostNetError::File { verb: "read", path: path.to_owned(), source };
        let addresses = match read_if_present(path).map_err(failed)? {
            Some(contents) => serde_json::from_slice(&contents).map_err(|error| failed(error.into()))?,
            None => BTreeSet::new(),
        };
        Ok(Self { path: path.to_owned(), addresses })
    }

    /// Written before the kernel is changed.
    pub(super) fn note(&mut self, wanted: &[OwnAddress]) -> Result<(), HostNetError> {
        let before = self.addresses.len();
        self.addresses.extend(wanted.iter().map(|own| own.net.addr()));
        if self.addresses.len() == before {
            return Ok(());
        }
        let failed = |source| HostNetError::File { verb: "write", path: self.path.clone(), source };
        let contents = serde_json::to_vec(&self.addresses).map_err(|error| failed(error.into()))?;
        write_atomically(&self.path, &contents, Durability::Durable).map_err(failed)
    }

    pub(super) fn remove(self) -> Result<(), HostNetError> {
        ensure_removed(&self.path).map_err(|source| HostNetError::File { verb: "remove", path: self.path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use minipod_kernel::netlink::LinkAddress;
    use minipod_model::IpFamily;

    use super::{changes, compute};

    fn address(link: u32, net: &str, protocol: u8) -> LinkAddress {
        LinkAddress { link, net: net.parse().expect("a network"), protocol, scope: 0 }
    }

    #[test]
    fn a_node_without_an_address_gets_one_of_its_own_range() {
        let dns = ["10.96.0.10", "fd00:10:96::a"].map(|a| a.parse().expect("an address"));
        let ranges = ["10.244.0.0/24", "fd00:10:244::/64"].map(|r| r.parse().expect("a range"));
        let nets = |present: &[LinkAddress], families: &[IpFamily]| {
            let wanted = compute(&dns, &ranges, families, present, &BTreeSet::new());
            wanted.iter().map(|own| own.net.to_string()).collect::<Vec<_>>()
        };
        let uplink = address(2, "192.0.2.7/24", 0);
        let own = address(1, "10.244.0.1/32", 109);
        let all = ["10.96.0.10/32", "fd00:10:96::a/128", "10.244.0.1/32", "fd00:10:244::1/128"];
        assert_eq!(nets(&[], &IpFamily::ALL), all);
        assert_eq!(nets(std::slice::from_ref(&own), &IpFamily::ALL), all, "the one that we gave it does not count");
        assert_eq!(nets(std::slice::from_ref(&uplink), &[IpFamily::V4]), ["10.96.0.10/32"]);
        let wanted = compute(&dns, &ranges, &[IpFamily::V4], &[uplink.clone(), own.clone()], &BTreeSet::new());
        assert_eq!(changes(&wanted, &[uplink, own], &BTreeSet::new()).len(), 2, "one to add, one to remove");
    }
}
