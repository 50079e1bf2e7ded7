//! Which live connections are cut, and which are let go on. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use minipod_kernel::conntrack::Connection;
use minipod_model::Protocol;
use netd_policy::interpret::Interpreter;
use netd_policy::{Packet, Transport};

/// What is known of the node beside the intent.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// every address of the node's own
    pub(super) addresses: &'a BTreeSet<IpAddr>,
    /// `--pod-to-node allow`
    pub(super) pod_to_node: bool,
    /// the bit of the connection mark that says "revoked"
    pub(super) bit: u32,
}

/// Connections whose bit has to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// forbidden, and not marked yet
    pub(super) cut: Vec<Connection>,
    /// marked, and allowed again
    pub(super) restore: Vec<Connection>,
    /// how many are forbidden in all
    pub(super) forbidden: usize,
}

/// Judges connections.
pub(super) fn decide(connections: Vec<Connection>, interpreter: &Interpreter<'_>, node: &Node<'_>) -> Decision {
    let mut decision = Decision::default();
    for connection in connections {
        let Some(allowed) = is_allowed(&connection, interpreter, node) else { continue };
        decision.forbidden += usize::from(!allowed);
        match (allowed, connection.mark & node.bit != 0) {
            (false, false) => decision.cut.push(connection),
            (true, true) => decision.restore.push(connection),
            (true, false) | (false, true) => {}
        }
    }
    decision
}

/// Whether both ends would allow its first packet now; `None` if neither is a pod of this node.
fn is_allowed(connection: &Connection, interpreter: &Interpreter<'_>, node: &Node<'_>) -> Option<bool> {
    let packet = first_packet(connection);
    let to_node = node.addresses.contains(&packet.destination);
    let egress = match interpreter.egress_allows(&packet) {
        Some(_) if to_node && node.pod_to_node => Some(true),
        verdict => verdict,
    };
    // The node reaches its own pods (ruling 7). That a forwarded packet with a node's address is no packet of the node's cannot be
    // seen here; it was judged when it opened the connection.
    let from_node = node.addresses.contains(&packet.source);
    let ingress = interpreter.ingress_allows(&packet).map(|allowed| allowed || from_node);
    (egress.is_some() || ingress.is_some()).then(|| egress != Some(false) && ingress != Some(false))
}

/// As policy saw it: from the client as it is, to the backend after translation (ruling 10).
fn first_packet(connection: &Connection) -> Packet {
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == connection.original.protocol);
    Packet {
        source: connection.original.source,
        destination: connection.reply.source,
        transport: protocol
            .map_or(Transport::Other, |protocol| Transport::Port(protocol, connection.reply.source_port)),
    }
}
