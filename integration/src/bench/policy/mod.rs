//! `scripts/bench policy`: what policies cost, in netd and on the way of a packet, on nodes with few and with many of them.

mod change;
mod cluster;
mod latency;
mod packet;
mod place;
mod stream;
pub mod worker;

use anyhow::Result;

use super::figure::Figure;

/// Measures everything, `rounds` times each.
///
/// # Errors
/// When something that is measured does not work.
pub fn measure(rounds: usize) -> Result<Vec<Figure>> {
    let mut figures = change::measure(rounds)?;
    figures.extend(packet::measure(rounds)?);
    figures.extend(stream::measure(rounds)?);
    Ok(figures)
}
