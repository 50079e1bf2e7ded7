//! Stop signals that wait until the container's program listens.
//!
//! The first process of a PID namespace gets no signal that it has no handler for (`pid_namespaces(7)`). One that is sent before the
//! program has come to install its own would be lost, and the pod, stopped right after its start, would wait until its grace
//! period is over. So the signal is kept until the program catches it, ignores it or waits for it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::lifecycle::Slot;

/// The first look at a program comes after this time, each further one after twice the time.
const SOON: Duration = Duration::from_millis(2);
/// But not later than this.
const LATE: Duration = Duration::from_millis(250);

/// The signals that are kept, at most one for a container: the last.
#[derive(Debug, Default)]
pub(super) struct StopSignals(BTreeMap<Slot, Kept>);

#[derive(Debug, Clone, Copy)]
struct Kept {
    signal: i32,
    pause: Duration,
    at: Duration,
}

impl StopSignals {
    /// Keeps a signal.
    pub(super) fn keep(&mut self, slot: Slot, signal: i32, now: Duration) {
        self.0.insert(slot, Kept { signal, pause: SOON, at: now + SOON });
    }

    /// Forgets the signal of a container that has ended or is killed.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }

    /// When the next program is to be looked at.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.0.values().map(|kept| kept.at).min()
    }

    /// What is to be looked at now; it is due again later unless it is forgotten.
    pub(super) fn due(&mut self, now: Duration) -> Vec<(Slot, i32)> {
        let due = self.0.iter_mut().filter(|(_, kept)| kept.at <= now);
        due.map(|(slot, kept)| {
            kept.pause = (kept.pause * 2).min(LATE);
            kept.at = now + kept.pause;
            (*slot, kept.signal)
        })
        .collect()
    }
}

/// Whether a signal does something to the process, as the first of its PID namespace; yes where that cannot be known.
pub(super) fn listens(pid: i32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    minds(&status, signal)
}

/// By `/proc/PID/status` (`proc_pid_status(5)`): a blocked signal waits for whoever takes it, an ignored one is meant to do nothing.
fn minds(status: &str, signal: i32) -> bool {
    let Some(bit) = signal.checked_sub(1).and_then(|bit| 1_u64.checked_shl(bit.try_into().ok()?)) else { return true };
    let masks: Vec<u64> = ["SigBlk:", "SigIgn:", "SigCgt:"]
        .iter()
        .filter_map(|field| status.lines().find_map(|line| line.strip_prefix(field)))
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .collect();
    masks.is_empty() || masks.iter().any(|mask| mask & bit != 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{StopSignals, minds};
    use crate::lifecycle::Slot;

    #[test]
    fn a_program_listens_when_it_blocks_ignores_or_catches_the_signal() {
        let status = |blocked: &str, ignored: &str, caught: &str| {
            format!(
                "Name:\tsleep\nSigPnd:\t0000000000004000\nSigBlk:\t{blocked}\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n"
            )
        };
        let (term, other) = ("0000000000004000", "0000000180000002");
        assert!(!minds(&status(other, other, other), 15));
        assert!(minds(&status(term, other, other), 15));
        assert!(minds(&status(other, term, other), 15));
        assert!(minds(&status(other, other, term), 15));
        assert!(minds(&status(other, other, other), 2));
        assert!(minds("", 15), "what cannot be read keeps no signal");
    }

    #[test]
    fn a_kept_signal_is_looked_at_less_and_less_often_until_it_is_forgotten() {
        let mut kept = StopSignals::default();
        let ms = Duration::from_millis;
        assert_eq!(kept.deadline(), None);
        kept.keep(Slot(1), 15, ms(10));
        assert_eq!((kept.due(ms(11)), kept.deadline()), (vec![], Some(ms(12))));
        assert_eq!((kept.due(ms(12)), kept.deadline()), (vec![(Slot(1), 15)], Some(ms(16))));
        assert_eq!((kept.due(ms(500)), kept.deadline()), (vec![(Slot(1), 15)], Some(ms(508))));
        for round in 1..20 {
            kept.due(ms(1_000 * round));
        }
        assert_eq!(kept.deadline(), Some(ms(19_250)));
        kept.forget(Slot(1));
        assert_eq!((kept.due(ms(20_000)), kept.deadline()), (vec![], None));
    }
}
