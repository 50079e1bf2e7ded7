//! How long to wait before trying again: 10 s doubling to 5 min, forgotten after 10 min of success (kubelet
//! `MaxContainerBackOff`); shorter for what is likely to be over soon.

use std::time::Duration;

/// Waiting times that grow with each failure in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BackOff {
    first: Duration,
    most: Duration,
    failures: u32,
}

/// Success for so long, and what failed before is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);

impl BackOff {
    /// For images and containers.
    pub(super) const fn long() -> Self {
        Self { first: Duration::from_secs(10), most: Duration::from_secs(300), failures: 0 }
    }

    /// For sockets and daemons that are about to come back.
    pub(super) const fn short() -> Self {
        Self { first: Duration::from_millis(250), most: Duration::from_secs(30), failures: 0 }
    }

    /// The wait after one more failure.
    pub(super) fn after_failure(&mut self) -> Duration {
        let wait = self.first.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// The wait before what ran for so long and then ended is started again: none the first time.
    pub(super) fn after_running(&mut self, ran: Duration) -> Duration {
        if ran >= FORGET_AFTER {
            self.failures = 0;
        }
        if self.failures == 0 {
            self.failures = 1;
            return Duration::ZERO;
        }
        let wait = self.first.saturating_mul(2_u32.saturating_pow(self.failures - 1)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// It worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::BackOff;

    #[test]
    fn failures_wait_longer_and_longer_up_to_five_minutes() {
        let mut back_off = BackOff::long();
        let waits: Vec<u64> = (0..7).map(|_| back_off.after_failure().as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        back_off.reset();
        assert_eq!(back_off.after_failure().as_secs(), 10);
    }

    #[test]
    fn the_first_restart_comes_at_once_and_a_long_run_forgives() {
        let mut back_off = BackOff::long();
        let short = Duration::from_secs(1);
        let waits: Vec<u64> = (0..4).map(|_| back_off.after_running(short).as_secs()).collect();
        assert_eq!(waits, [0, 10, 20, 40]);
        assert_eq!(back_off.after_running(Duration::from_secs(600)), Duration::ZERO);
        assert_eq!(back_off.after_running(short).as_secs(), 10);
    }
}
