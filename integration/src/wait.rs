//! Waiting for a condition with a deadline: the only place that sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks until `condition` gives a value.
///
/// # Errors
/// After `limit`, naming `what`.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("waited {limit:?} for: {what}");
        }
        pause(Duration::from_millis(20));
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that sleeps, between two looks at a condition")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
