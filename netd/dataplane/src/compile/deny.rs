//! What becomes of a packet that policy denies (semantics, ruling 14): told of, then dropped where it is judged, or refused with an answer.
//!
//! Every reason has a chain, to which the rules that deny lead: whoever is allowed meets no rule more. How often packets are told of
//! is limited in the kernel, so that a flood costs two matches a packet and nobody's time.
//!
//! REJECT is for the filter table only. Where an answer is wanted, mangle marks the connection as revoked and lets the packet go on to
//! filter, whose first rules of ours refuse it. An ACCEPT that somebody puts above them lets nothing pass: whatever still has the bit
//! behind filter is dropped in the security table. The bit is the connection's and not the packet's, so that nobody else's packet
//! marks are read or written. Of a refused first packet nothing stays: the kernel tracks a connection once a packet has gone through.

use std::collections::BTreeSet;

use minipod_model::Protocol;

use super::Compiler;
use crate::facts::DenyAction;
use crate::name::ChainName;
use crate::spec::{Chain, ConnState, Hook, Interface, MarkValue, Match, Reason, Reject, Rule, Table, Target};

/// In mangle and filter, and the beginning of the name in security.
fn chain() -> ChainName {
    ChainName::fixed("DENIED")
}

/// Why packets are denied in mangle, and the chains for that.
const REASONS: [(Reason, &str); 3] =
    [(Reason::Egress, "DENY-EGRESS"), (Reason::Ingress, "DENY-INGRESS"), (Reason::Cut, "DENY-CUT")];

/// What is done with a packet that policy denies, in mangle.
pub(super) fn deny(reason: Reason) -> Target {
    let name = REASONS.into_iter().find_map(|(known, name)| (known == reason).then_some(name));
    name.map_or(Target::Drop, |name| Target::Goto(ChainName::fixed(name)))
}

impl Compiler<'_> {
    /// Tells of a packet that is to be dropped.
    pub(super) fn tell(reason: Reason) -> Rule {
        Rule::new(vec![Match::Seldom(reason)], Target::Tell(reason))
    }

    /// The packet's connection may not be.
    pub(super) fn revoked(&self) -> Match {
        Match::ConnMark(self.revoked_bit())
    }

    /// In filter: answers what was denied on its way from or to a pod.
    pub(super) fn refuse_denied(&self, pod: &Match) -> Option<Rule> {
        let refuse = || Rule::new(vec![pod.clone(), self.revoked()], Target::Goto(chain()));
        (self.facts.deny_action == DenyAction::Reject).then(refuse)
    }

    /// In the to-gate: drops what goes to a pod on a revoked connection.
    pub(super) fn drop_to_pods(&self) -> Rule {
        let mut matches = vec![self.revoked()];
        if self.facts.deny_action == DenyAction::Reject {
            // The answer to a denied packet counts as related to that packet's connection. What somebody else's packet has to do with
            // one has been refused before.
            matches.push(Match::State(BTreeSet::from([ConnState::New, ConnState::Established])));
        }
        Rule::new(matches, Target::Drop)
    }

    /// The chains that denied packets come to.
    pub(super) fn denied(&mut self) {
        let end = match self.facts.deny_action {
            DenyAction::Drop => Target::Drop,
            DenyAction::Reject => Target::Goto(chain()),
        };
        for (reason, name) in REASONS {
            let rules = vec![Self::tell(reason), Rule::always(end.clone())];
            self.chain(Table::Mangle, ChainName::fixed(name), Chain::new(rules));
        }
        if self.facts.deny_action == DenyAction::Drop {
            return;
        }
        let marked = vec![
            self.clear_scratch(),
            Rule::always(Target::SetConnMark(self.revoked_bit())),
            // Accepted by mangle alone.
            Rule::new(vec![self.revoked()], Target::Accept),
            // A packet that is not tracked carries no mark.
            Rule::always(Target::Drop),
        ];
        self.chain(Table::Mangle, chain(), Chain::new(marked));

        let tcp = vec![Match::Protocol(Protocol::Tcp)];
        let answered = vec![
            Rule::new(tcp, Target::Reject(Reject::TcpReset)),
            Rule::always(Target::Reject(Reject::AdminProhibited)),
        ];
        self.chain(Table::Filter, chain(), Chain::new(answered));

        let pods = [Match::In(Interface::AnyPod), Match::Out(Interface::AnyPod)];
        let kept_back = pods.map(|pod| Rule::new(vec![pod, self.revoked()], Target::Drop)).to_vec();
        // Named after the bit: where that changes, the old guard and the new one stand side by side.
        let guard = chain().child(&self.facts.marks.revoked().trailing_zeros().to_string());
        self.chain(Table::Security, guard.clone(), Chain::new(kept_back));
        for hook in [Hook::Forward, Hook::Input] {
            self.jump(Table::Security, hook, Vec::new(), guard.clone());
        }
    }

    /// The bit of the connection mark that says "revoked".
    pub(super) fn revoked_bit(&self) -> MarkValue {
        let bit = self.facts.marks.revoked();
        MarkValue { value: bit, mask: bit }
    }
}
