//! Time since boot, the clock of quarantines and records: it does not jump when somebody sets the date.

use std::io;
use std::time::{Duration, Instant};

use minipod_kernel::process;

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
        Ok(Self { start: Instant::now(), since_boot: process::since_boot()? })
    }

    /// The time since boot.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.since_boot + self.start.elapsed()
    }
}
