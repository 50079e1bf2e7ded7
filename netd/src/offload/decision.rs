//! What to ask next, whom and when. Pure.

use std::time::Duration;

/// Peers in one round at most: one answer is enough.
pub(super) const PEERS: usize = 3;
/// How soon the second round is; each after it waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Between two rounds at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The next step of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// see whether a peer answers while checksums are left to others, or not
    Ask { offload: bool },
    /// the round is over
    Found(Finding),
}

/// What a round has found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// checksums that are left to others arrive right
    Right,
    /// they do not, those that the device computes do
    Spoiled,
    /// nobody answers
    Nothing,
}

/// The next step, by which questions of this round were answered. A peer that has just come up answers the second question and not the
/// first, whatever offload is; so the first is asked once more.
pub(super) fn next(answered: &[bool]) -> Step {
    match answered {
        [] | [false, true] => Step::Ask { offload: true },
        [false] => Step::Ask { offload: false },
        [false, true, false, ..] => Step::Found(Finding::Spoiled),
        [false, false, ..] => Step::Found(Finding::Nothing),
        [true, ..] | [false, true, true, ..] => Step::Found(Finding::Right),
    }
}

/// How long to wait after so many rounds that found nothing.
pub(super) fn pause(rounds: u32) -> Duration {
    let factor = 1_u32.checked_shl(rounds.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

/// Whom to ask after so many rounds: others each time, as long as there are.
pub(super) fn choose<T: Copy>(peers: &[T], rounds: u32) -> Vec<T> {
    let first = PEERS.saturating_mul(usize::try_from(rounds).unwrap_or_default()).checked_rem(peers.len()).unwrap_or(0);
    peers.iter().cycle().skip(first).take(PEERS.min(peers.len())).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Finding, Step, choose, next, pause};

    /// A round with an underlay that answers so, asked with offload on and off; how many questions it took.
    fn round(answers: impl Fn(usize, bool) -> bool) -> (Finding, usize) {
        let mut answered = Vec::new();
        loop {
            match next(&answered) {
                Step::Ask { offload } => answered.push(answers(answered.len(), offload)),
                Step::Found(finding) => return (finding, answered.len()),
            }
        }
    }

    #[test]
    fn offload_is_found_to_spoil_checksums_only_where_answers_depend_on_it() {
        assert_eq!(round(|_, _| true), (Finding::Right, 1));
        assert_eq!(round(|_, _| false), (Finding::Nothing, 2));
        assert_eq!(round(|_, offload| !offload), (Finding::Spoiled, 3));
        assert_eq!(round(|_, offload| offload), (Finding::Right, 1));
    }

    #[test]
    fn a_peer_that_comes_up_between_two_questions_convicts_nobody() {
        assert_eq!(round(|number, _| number >= 1), (Finding::Right, 3));
    }

    #[test]
    fn rounds_become_rare_but_do_not_end() {
        let pauses = [1, 2, 3, 6, 7, 8, 33, u32::MAX].map(|rounds| pause(rounds).as_secs());
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60, 60, 60]);
        assert!(pause(0) <= Duration::from_secs(1));
    }

    #[test]
    fn every_peer_is_asked_some_time_and_few_at_once() {
        assert!(choose::<u8>(&[], 4).is_empty());
        assert_eq!(choose(&[1, 2], 1), [2, 1]);
        let rounds: Vec<Vec<u8>> = (0..3).map(|rounds| choose(&[1, 2, 3, 4, 5], rounds)).collect();
        assert_eq!(rounds, [[1, 2, 3], [4, 5, 1], [2, 3, 4]]);
    }
}
