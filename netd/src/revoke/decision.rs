//! Which live connections are cut, and which are let go on. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use minipod_kernel::conntrack::{Connection, Direction};
use minipod_model::Protocol;
use netd_policy::interpret::Interpreter;
use netd_policy::{Packet, Transport};

/// What is known of the node beside the intent.
#[derive(Debug)]
pub(super) struct Node<'a> {
    /// every address of the node's own
    pub(super) addresses: &'a BTreeSet<IpAddr>,
    /// `--pod-to-node allow`
    pub(super) lets_pods_in: bool,
    /// the bit of the connection mark that says "revoked"
    pub(super) bit: u32,
}

/// Connections with which something has to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// forbidden, and not marked yet
    pub(super) cut: Vec<Connection>,
    /// forbidden, and to be deleted
    pub(super) forget: Vec<Connection>,
    /// marked, and allowed again
    pub(super) restore: Vec<Connection>,
    /// marked, and rightly so
    pub(super) stay_cut: Vec<Connection>,
}

/// Judges connections.
pub(super) fn decide(connections: Vec<Connection>, interpreter: &Interpreter<'_>, node: &Node<'_>) -> Decision {
    let mut decision = Decision::default();
    for connection in connections {
        let packet = first_packet(&connection.original, &connection.reply);
        let Some(allowed) = is_allowed(&packet, interpreter, node) else { continue };
        let fate = fate(allowed, connection.mark & node.bit != 0, packet.transport);
        match fate {
            Fate::Cut => decision.cut.push(connection),
            Fate::Forgotten => decision.forget.push(connection),
            Fate::Restored => decision.restore.push(connection),
            Fate::StaysCut => decision.stay_cut.push(connection),
            Fate::GoesOn => {}
        }
    }
    decision
}

/// Those of marked connections that are allowed again.
pub(super) fn allowed_again(marked: &[Connection], interpreter: &Interpreter<'_>, node: &Node<'_>) -> Vec<Connection> {
    let is_allowed = |connection: &&Connection| {
        is_allowed(&first_packet(&connection.original, &connection.reply), interpreter, node) == Some(true)
    };
    marked.iter().filter(is_allowed).cloned().collect()
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    GoesOn,
    Cut,
    StaysCut,
    Forgotten,
    Restored,
}

/// Without ports both directions are one connection: marked, it would also keep the node from its pod (ruling 7). Such a one is forgotten, and the
/// next packet of either side judged as a first one. With ports it would be wrong (ruling 4): an answer would come in as somebody's question.
fn fate(is_allowed: bool, is_marked: bool, transport: Transport) -> Fate {
    match (is_allowed, is_marked, transport) {
        (false, _, Transport::Other) => Fate::Forgotten,
        (false, false, Transport::Port(..)) => Fate::Cut,
        (false, true, Transport::Port(..)) => Fate::StaysCut,
        (true, true, _) => Fate::Restored,
        (true, false, _) => Fate::GoesOn,
    }
}

/// Whether both ends would allow a connection's first packet now; `None` if neither is a pod of this node.
fn is_allowed(packet: &Packet, interpreter: &Interpreter<'_>, node: &Node<'_>) -> Option<bool> {
    let to_node = node.addresses.contains(&packet.destination);
    let egress = match interpreter.egress_allows(packet) {
        Some(_) if to_node && node.lets_pods_in => Some(true),
        verdict => verdict,
    };
    // The node reaches its own pods (ruling 7). That a forwarded packet with a node's address is no packet of the node's cannot be
    // seen here; it was judged when it opened the connection.
    let from_node = node.addresses.contains(&packet.source);
    let ingress = interpreter.ingress_allows(packet).map(|allowed| allowed || from_node);
    (egress.is_some() || ingress.is_some()).then(|| egress != Some(false) && ingress != Some(false))
}

