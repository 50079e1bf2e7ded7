//! What a first packet costs: the time of a connect between two pods of a node, beside one between two networks that a third one joins without
//! a rule.

use std::net::IpAddr;

use anyhow::Result;
use serde_json::{Value, json};

use super::cluster::{local_pod, policies, remote_pods};
use super::place::{CLIENT, Place, SERVER, SERVER_ADDRESS, plain};
use crate::bench::figure::{Figure, Goal, Peer};
use crate::bench::timing::Series;
use crate::lab::{Iptables, Lab};

const CONNECTS: usize = 1000;
const POLICIES: [usize; 3] = [1, 100, 1000];
const PEERS: [usize; 3] = [10, 1000, 10_000];
/// Peers are told apart by so many labels.
const SLICES: usize = 1000;

/// All figures of this kind.
pub(super) fn measure(rounds: usize) -> Result<Vec<Figure>> {
    let lab = Lab::started("packets", Iptables::Nft)?;
    let floor = plain("floor", false)?;
    let (floor_client, floor_server) = (Place::new(&floor, CLIENT), Place::new(&floor, SERVER).serve()?);
    remote_pods(&lab, PEERS[2], labels);
    local_pod(&lab, "client", &json!({"m10": "yes", "m1000": "yes", "m10000": "yes", "slice": "s0"}))?;
    let client = Place::new(&lab, "client");
    let mut servers = Vec::new();
    for count in POLICIES {
        for peers in PEERS {
            let name = format!("server-{count}-{peers}");
            policies(&lab, &name, 0..count, |number| policy(&name, count, peers, number));
            let address = local_pod(&lab, &name, &json!({"server": name}))?;
            let server = Place::new(&lab, &name).serve()?;
            servers.push((format!("{count} policies, {peers} peers"), address, server, Series::default()));
        }
    }
    let mut plain = Series::default();
    for _ in 0..rounds {
        plain.add_value(connect(floor_client, SERVER_ADDRESS)?);
        for (_, address, _, series) in &mut servers {
            series.add_value(connect(client, *address)?);
        }
    }
    drop(floor_server);
    Ok(figures(&plain, &servers.iter().map(|(name, .., series)| (name.as_str(), series)).collect::<Vec<_>>()))
}

fn figures(plain: &Series, servers: &[(&str, &Series)]) -> Vec<Figure> {
    let ratios: Vec<f64> = servers.iter().map(|(_, series)| series.median() / plain.median()).collect();
    let mut figures: Vec<Figure> = servers
        .iter()
        .map(|(name, series)| Figure {
            name: format!("first packet, {name}"),
            unit: "us",
            ours: series.median(),
            spread: series.spread(),
            peer: Some(Peer { name: "no rules".into(), value: plain.median() }),
            goal: Goal::AtMostTimes(1.4),
        })
        .collect();
    let (least, most) =
        ratios.iter().fold((f64::MAX, 0.0_f64), |(least, most), ratio| (least.min(*ratio), most.max(*ratio)));
    figures.push(Figure {
        name: "first packet, largest / smallest of these".into(),
        unit: "x",
        ours: most / least,
        spread: (most / least, most / least),
        peer: None,
        goal: Goal::AtMost(1.15),
    });
    figures
}

fn connect(client: Place<'_>, address: IpAddr) -> Result<f64> {
    client.ask(&["connect", &super::worker::at(address), &CONNECTS.to_string()])
}

fn labels(number: usize) -> Value {
    let mut labels = json!({"slice": format!("s{}", number % SLICES)});
    for peers in PEERS.into_iter().filter(|peers| number < *peers) {
        labels[format!("m{peers}")] = json!("yes");
    }
    labels
}

/// One of `count` policies that select a server, which share its peers among them.
fn policy(server: &str, count: usize, peers: usize, number: usize) -> Value {
    let slices: Vec<String> =
        (0..SLICES).filter(|slice| slice % count == number).map(|slice| format!("s{slice}")).collect();
    let mut from = json!({"matchLabels": {format!("m{peers}"): "yes"}});
    if count > 1 {
        from["matchExpressions"] = json!([{"key": "slice", "operator": "In", "values": slices}]);
    }
    json!({
        "podSelector": {"matchLabels": {"server": server}},
        "ingress": [{"from": [{"podSelector": from}], "ports": [{"port": super::worker::PORT, "endPort": super::worker::PORT + 1}]}],
    })
}
