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
        let door = Door {
            protocol: question.protocol,
            translated: question.packets.iter().any(|packet| packet.destination != question.address.ip()),
            rejects: netd.rejects,
        };
        let agrees = allowed.and_then(|allowed| agrees(&door, allowed, &outcome));
        Self { question, outcome, allowed, because, agrees }
    }

    pub(super) fn differs(&self) -> bool {
        self.agrees == Some(false)
    }
}

/// What was dialled.
struct Door {
    protocol: Protocol,
    /// it is a service's address, where the node refuses what no endpoint answers
    translated: bool,
    /// what policy denies is answered with a refusal
    rejects: bool,
}

fn agrees(door: &Door, allowed: bool, outcome: &Outcome) -> Option<bool> {
    match outcome {
        // Whose refusal it is cannot be told apart, but one that is wanted came.
        Outcome::Refused if door.rejects => (!allowed).then_some(true),
        // Here neither: the endpoint may be reached and not listen, or be gone by now.
        Outcome::Refused if door.translated => None,
        Outcome::Answered | Outcome::Refused => Some(allowed),
        // Nobody has to answer a datagram.
        Outcome::Silence if door.protocol == Protocol::Udp => None,
        Outcome::Silence | Outcome::Failed(_) => Some(!allowed),
    }
}

#[cfg(test)]
mod tests {
    use minipod_model::Protocol::{self, Tcp, Udp};

    use super::super::dial::Outcome;
    use super::{Door, agrees};

    #[test]
    fn what_arrives_agrees_with_what_is_allowed_and_silence_of_tcp_with_what_is_denied() {
        let failed = || Outcome::Failed("no route".to_owned());
        let pod = |protocol: Protocol| Door { protocol, translated: false, rejects: false };
        for (outcome, tcp, udp) in [
            (Outcome::Answered, [Some(true), Some(false)], [Some(true), Some(false)]),
            (Outcome::Refused, [Some(true), Some(false)], [Some(true), Some(false)]),
            (Outcome::Silence, [Some(false), Some(true)], [None, None]),
            (failed(), [Some(false), Some(true)], [Some(false), Some(true)]),
        ] {
            assert_eq!([true, false].map(|allowed| agrees(&pod(Tcp), allowed, &outcome)), tcp, "{outcome:?}");
            assert_eq!([true, false].map(|allowed| agrees(&pod(Udp), allowed, &outcome)), udp, "{outcome:?}");
        }
        let refused = |door: Door| [true, false].map(|allowed| agrees(&door, allowed, &Outcome::Refused));
        assert_eq!(refused(Door { rejects: true, ..pod(Tcp) }), [None, Some(true)]);
        assert_eq!(refused(Door { translated: true, ..pod(Tcp) }), [None, None], "the node's, or the endpoint's");
    }
}
