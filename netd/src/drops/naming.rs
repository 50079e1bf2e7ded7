//! Whose a dropped packet was, and which policies dropped it, by what is known at that moment. Pure.

use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use minipod_kernel::netlink::LoggedPacket;
use minipod_protocol::drops::{Dropped, End, Reason};
use netd_dataplane::spec::Reason as Told;
use netd_policy::evaluate::{Decision, verdict};
use netd_policy::{Cluster, Packet, Transport};

use super::header::Header;

/// The packet as people know it; `None` for one that no rule of ours told of.
pub(crate) fn named(cluster: &Cluster, packet: &LoggedPacket, now: Timestamp) -> Option<Dropped> {
    let reason = match Told::of_prefix(&packet.prefix)? {
        Told::Egress => Reason::Egress,
        Told::Ingress => Reason::Ingress,
        Told::Cut => Reason::Cut,
        Told::Spoofed => Reason::Spoofed,
    };
    let header = Header::parse(&packet.bytes)?;
    let (from, to) = header.ports.unzip();
    let end = |address, port| End { address, port, pod: pod_at(cluster, address) };
    let (pod, policies) = match reason {
        Reason::Spoofed => (sender(cluster, packet), Vec::new()),
        _ => deciding(cluster, &header, reason),
    };
    Some(Dropped {
        time: format!("{now:.3}"),
        reason,
        source: end(header.source, from),
        destination: end(header.destination, to),
        protocol: header.protocol_name(),
        pod,
        policies,
    })
}

/// The pod behind the interface by which it came.
fn sender(cluster: &Cluster, packet: &LoggedPacket) -> Option<String> {
    let interface = packet.interface.as_ref()?;
    let mut attachments = cluster.attachments.iter();
    attachments.find(|(link, _)| link.as_str() == interface).map(|(_, attachment)| attachment.pod.to_string())
}

/// The pod and the policies that deny the packet.
fn deciding(cluster: &Cluster, header: &Header, reason: Reason) -> (Option<String>, Vec<String>) {
    let transport = |port: fn((u16, u16)) -> u16| match (header.protocol(), header.ports) {
        (Some(protocol), Some(ports)) => Transport::Port(protocol, port(ports)),
        _ => Transport::Other,
    };
    let (source, destination) = (header.source, header.destination);
    let there = verdict(cluster, &Packet { source, destination, transport: transport(|(_, to)| to) });
    let decisions = match reason {
        Reason::Egress => vec![there.egress],
        Reason::Ingress => vec![there.ingress],
        // Of a connection that was cut any packet is told of, also an answer.
        Reason::Cut | Reason::Spoofed => {
            let answers = Packet { source: destination, destination: source, transport: transport(|(from, _)| from) };
            let back = verdict(cluster, &answers);
            vec![there.egress, there.ingress, back.egress, back.ingress]
        }
    };
    decisions.into_iter().find_map(denied).unwrap_or_else(|| {
        // Something has changed since.
        let pod = match reason {
            Reason::Egress => pod_at(cluster, source),
            Reason::Ingress => pod_at(cluster, destination),
            Reason::Cut | Reason::Spoofed => None,
        };
        (pod, Vec::new())
    })
}

fn denied(decision: Decision) -> Option<(Option<String>, Vec<String>)> {
    match decision {
        Decision::Denied { pod, by } => Some((Some(pod.to_string()), by.iter().map(ToString::to_string).collect())),
        Decision::NotDns { pod } | Decision::NotANode { pod } | Decision::Unknown { pod } => {
            Some((Some(pod.to_string()), Vec::new()))
        }
        _ => None,
    }
}

/// The pod that has the address. Interfaces of this node are believed before any status.
fn pod_at(cluster: &Cluster, address: IpAddr) -> Option<String> {
    let here = cluster.attachments.values().find(|attachment| attachment.addresses.contains(&address));
    let elsewhere = || {
        let has =
            |pod: &&netd_policy::object::Pod| !pod.host_network && !pod.finished && pod.addresses.contains(&address);
        cluster.pods.values().find(has)
    };
    here.map(|attachment| attachment.pod.to_string()).or_else(|| elsewhere().map(|pod| pod.key.to_string()))
}
