//! The peers of several rules united, in a form in which the same peers are the same value.

use std::collections::BTreeSet;

use minipod_model::Selector;

use crate::nets::NetSet;
use crate::object::{Block, Peer, PeerNamespaces};

/// Pods by label and addresses by prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PeerSet {
    pub(crate) pods: BTreeSet<PodPeer>,
    /// every `ipBlock` without its `except`; the `except` of one subtracts from that one alone (semantics, ruling 1)
    pub(crate) nets: NetSet,
}

/// Pods of some namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PodPeer {
    pub(crate) namespaces: PeerScope,
    pub(crate) pods: Selector,
}

/// Which namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PeerScope {
    /// one, by name
    Named(String),
    /// by label
    Selected(Selector),
}

impl PeerSet {
    /// One item of `from` or `to` in a policy of `namespace`.
    pub(crate) fn of(namespace: &str, peer: &Peer) -> Self {
        match peer {
            Peer::Block(block) => Self { pods: BTreeSet::new(), nets: block_addresses(block) },
            Peer::Pods { namespaces, pods } => {
                let namespaces = match namespaces {
                    PeerNamespaces::Own => PeerScope::Named(namespace.to_owned()),
                    PeerNamespaces::Selected(selector) => PeerScope::Selected(selector.clone()),
                };
                Self { pods: [PodPeer { namespaces, pods: pods.clone() }].into(), nets: NetSet::default() }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.nets.is_empty()
    }

    /// The peers of either.
    #[must_use]
    pub(crate) fn union(&self, other: &Self) -> Self {
        Self { pods: self.pods.union(&other.pods).cloned().collect(), nets: self.nets.union(&other.nets) }
    }

    /// Without what `other` has in the same words.
    #[must_use]
    pub(crate) fn not_covered_by(&self, other: &Self) -> Self {
        Self { pods: self.pods.difference(&other.pods).cloned().collect(), nets: self.nets.not_covered_by(&other.nets) }
    }
}

fn block_addresses(block: &Block) -> NetSet {
    block.except.iter().fold(NetSet::of(block.cidr), |rest, except| rest.without(&NetSet::of(*except)))
}
