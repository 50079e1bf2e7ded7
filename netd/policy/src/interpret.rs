//! The verdict of an [`Intent`]: what a kernel that enforces it does with a first packet. Reads nothing but the intent, so it judges both
//! live connections and the compiler (against [`crate::evaluate`]).

use std::collections::HashMap;
use std::net::IpAddr;

use crate::intent::{Allowed, Endpoint, Intent, Pair, Peers};
use crate::packet::{Packet, Transport};

/// Judges packets by an intent.
#[derive(Debug)]
pub struct Interpreter<'a> {
    intent: &'a Intent,
    endpoints: HashMap<IpAddr, &'a Endpoint>,
}

impl<'a> Interpreter<'a> {
    /// Of this intent.
    #[must_use]
    pub fn new(intent: &'a Intent) -> Self {
        let mut endpoints = HashMap::new();
        for endpoint in intent.endpoints.values() {
            for address in &endpoint.addresses {
                endpoints.entry(*address).or_insert(&**endpoint);
            }
        }
        Self { intent, endpoints }
    }

    /// Whether a forwarded packet passes both ends as far as they are on this node. An end that is not on this node is judged on its
    /// own (semantics, ruling 2).
    #[must_use]
    pub fn allows(&self, packet: &Packet) -> bool {
        self.egress_allows(packet) != Some(false) && self.ingress_allows(packet) != Some(false)
    }

    /// The verdict of the source's egress rules; `None` if the source is no pod of this node.
    #[must_use]
    pub fn egress_allows(&self, packet: &Packet) -> Option<bool> {
        let endpoint = self.endpoints.get(&packet.source)?;
        if endpoint.addresses.contains(&packet.destination) {
            return Some(true);
        }
        if self.intent.cluster_dns.contains(&packet.destination) && !packet.transport.reaches_dns() {
            return Some(false);
        }
        let signature = self.intent.signatures.get(&endpoint.signature)?;
        Some(open_or(self.intent, signature.egress.as_ref(), packet.destination, packet))
    }

    /// The verdict of the destination's ingress rules; `None` if the destination is no pod of this node.
    #[must_use]
    pub fn ingress_allows(&self, packet: &Packet) -> Option<bool> {
        let endpoint = self.endpoints.get(&packet.destination)?;
        if endpoint.addresses.contains(&packet.source) {
            return Some(true);
        }
        let signature = self.intent.signatures.get(&endpoint.signature)?;
        Some(open_or(self.intent, signature.ingress.as_ref(), packet.source, packet))
    }
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
