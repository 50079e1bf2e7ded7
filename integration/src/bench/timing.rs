//! Times of rounds.

use std::time::{Duration, Instant};

use anyhow::Result;

/// What a series of rounds took, in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<f64>);

impl Series {
    /// Adds a round.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1000.0);
    }

    /// Does something and adds the time it took.
    ///
    /// # Errors
    /// Its own.
    pub fn time<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let value = work()?;
        self.add(start.elapsed());
        Ok(value)
    }

    /// The middle one, in milliseconds; 0 without rounds.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    /// Smallest and largest, in milliseconds.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        let smallest = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        (smallest, self.0.iter().copied().fold(0.0, f64::max))
    }
}
