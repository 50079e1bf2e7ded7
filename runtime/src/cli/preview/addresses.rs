//! Addresses for pods that have none yet, so that what policies say of them can be asked. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use minipod_model::{IpFamily, PodKey};
use netd_policy::Cluster;

/// Gives every pod that will have a network of its own and has no address an unused one of each family, out of the nodes' pod ranges: the
/// same before and after.
pub(super) fn assume(before: &mut Cluster, after: &mut Cluster) {
    let used: BTreeSet<IpAddr> = after.pods.values().flat_map(|pod| &pod.addresses).copied().collect();
    let own: BTreeSet<IpAddr> = after.nodes.values().flat_map(|node| &node.addresses).copied().collect();
    let ranges = after.nodes.values().flat_map(|node| &node.pod_cidrs).filter_map(|range| range.parse::<IpNet>().ok());
    let ranges: Vec<IpNet> = ranges.collect();
    let free = |family: IpFamily| {
        let of_family = ranges.iter().filter(move |range| IpFamily::of(range.addr()) == family);
        of_family.flat_map(IpNet::hosts).filter(|address| !used.contains(address) && !own.contains(address))
    };
    let mut free = IpFamily::ALL.map(free);
    let nowhere: Vec<PodKey> = after
        .pods
        .values()
        .filter(|pod| !pod.host_network && !pod.finished && pod.addresses.is_empty())
        .map(|pod| pod.key.clone())
        .collect();
    for pod in nowhere {
        let addresses: Vec<IpAddr> = free.iter_mut().filter_map(Iterator::next).collect();
        for cluster in [&mut *before, &mut *after] {
            if let Some(pod) = cluster.pods.get_mut(&pod) {
                pod.addresses.clone_from(&addresses);
            }
        }
    }
}
