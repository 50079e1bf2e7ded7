//! What becomes of a packet: by the objects, with the policies that decide, and by what is installed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use minipod_model::{IpFamily, LinkName, Protocol};
use minipod_protocol::judge::{Decision, FirstPacket, Judgement, Kernel, OwnNode, RuleRef};
use minipod_protocol::netd::{Code, Error};
use netd_dataplane::interpret::{Origin, Packet as Walked, Route};
use netd_dataplane::{Inspection, VxlanFacts};
use netd_policy::evaluate::{self, verdict};
use netd_policy::{Cluster, Packet, Transport};

use super::Engine;
use crate::causes;
use crate::hostnet::{HostNetError, local_addresses};

/// ICMP echo request.
const ECHO: (u8, u8) = (8, 128);

impl Engine {
    /// Judgements, and where the kernel is not as it should be.
    pub(super) fn judge(&mut self, packets: &[FirstPacket]) -> Result<(Vec<Judgement>, Vec<String>), Error> {
        let refuse = |error: &dyn std::error::Error| Error {
            code: Code::Io,
            message: error.to_string(),
            details: causes(error),
        };
        let packets = packets.iter().map(read).collect::<Result<Vec<Packet>, Error>>()?;
        let inspection = self.dataplane.inspect().map_err(|error| refuse(&error))?;
        let addresses = local_addresses().map_err(|error| refuse(&error))?;
        let node = Node { addresses: &addresses, vxlan: self.facts.vxlan.as_ref() };
        let cluster = self.objects.index().cluster();
        let judgements = packets.iter().map(|packet| judge(cluster, packet, node, inspection.as_ref())).collect();
        let differences = match &inspection {
            Some(inspection) => inspection.differences().to_vec(),
            None => vec!["nothing has been installed yet".to_owned()],
        };
        Ok((judgements, differences))
    }

    /// The addresses of this node's pods, and what else is here.
    pub(super) fn here(&self) -> Result<(BTreeSet<IpAddr>, OwnNode), Error> {
        let refuse =
            |error: HostNetError| Error { code: Code::Io, message: error.to_string(), details: causes(&error) };
        let cluster = self.objects.index().cluster();
        let pods = cluster.attachments.values().flat_map(|attachment| &attachment.addresses).copied().collect();
        let node = OwnNode {
            addresses: local_addresses().map_err(refuse)?,
            cluster_dns: cluster.options.cluster_dns.clone(),
            pod_to_node: cluster.options.pod_to_node,
        };
        Ok((pods, node))
    }
}

/// What is where, beside pods of this node.
#[derive(Clone, Copy)]
struct Node<'a> {
    /// every address of the node's own
    addresses: &'a BTreeSet<IpAddr>,
    vxlan: Option<&'a VxlanFacts>,
}

impl Node<'_> {
    fn is_behind_vxlan(self, address: IpAddr) -> bool {
        self.vxlan.is_some_and(|vxlan| vxlan.ranges.iter().any(|range| range.contains(&address)))
    }
}

fn read(packet: &FirstPacket) -> Result<Packet, Error> {
    let refuse = |message: String| Error { code: Code::InvalidRequest, message, details: Vec::new() };
    let transport = match (&packet.protocol, packet.port) {
        (None, None) => Transport::Other,
        (Some(protocol), Some(port)) => {
            let known = Protocol::ALL.into_iter().find(|known| known.as_str() == protocol);
            let known = known.ok_or_else(|| refuse(format!("protocol `{protocol}`: use TCP, UDP or SCTP")))?;
            Transport::Port(known, port)
        }
        _ => return Err(refuse("a protocol and a port belong together".to_owned())),
    };
    if IpFamily::of(packet.source) != IpFamily::of(packet.destination) {
        let (source, destination) = (packet.source, packet.destination);
        return Err(refuse(format!("`{source}` and `{destination}` are of different address families")));
    }
    Ok(Packet { source: packet.source, destination: packet.destination, transport })
}

fn judge(cluster: &Cluster, packet: &Packet, node: Node<'_>, inspection: Option<&Inspection>) -> Judgement {
    let mut by_objects = verdict(cluster, packet);
    // What the node itself sends to its pods is not policed (ruling 7).
    let from_node = node.addresses.contains(&packet.source);
    if from_node && by_objects.ingress != evaluate::Decision::NoPod {
        by_objects.ingress = evaluate::Decision::OwnNode;
    }
    let here = |address: IpAddr| link_of(cluster, address);
    let expected = (here(packet.source).is_none() || by_objects.egress.is_allowed())
        && (here(packet.destination).is_none() || by_objects.ingress.is_allowed());
    let kernel = match inspection {
        // It never leaves the pod; what comes back to it through a service is let through wherever services are.
        Some(_) if packet.source == packet.destination => Kernel::Agrees,
        Some(inspection) if here(packet.source).is_some() || here(packet.destination).is_some() => {
            match (passes(cluster, packet, node, inspection), expected) {
                (true, false) => Kernel::LetsPass,
                (false, true) => Kernel::Drops,
                (true, true) | (false, false) => Kernel::Agrees,
            }
        }
        _ => Kernel::Elsewhere,
    };
    Judgement {
        allowed: by_objects.is_allowed(),
        egress: decision(by_objects.egress),
        ingress: decision(by_objects.ingress),
        kernel,
    }
}

/// The interface behind which an address is, if it is a pod's of this node.
fn link_of(cluster: &Cluster, address: IpAddr) -> Option<LinkName> {
    cluster.attachments.values().find(|attachment| attachment.addresses.contains(&address)).map(|a| a.link.clone())
}

fn passes(cluster: &Cluster, packet: &Packet, node: Node<'_>, inspection: &Inspection) -> bool {
    let route = |address: IpAddr| match link_of(cluster, address) {
        Some(link) => Route::Pod(link),
        None if node.addresses.contains(&address) => Route::Local,
        None if node.is_behind_vxlan(address) => Route::Vxlan,
        None => Route::Uplink,
    };
    let origin = match route(packet.source) {
        Route::Pod(link) => Origin::Pod(link),
        Route::Local => Origin::Node,
        Route::Vxlan => Origin::Vxlan,
        Route::Uplink => Origin::Uplink,
    };
    let echo = if packet.source.is_ipv4() { ECHO.0 } else { ECHO.1 };
    let walked = Walked {
        icmp: (packet.transport == Transport::Other).then_some(echo),
        ..Walked::first(origin, packet.source, packet.destination, packet.transport)
    };
    inspection.walk(&walked, route).arrives()
}

fn decision(decision: evaluate::Decision) -> Decision {
    use evaluate::Decision as By;
    match decision {
        By::NoPod => Decision::NoPod,
        By::Itself => Decision::Itself,
        By::OwnNode => Decision::OwnNode,
        By::NotDns { pod } => Decision::NotDns { pod: pod.to_string() },
        By::NotANode { pod } => Decision::NotANode { pod: pod.to_string() },
        By::NotIsolated { pod } => Decision::NotIsolated { pod: pod.to_string() },
        By::Allowed { pod, by } => Decision::Allowed {
            pod: pod.to_string(),
            by: by.into_iter().map(|(policy, rule)| RuleRef { policy: policy.to_string(), rule }).collect(),
        },
        By::Denied { pod, by } => {
            Decision::Denied { pod: pod.to_string(), by: by.iter().map(ToString::to_string).collect() }
        }
        By::Unknown { pod } => Decision::Unknown { pod: pod.to_string() },
    }
}
