//! Ports: by number, name, range and protocol, for everybody and for some.

use serde_json::{Value, json};

use super::{Case, Direction, labelled, policy};
use integration::packets::target::{Protocol, port_name};

pub(crate) fn ports(direction: Direction) -> Vec<Case> {
    let mut lists: Vec<(String, Value)> = Vec::new();
    for protocol in Protocol::ALL {
        let word = protocol.as_str();
        lists.push((format!("80/{word}"), json!([{"port": 80, "protocol": word}])));
        lists.push((format!("81/{word}"), json!([{"port": 81, "protocol": word}])));
        lists.push((format!("all of {word}"), json!([{"protocol": word}])));
        lists.push((format!("{word} by name"), json!([{"port": port_name(81, protocol), "protocol": word}])));
        lists.push((format!("80 to 81/{word}"), json!([{"port": 80, "endPort": 81, "protocol": word}])));
        lists.push((format!("81 to 65535/{word}"), json!([{"port": 81, "endPort": 65_535, "protocol": word}])));
    }
    let more = [
        ("80, protocol left out", json!([{"port": 80}])),
        ("a name of no port", json!([{"port": "no-such-port"}])),
        ("a name of another protocol", json!([{"port": port_name(80, Protocol::Tcp), "protocol": "UDP"}])),
        ("a port that nobody serves", json!([{"port": 7777}])),
        ("1 to 79", json!([{"port": 1, "endPort": 79}])),
        ("a range of one", json!([{"port": 80, "endPort": 80}])),
        ("two numbers", json!([{"port": 80}, {"port": 81}])),
        ("a number and its name", json!([{"port": 80}, {"port": port_name(80, Protocol::Tcp)}])),
        ("a number and another's name", json!([{"port": 80}, {"port": port_name(81, Protocol::Tcp)}])),
        (
            "one of each protocol",
            json!([{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "UDP"}, {"port": 80, "protocol": "SCTP"}]),
        ),
        ("overlapping ranges", json!([{"port": 1, "endPort": 80}, {"port": 80, "endPort": 81}])),
    ];
    lists.extend(more.map(|(name, list)| (name.to_owned(), list)));

    let mut cases = Vec::new();
    for (name, list) in &lists {
        for peers in [None, Some(json!([{"namespaceSelector": labelled("ns", "y")}]))] {
            let for_whom = if peers.is_some() { "ns=y" } else { "everybody" };
            let mut rule = json!({"ports": list});
            if let Some(peers) = peers {
                rule[direction.peers()] = peers;
            }
            let policy = policy("x", "ports", &labelled("pod", "a"), direction, &json!([rule]));
            cases.push(Case::of(format!("ports: {name}, for {for_whom}, {direction:?}"), vec![policy]));
        }
    }
    cases
}
