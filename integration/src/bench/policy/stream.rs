//! What policies cost a connection that lives: throughput and round trips between two pods, beside plain routing with connection tracking.

use std::net::IpAddr;

use anyhow::Result;
use serde_json::json;

use super::cluster::{local_pod, policy};
use super::place::{CLIENT, Place, SERVER, SERVER_ADDRESS, plain};
use super::worker::{PORT, at};
use crate::bench::figure::{Figure, Goal, Peer};
use crate::bench::timing::Series;
use crate::lab::{Iptables, Lab};

const MILLISECONDS: usize = 500;
const ROUND_TRIPS: usize = 10_000;

/// All figures of this kind.
pub(super) fn measure(rounds: usize) -> Result<Vec<Figure>> {
    let lab = Lab::started("streams", Iptables::Nft)?;
    let floor = plain("plain", true)?;
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": PORT}]}],
    });
    policy(&lab, "server", &spec);
    local_pod(&lab, "client", &json!({"app": "client"}))?;
    let address = local_pod(&lab, "server", &json!({"app": "server"}))?;
    let (client, plain_client) = (Place::new(&lab, "client"), Place::new(&floor, CLIENT));
    let servers = (Place::new(&lab, "server").serve()?, Place::new(&floor, SERVER).serve()?);
    let [mut ours_stream, mut plain_stream, mut ours_echo, mut plain_echo] = [(); 4].map(|()| Series::default());
    for round in 0..rounds {
        let mut both = [
            (client, address, &mut ours_stream, &mut ours_echo),
            (plain_client, SERVER_ADDRESS, &mut plain_stream, &mut plain_echo),
        ];
        // Neither is always the first.
        if round % 2 == 1 {
            both.reverse();
        }
        for (place, address, stream, echo) in both {
            stream.add_value(ask(place, "stream", address, MILLISECONDS)?);
            echo.add_value(ask(place, "echo", address, ROUND_TRIPS)?);
        }
    }
    drop(servers);
    Ok(vec![
        beside("established, throughput", "MB/s", &ours_stream, &plain_stream, Goal::AtLeastTimes(0.97)),
        beside("established, round trip", "us", &ours_echo, &plain_echo, Goal::AtMostTimes(1.03)),
    ])
}

fn ask(place: Place<'_>, what: &str, address: IpAddr, amount: usize) -> Result<f64> {
    place.ask(&[what, &at(address), &amount.to_string()])
}

fn beside(name: &str, unit: &'static str, ours: &Series, plain: &Series, goal: Goal) -> Figure {
    let (low, high) = plain.spread();
    Figure {
        name: name.into(),
        unit,
        ours: ours.median(),
        spread: ours.spread(),
        peer: Some(Peer { name: format!("plain routing ({low:.1} .. {high:.1})"), value: plain.median() }),
        goal,
    }
}