/// As policy saw it: from the client as it is, to the backend after translation (ruling 10).
pub(crate) fn first_packet(original: &Direction, reply: &Direction) -> Packet {
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == original.protocol);
    Packet {
        source: original.source,
        destination: reply.source,
        transport: protocol.map_or(Transport::Other, |protocol| Transport::Port(protocol, reply.source_port)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::IpAddr;
    use std::sync::Arc;

    use minipod_kernel::conntrack::Direction;
    use minipod_model::{LinkName, PodKey, Protocol};
    use netd_policy::intent::{Allowed, Endpoint, Intent, PeerGroup, Peers, PortClass, Signature};
    use netd_policy::intent::{GroupId, SignatureId};
    use netd_policy::interpret::Interpreter;

    use netd_policy::Transport;

    use super::{Fate, Node, fate, first_packet, is_allowed};

    const SERVER: &str = "10.244.0.2";
    const FRIEND: &str = "10.244.0.3";
    const STRANGER: &str = "10.244.1.9";
    const NODE: &str = "192.0.2.1";
    const SERVICE: &str = "10.96.0.20";

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn direction(source: (&str, u16), destination: (&str, u16), protocol: u8) -> Direction {
        Direction {
            source: ip(source.0),
            destination: ip(destination.0),
            protocol,
            source_port: source.1,
            destination_port: destination.1,
        }
    }

    /// The server takes TCP on 8080 from its friend; it may go nowhere. Nothing isolates the friend.
    fn intent() -> Intent {
        let (group, sealed, open) = (GroupId("g".into()), SignatureId("s".into()), SignatureId("o".into()));
        let class =
            PortClass { protocol: Protocol::Tcp, ranges: vec![(8080, 8080)], peers: Peers::Group(group.clone()) };
        let ingress = Allowed { ports: vec![class], ..Allowed::default() };
        let endpoint = |name: &str, address: &str, signature: &SignatureId| {
            let link = LinkName::for_sandbox(name, "eth0");
            let endpoint = Endpoint {
                pod: PodKey::new("default", name),
                addresses: vec![ip(address)],
                signature: signature.clone(),
            };
            (link, Arc::new(endpoint))
        };
        Intent {
            endpoints: Arc::new([endpoint("server", SERVER, &sealed), endpoint("friend", FRIEND, &open)].into()),
            signatures: Arc::new(
                [
                    (sealed, Arc::new(Signature { ingress: Some(ingress), egress: Some(Allowed::default()) })),
                    (open, Arc::default()),
                ]
                .into(),
            ),
            groups: Arc::new([(group, PeerGroup { pods: [ip(FRIEND)].into(), ..PeerGroup::default() })].into()),
            ..Intent::default()
        }
    }

    #[track_caller]
    fn check(expected: Option<bool>, lets_pods_in: bool, original: &Direction, reply: &Direction) {
        let intent = intent();
        let addresses: BTreeSet<IpAddr> = [ip(NODE)].into();
        let node = Node { addresses: &addresses, lets_pods_in, bit: 1 << 31 };
        let packet = first_packet(original, reply);
        assert_eq!(is_allowed(&packet, &Interpreter::new(&intent), &node), expected, "{packet:?}");
    }

    #[test]
    fn a_connection_is_judged_as_its_first_packet_after_translation() {
        for (client, expected) in [(FRIEND, true), (STRANGER, false)] {
            for dialled in [(SERVER, 8080), (SERVICE, 80)] {
                let original = direction((client, 40000), dialled, 6);
                check(Some(expected), false, &original, &direction((SERVER, 8080), (client, 40000), 6));
            }
        }
        let other_port = direction((FRIEND, 40000), (SERVER, 9090), 6);
        check(Some(false), false, &other_port, &direction((SERVER, 9090), (FRIEND, 40000), 6));
        let icmp = direction((FRIEND, 0), (SERVER, 0), 1);
        check(Some(false), false, &icmp, &direction((SERVER, 0), (FRIEND, 0), 1));
    }

    #[test]
    fn the_node_reaches_its_pods_and_they_reach_it_by_option() {
        let from_node = direction((NODE, 40000), (SERVER, 9090), 6);
        check(Some(true), false, &from_node, &direction((SERVER, 9090), (NODE, 40000), 6));
        for by_option in [false, true] {
            let to_node = direction((SERVER, 40000), (NODE, 22), 6);
            check(Some(by_option), by_option, &to_node, &direction((NODE, 22), (SERVER, 40000), 6));
        }
    }

    #[test]
    fn what_is_forbidden_is_marked_and_without_ports_forgotten() {
        let with_ports = Transport::Port(Protocol::Sctp, 80);
        for (is_allowed, is_marked, expected) in [
            (true, false, Fate::GoesOn),
            (true, true, Fate::Restored),
            (false, false, Fate::Cut),
            (false, true, Fate::StaysCut),
        ] {
            assert_eq!(fate(is_allowed, is_marked, with_ports), expected, "{is_allowed} {is_marked}");
            let without = if is_allowed { expected } else { Fate::Forgotten };
            assert_eq!(fate(is_allowed, is_marked, Transport::Other), without, "{is_allowed} {is_marked}");
        }
    }

    #[test]
    fn connections_of_others_are_left_alone() {
        let original = direction((STRANGER, 40000), (NODE, 22), 6);
        check(None, false, &original, &direction((NODE, 22), (STRANGER, 40000), 6));
    }
}
