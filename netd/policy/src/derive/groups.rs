//! The peers that signatures name: which groups and pairs are in use, and what they are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use minipod_model::Protocol;

use super::members::Members;
use super::terms::TermId;
use crate::intent::{GroupId, Pair, PairsId};
use crate::nets::NetSet;

/// A group in use.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) terms: Vec<TermId>,
    pub(super) nets: Arc<BTreeSet<IpNet>>,
    pub(super) users: usize,
}

/// Pairs in use.
#[derive(Debug, Clone)]
pub(super) struct Pairs {
    pub(super) who: PairPeers,
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) users: usize,
}

/// Whose ports.
#[derive(Debug, Clone)]
pub(super) enum PairPeers {
    Everyone,
    Some {
        terms: Vec<TermId>,
        /// without the cluster DNS
        nets: NetSet,
    },
}

impl Pairs {
    /// The pair of an address. Of an address that several claim only a number on which all agree (semantics, ruling 17).
    pub(super) fn pair(&self, members: &Members, address: IpAddr) -> Option<Pair> {
        let port = members.number(address, &self.name, self.protocol)?;
        let is_covered = match &self.who {
            PairPeers::Everyone => true,
            PairPeers::Some { terms, nets } => nets.contains(address) || members.is_selected(address, terms),
        };
        is_covered.then_some(Pair { address, protocol: self.protocol, port })
    }

    pub(super) fn terms(&self) -> &[TermId] {
        match &self.who {
            PairPeers::Everyone => &[],
            PairPeers::Some { terms, .. } => terms,
        }
    }
}

/// All of both.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    pub(super) by_id: BTreeMap<GroupId, Group>,
    pub(super) pairs: BTreeMap<PairsId, Pairs>,
    by_port: BTreeMap<(String, Protocol), BTreeSet<PairsId>>,
}

impl Groups {
    /// The pairs of a port's name.
    pub(super) fn of_port(&self, name: &str, protocol: Protocol) -> impl Iterator<Item = &PairsId> {
        self.by_port.get(&(name.to_owned(), protocol)).into_iter().flatten()
    }

    pub(super) fn add_pairs(&mut self, id: PairsId, pairs: Pairs) {
        self.by_port.entry((pairs.name.clone(), pairs.protocol)).or_default().insert(id.clone());
        self.pairs.insert(id, pairs);
    }

    /// One user less; the group if it was the last one.
    pub(super) fn release_group(&mut self, id: &GroupId) -> Option<Group> {
        let group = self.by_id.get_mut(id)?;
        group.users -= 1;
        if group.users > 0 { None } else { self.by_id.remove(id) }
    }

    /// One user less; the pairs if it was the last one.
    pub(super) fn release_pairs(&mut self, id: &PairsId) -> Option<Pairs> {
        let pairs = self.pairs.get_mut(id)?;
        pairs.users -= 1;
        if pairs.users > 0 {
            return None;
        }
        let pairs = self.pairs.remove(id)?;
        let port = (pairs.name.clone(), pairs.protocol);
        if let Some(ids) = self.by_port.get_mut(&port) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_port.remove(&port);
            }
        }
        Some(pairs)
    }
}
