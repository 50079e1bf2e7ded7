//! Whether what happened is what the policies say. Pure.

use minipod_model::Protocol;
use netd_policy::Cluster;
use netd_policy::evaluate::Verdict;

use super::super::verdict::{because, judge};
use super::Netd;
use super::dial::Outcome;
use super::question::Question;

/// A connection that was tried.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) question: Question,
    pub(super) outcome: Outcome,
    /// what the policies say; none where that depends on the endpoint that a service chooses
    pub(super) allowed: Option<bool>,
    /// who decides
    pub(super) because: String,
    /// whether policies and packets agree; none where that cannot be told
    pub(super) agrees: Option<bool>,
}

impl Tried {
    pub(super) fn new(question: Question, outcome: Outcome, cluster: &Cluster, netd: &Netd) -> Self {
        let verdicts: Vec<Verdict> = question.packets.iter().map(|packet| judge(cluster, packet, &netd.node)).collect();
        let allowing = verdicts.iter().filter(|verdict| verdict.is_allowed()).count();
        let allowed = match allowing {
            0 => Some(false),
            all if all == verdicts.len() => Some(true),
            _ => None,
        };
        let because = verdicts.first().map(because).unwrap_or_default();
        let agrees = allowed.and_then(|allowed| agrees(question.protocol, allowed, &outcome, netd.rejects));
        Self { question, outcome, allowed, because, agrees }
    }

    pub(super) fn differs(&self) -> bool {
        self.agrees == Some(false)
    }
}

/// `rejects`: what policy denies is answered with a refusal.
fn agrees(protocol: Protocol, allowed: bool, outcome: &Outcome, rejects: bool) -> Option<bool> {
    match outcome {
        // Whose refusal it is cannot be told apart, but one that is wanted came.
        Outcome::Refused if rejects => (!allowed).then_some(true),
        Outcome::Answered | Outcome::Refused => Some(allowed),
        // Nobody has to answer a datagram.
        Outcome::Silence if protocol == Protocol::Udp => None,
        Outcome::Silence | Outcome::Failed(_) => Some(!allowed),
    }
}

#[cfg(test)]
mod tests {
    use minipod_model::Protocol::{Tcp, Udp};

    use super::super::dial::Outcome;
    use super::agrees;

    #[test]
    fn what_arrives_agrees_with_what_is_allowed_and_silence_of_tcp_with_what_is_denied() {
        let failed = || Outcome::Failed("no route".to_owned());
        for (outcome, tcp, udp) in [
            (Outcome::Answered, [Some(true), Some(false)], [Some(true), Some(false)]),
            (Outcome::Refused, [Some(true), Some(false)], [Some(true), Some(false)]),
            (Outcome::Silence, [Some(false), Some(true)], [None, None]),
            (failed(), [Some(false), Some(true)], [Some(false), Some(true)]),
        ] {
            assert_eq!([true, false].map(|allowed| agrees(Tcp, allowed, &outcome, false)), tcp, "{outcome:?}");
            assert_eq!([true, false].map(|allowed| agrees(Udp, allowed, &outcome, false)), udp, "{outcome:?}");
        }
        assert_eq!([true, false].map(|allowed| agrees(Tcp, allowed, &Outcome::Refused, true)), [None, Some(true)]);
    }
}
