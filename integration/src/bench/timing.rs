//! Values of rounds.

use std::time::Duration;

/// What was measured in a series of rounds, all in one unit; times in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds a round's time.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1000.0);
    }

    /// Adds a round's value.
    pub fn add_value(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; 0 without rounds.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    /// Smallest and largest.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        let smallest = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        (smallest, self.0.iter().copied().fold(0.0, f64::max))
    }
}
