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

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// what changes cost netd
    Changes,
    /// what the first packet of a connection costs
    Packets,
    /// what all others cost
    Streams,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Changes, Self::Packets, Self::Streams];
}

/// Measures these parts, `rounds` times each.
///
/// # Errors
/// When something that is measured does not work.
pub fn measure(parts: &[Part], rounds: usize) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for part in parts {
        figures.extend(match part {
            Part::Changes => change::measure(rounds),
            Part::Packets => packet::measure(rounds),
            Part::Streams => stream::measure(rounds),
        }?);
    }
    Ok(figures)
}
