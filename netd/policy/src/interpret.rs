//! The verdict of an [`Intent`]: what a kernel that enforces it does with a first packet. Reads nothing but the intent, so it judges both
//! live connections and the compiler (against [`crate::evaluate`]).

use std::net::IpAddr;

use crate::intent::{Allowed, Endpoint, Intent, Pair, Peers};
use crate::packet::{Packet, Transport};

/// Whether a forwarded packet passes both ends as far as they are on this node. An end that is not on this node is judged on its own
/// (semantics, ruling 2).
#[must_use]
pub fn allows(intent: &Intent, packet: &Packet) -> bool {
    egress_allows(intent, packet) != Some(false) && ingress_allows(intent, packet) != Some(false)
}

/// The verdict of the source's egress rules; `None` if the source is no pod of this node.
#[must_use]
pub fn egress_allows(intent: &Intent, packet: &Packet) -> Option<bool> {
    let endpoint = endpoint(intent, packet.source)?;
    if endpoint.addresses.contains(&packet.destination) {
        return Some(true);
    }
    if intent.cluster_dns.contains(&packet.destination) && !packet.transport.reaches_dns() {
        return Some(false);
    }
    let signature = intent.signatures.get(&endpoint.signature)?;
    Some(open_or(intent, signature.egress.as_ref(), packet.destination, packet))
}

/// The verdict of the destination's ingress rules; `None` if the destination is no pod of this node.
#[must_use]
pub fn ingress_allows(intent: &Intent, packet: &Packet) -> Option<bool> {
    let endpoint = endpoint(intent, packet.destination)?;
    if endpoint.addresses.contains(&packet.source) {
        return Some(true);
    }
    let signature = intent.signatures.get(&endpoint.signature)?;
    Some(open_or(intent, signature.ingress.as_ref(), packet.source, packet))
}

fn endpoint(intent: &Intent, address: IpAddr) -> Option<&Endpoint> {
    intent.endpoints.values().find(|endpoint| endpoint.addresses.contains(&address))
}

fn open_or(intent: &Intent, allowed: Option<&Allowed>, peer: IpAddr, packet: &Packet) -> bool {
    let Some(allowed) = allowed else { return true };
    if allowed.any_port.as_ref().is_some_and(|peers| is_among(intent, peers, peer)) {
        return true;
    }
    let Transport::Port(protocol, port) = packet.transport else { return false };
    let by_number = allowed.ports.iter().any(|class| {
        class.protocol == protocol
            && class.ranges.iter().any(|(first, last)| (*first..=*last).contains(&port))
            && is_among(intent, &class.peers, peer)
    });
    let pair = Pair { address: packet.destination, protocol, port };
    by_number || allowed.named.iter().any(|id| intent.pairs.get(id).is_some_and(|pairs| pairs.contains(&pair)))
}

fn is_among(intent: &Intent, peers: &Peers, address: IpAddr) -> bool {
    match peers {
        Peers::Everyone => true,
        Peers::Group(id) => intent
            .groups
            .get(id)
            .is_some_and(|group| group.pods.contains(&address) || group.nets.iter().any(|net| net.contains(&address))),
    }
}
