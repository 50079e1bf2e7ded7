//! Time since boot, the clock of quarantines and records: it does not jump when somebody sets the date.

use std::io;
use std::time::{Duration, Instant};

/// Counts from the boot of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    since_boot: Duration,
}

impl Clock {
    /// Reads the machine's uptime once (`/proc/uptime`, proc(5)) and counts on from there.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn new() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/uptime")?;
        let seconds = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
        let seconds = seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
        let seconds = seconds.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/uptime"))?;
        Ok(Self { start: Instant::now(), since_boot: Duration::from_secs_f64(seconds) })
    }

    /// The time since boot.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.since_boot + self.start.elapsed()
    }
}
