//! `scripts/bench pod`: how long a pod takes, and how much memory it costs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::figure::{Figure, Goal};
use super::timing::Series;
use super::{attach, crowd, memory, start};
use crate::lab::{Iptables, Lab};
use crate::wait::until;

/// Everything that is waited for comes within this time.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// Measures everything, `rounds` times each.
///
/// # Errors
/// When something that is measured does not work.
pub fn measure(rounds: usize) -> Result<Vec<Figure>> {
    let lab = Lab::started("bench", Iptables::Nft)?;
    // The first pod of a node unpacks the image: the node is warm after it. Its shim is the only one when memory is measured.
    lab.pod("warm", "app=warm");
    let mut figures = memory::measure(&lab, rounds)?;
    figures.push(start::first_process(&lab, rounds)?);
    figures.push(start::two_containers(&lab, rounds)?);
    figures.extend(attach::measure(&lab, rounds)?);
    figures.push(crowd::hundred_pods(&lab)?);
    Ok(figures)
}

/// A figure without a peer.
pub(super) fn figure(name: &str, unit: &'static str, series: &Series, limit: f64) -> Figure {
    Figure {
        name: name.into(),
        unit,
        ours: series.median(),
        spread: series.spread(),
        peer: None,
        goal: Goal::AtMost(limit),
    }
}

/// Deletes pods and waits until they are gone.
pub(super) fn delete(lab: &Lab, names: &[&str]) -> Result<()> {
    let deleted = lab.minipod(&[&["delete", "pod", "--grace-period=0"], names].concat());
    ensure!(deleted.succeeded(), "{deleted}");
    until("the pods to be gone", LIMIT, || {
        let left = lab.minipod(&["get", "pods", "-o", "name"]).stdout;
        (!names.iter().any(|name| left.lines().any(|line| line == format!("pod/{name}")))).then_some(())
    })
    .context("deleted pods stay")
}
