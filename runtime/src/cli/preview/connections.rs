//! Which of the connections that there are would be cut. Pure.

use std::net::{IpAddr, SocketAddr};

use minipod_model::Protocol;
use minipod_protocol::judge::{OwnNode, Tracked};
use netd_policy::{Cluster, Packet, Transport};

use super::super::verdict::{because, judge};

/// A connection that is allowed and would be forbidden.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) tracked: Tracked,
    pub(super) because: String,
}

/// Those of the tracked connections that a change from `before` to `after` forbids.
pub(super) fn cut(tracked: &[Tracked], before: &Cluster, after: &Cluster, node: &OwnNode) -> Vec<Cut> {
    let mut cut: Vec<Cut> = tracked
        .iter()
        .filter_map(|tracked| {
            let packet = packet(tracked)?;
            let then = judge(after, &packet, node);
            let is_cut = judge(before, &packet, node).is_allowed() && !then.is_allowed();
            is_cut.then(|| Cut {
                from: end(after, node, packet.source, tracked.source_port),
                to: end(after, node, packet.destination, tracked.packet.port),
                tracked: tracked.clone(),
                because: because(&then),
            })
        })
        .collect();
    cut.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    cut
}

/// What no pod sent and what no policy knows is not judged.
fn packet(tracked: &Tracked) -> Option<Packet> {
    let transport = match (&tracked.packet.protocol, tracked.packet.port) {
        (Some(protocol), Some(port)) => Transport::Port(protocol.parse::<Protocol>().ok()?, port),
        _ => Transport::Other,
    };
    Some(Packet { source: tracked.packet.source, destination: tracked.packet.destination, transport })
}

/// `default/web (10.244.1.2:41234)`
fn end(cluster: &Cluster, node: &OwnNode, address: IpAddr, port: Option<u16>) -> String {
    let place = port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string());
    let mut pods = cluster.pods.values().filter(|pod| !pod.host_network && !pod.finished);
    match pods.find(|pod| pod.addresses.contains(&address)) {
        Some(pod) => format!("{} ({place})", pod.key),
        None if node.cluster_dns.contains(&address) => format!("cluster DNS ({place})"),
        None if node.addresses.contains(&address) => format!("this node ({place})"),
        None => place,
    }
}
