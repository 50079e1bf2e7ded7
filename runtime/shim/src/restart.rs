//! When an ended container is started again. Pure: time is passed in.
//!
//! As the kubelet does it: the first restart comes at once, the next ones after 10 s, 20 s, 40 s, ... up to 5 min; a container
//! that ran for 10 min begins from the start.

use std::time::Duration;

use minipod_protocol::shim::RestartPolicy;

/// The first delay that is not none.
const FIRST: Duration = Duration::from_secs(10);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(300);
/// A run as long as this is no crash.
const HEALTHY: Duration = Duration::from_secs(600);

/// Whether `restartPolicy` asks for a restart after this exit. An init container counts as ended well when its code is 0,
/// whatever the policy says.
pub(crate) fn wants_restart(policy: RestartPolicy, init: bool, exit_code: i32) -> bool {
    match policy {
        RestartPolicy::Never => false,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Always => !init || exit_code != 0,
    }
}

/// The delay before the next start of one container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BackOff {
    next: Duration,
}

impl BackOff {
    /// The delay after a run of this length.
    pub(crate) fn after(&mut self, ran_for: Duration) -> Duration {
        if ran_for >= HEALTHY {
            self.next = Duration::ZERO;
        }
        let delay = self.next;
        self.next = if delay.is_zero() { FIRST } else { (delay * 2).min(LONGEST) };
        delay
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use minipod_protocol::shim::RestartPolicy;

    use super::{BackOff, wants_restart};

    fn delays(runs: &[u64]) -> Vec<u64> {
        let mut back_off = BackOff::default();
        runs.iter().map(|run| back_off.after(Duration::from_secs(*run)).as_secs()).collect()
    }

    #[test]
    fn the_delay_doubles_from_ten_seconds_to_five_minutes() {
        assert_eq!(delays(&[1; 9]), [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn ten_minutes_of_running_reset_the_delay() {
        assert_eq!(delays(&[1, 1, 1, 599, 600, 1, 1]), [0, 10, 20, 40, 0, 10, 20]);
    }

    #[test]
    fn the_policy_decides_who_is_restarted() {
        let check = |policy, expected: [bool; 4]| {
            let cases = [(false, 0), (false, 1), (true, 0), (true, 1)];
            assert_eq!(cases.map(|(init, code)| wants_restart(policy, init, code)), expected, "{policy:?}");
        };
        check(RestartPolicy::Always, [true, true, false, true]);
        check(RestartPolicy::OnFailure, [false, true, false, true]);
        check(RestartPolicy::Never, [false, false, false, false]);
    }
}
