//! Rules of several policies merged: for every port, who may use it. The result does not depend on how the rules were spread over
//! policies (semantics, ruling 1).

use std::collections::{BTreeMap, BTreeSet};

use minipod_model::Protocol;

use super::peers::PeerSet;
use crate::object::{PortNumbers, Rule, RulePeers, RulePort, RulePorts};

/// Who is allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Everyone,
    Some(PeerSet),
}

/// The rules of one direction.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    /// every port and every protocol
    pub(crate) any_port: Option<Who>,
    /// disjoint port classes, sorted
    pub(crate) classes: Vec<Class>,
    /// by port name
    pub(crate) named: BTreeMap<(String, Protocol), Who>,
}

/// Ports with the same peers.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) protocol: Protocol,
    pub(crate) ranges: Vec<(u16, u16)>,
    pub(crate) who: Who,
}

impl Merged {
    /// Merges rules of policies of `namespace`.
    pub(crate) fn of<'a>(namespace: &str, rules: impl Iterator<Item = &'a Rule>) -> Self {
        let mut merged = Self::default();
        let mut ranges: Vec<(Protocol, (u16, u16), Who)> = Vec::new();
        for rule in rules {
            let who = Who::of(namespace, &rule.peers);
            match &rule.ports {
                RulePorts::Every => merged.any_port = Some(who.or(merged.any_port.take())),
                RulePorts::Listed(ports) => {
                    for RulePort { protocol, numbers } in ports {
                        match numbers {
                            PortNumbers::Every => ranges.push((*protocol, (0, u16::MAX), who.clone())),
                            PortNumbers::Range(first, last) => ranges.push((*protocol, (*first, *last), who.clone())),
                            PortNumbers::Named(name) => {
                                let known = merged.named.remove(&(name.clone(), *protocol));
                                merged.named.insert((name.clone(), *protocol), who.clone().or(known));
                            }
                        }
                    }
                }
            }
        }
        let any_port = merged.any_port.clone();
        merged.classes = classes(&ranges, any_port.as_ref());
        merged.named = merged
            .named
            .into_iter()
            .filter_map(|(port, who)| Some((port, who.not_covered_by(any_port.as_ref())?)))
            .collect();
        merged
    }
}

impl Who {
    fn of(namespace: &str, peers: &RulePeers) -> Self {
        match peers {
            RulePeers::Everyone => Self::Everyone,
            RulePeers::Listed(peers) => Self::Some(
                peers
                    .iter()
                    .map(|peer| PeerSet::of(namespace, peer))
                    .fold(PeerSet::default(), |all, one| all.union(&one)),
            ),
        }
    }

    fn or(self, other: Option<Self>) -> Self {
        match (self, other) {
            (who, None) => who,
            (Self::Some(a), Some(Self::Some(b))) => Self::Some(a.union(&b)),
            _ => Self::Everyone,
        }
    }

    /// Without what `known` allows already; `None` if nobody is left.
    fn not_covered_by(self, known: Option<&Self>) -> Option<Self> {
        match (self, known) {
            (who, None) => Some(who),
            (_, Some(Self::Everyone)) => None,
            (Self::Everyone, Some(_)) => Some(Self::Everyone),
            (Self::Some(set), Some(Self::Some(known))) => {
                let rest = set.not_covered_by(known);
                (!rest.is_empty()).then_some(Self::Some(rest))
            }
        }
    }
}

/// Cuts the ports where a range begins or ends, unites the peers of each piece, and puts pieces with the same peers together.
fn classes(ranges: &[(Protocol, (u16, u16), Who)], any_port: Option<&Who>) -> Vec<Class> {
    let mut pieces: BTreeMap<(Protocol, Who), Vec<(u16, u16)>> = BTreeMap::new();
    for protocol in Protocol::ALL {
        let of_protocol: Vec<_> = ranges.iter().filter(|range| range.0 == protocol).collect();
        // Where a piece begins; one past the last port ends the last piece, so these are wider than a port.
        let cuts: BTreeSet<u32> =
            of_protocol.iter().flat_map(|(_, (first, last), _)| [u32::from(*first), u32::from(*last) + 1]).collect();
        let cuts: Vec<u32> = cuts.into_iter().collect();
        for piece in cuts.windows(2) {
            let (Ok(first), Ok(last)) = (u16::try_from(piece[0]), u16::try_from(piece[1] - 1)) else { continue };
            let who = of_protocol
                .iter()
                .filter(|(_, range, _)| range.0 <= first && last <= range.1)
                .fold(None, |all: Option<Who>, (_, _, who)| Some(who.clone().or(all)));
            if let Some(who) = who.and_then(|who| who.not_covered_by(any_port)) {
                append(pieces.entry((protocol, who)).or_default(), (first, last));
            }
        }
    }
    let mut classes: Vec<Class> =
        pieces.into_iter().map(|((protocol, who), ranges)| Class { protocol, ranges, who }).collect();
    classes.sort();
    classes
}

/// Adds a range that begins after all others; one that follows the last without a gap makes it longer.
fn append(ranges: &mut Vec<(u16, u16)>, (first, last): (u16, u16)) {
    match ranges.last_mut() {
        Some(previous) if previous.1.checked_add(1) == Some(first) => previous.1 = last,
        _ => ranges.push((first, last)),
    }
}
