//! One line of a benchmark's table, and the file that keeps it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What was measured, beside what it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// what
    pub name: String,
    /// `ms`, `MB`, `s`
    pub unit: &'static str,
    /// the median of our rounds
    pub ours: f64,
    /// smallest and largest of our rounds
    pub spread: (f64, f64),
    /// with whom it is compared
    pub peer: Option<Peer>,
    /// what is wanted
    pub goal: Goal,
}

/// The other side, measured in the same rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// who
    pub name: String,
    /// the median of its rounds
    pub value: f64,
}

/// What is wanted of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// ours is at most this
    AtMost(f64),
    /// the peer's is at least so many times ours
    TimesFaster(f64),
    /// ours is at most so many times the peer's
    AtMostTimes(f64),
    /// ours is at least so many times the peer's
    AtLeastTimes(f64),
    /// measured to be known
    None,
}

impl Figure {
    /// The peer's value divided by ours, how many times faster or smaller we are; where the goal is about ours as a share of the peer's, that.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let peer = self.peer.as_ref()?;
        Some(match self.goal {
            Goal::AtMostTimes(_) | Goal::AtLeastTimes(_) => self.ours / peer.value,
            Goal::AtMost(_) | Goal::TimesFaster(_) | Goal::None => peer.value / self.ours,
        })
    }

    /// Whether the goal is met; `None` where there is none.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::AtMost(limit) => Some(self.ours <= limit),
            Goal::TimesFaster(times) => Some(self.ratio().is_some_and(|ratio| ratio >= times)),
            Goal::AtMostTimes(times) => Some(self.ratio().is_some_and(|ratio| ratio <= times)),
            Goal::AtLeastTimes(times) => Some(self.ratio().is_some_and(|ratio| ratio >= times)),
            Goal::None => None,
        }
    }

    fn goal_text(&self) -> String {
        match self.goal {
            Goal::AtMost(limit) => format!("<= {limit} {}", self.unit),
            Goal::TimesFaster(times) | Goal::AtLeastTimes(times) => format!(">= {times}x"),
            Goal::AtMostTimes(times) => format!("<= {times}x"),
            Goal::None => "-".to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "peer_name": self.peer.as_ref().map(|peer| peer.name.clone()),
            "peer": self.peer.as_ref().map(|peer| peer.value),
            "ratio": self.ratio(),
            "goal": self.goal_text(),
            "met": self.met(),
        })
    }
}

/// The table for a person.
#[must_use]
pub fn table(figures: &[Figure]) -> String {
    let mut text = format!(
        "{:<58} {:>9} {:>19} {:>9} {:>7} {:>11}  met\n",
        "figure (medians)", "ours", "spread", "peer", "ratio", "goal"
    );
    for figure in figures {
        let spread = format!("{:.1} .. {:.1}", figure.spread.0, figure.spread.1);
        let peer = figure.peer.as_ref().map_or_else(|| "-".to_owned(), |peer| format!("{:.1}", peer.value));
        let ratio = figure.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let met = match figure.met() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let ours = format!("{:.1} {}", figure.ours, figure.unit);
        let name = match &figure.peer {
            Some(peer) => format!("{} / {}", figure.name, peer.name),
            None => figure.name.clone(),
        };
        let goal = figure.goal_text();
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{name:<58} {ours:>9} {spread:>19} {peer:>9} {ratio:>7} {goal:>11}  {met}");
    }
    text
}

/// Writes `target/bench/SUITE.json`.
///
/// # Errors
/// What the file system says.
pub fn write(target: &Path, suite: &str, figures: &[Figure]) -> Result<()> {
    let directory = target.join("bench");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let all: Vec<Value> = figures.iter().map(Figure::json).collect();
    let file = directory.join(format!("{suite}.json"));
    std::fs::write(&file, serde_json::to_string_pretty(&all)?)
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::{Figure, Goal, Peer};

    fn figure(ours: f64, peer: f64, goal: Goal) -> Figure {
        let peer = Some(Peer { name: "peer".into(), value: peer });
        Figure { name: "x".into(), unit: "ms", ours, spread: (ours, ours), peer, goal }
    }

    #[test]
    fn a_goal_is_met_or_not() {
        assert_eq!(figure(10.0, 80.0, Goal::TimesFaster(8.0)).met(), Some(true));
        assert_eq!(figure(10.0, 79.0, Goal::TimesFaster(8.0)).met(), Some(false));
        assert_eq!(figure(10.0, 0.0, Goal::AtMost(9.9)).met(), Some(false));
        assert_eq!(figure(10.0, 0.0, Goal::None).met(), None);
    }
}
