//! The selectors of peers in use, and whom each selects.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use minipod_model::Labels;

use super::anchors::Anchors;
use super::describe::KnownLabels;
use super::members::MemberId;
use crate::compile::{PeerScope, PodPeer};
use crate::intent::GroupId;

/// A number for a term, as long as it is in use.
pub(super) type TermId = u32;

/// One peer by label, in use.
#[derive(Debug, Clone)]
pub(super) struct Term {
    pub(super) peer: PodPeer,
    /// whom it selects
    pub(super) members: BTreeSet<MemberId>,
    /// the groups that it is part of
    pub(super) groups: BTreeSet<GroupId>,
    users: usize,
}

/// All terms in use.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    all: BTreeMap<TermId, Term>,
    ids: HashMap<PodPeer, TermId>,
    next: TermId,
    anchors: Anchors<TermId>,
}

impl Terms {
    pub(super) fn get(&self, id: TermId) -> Option<&Term> {
        self.all.get(&id)
    }

    /// The term of a peer; `true` if it is new and selects nobody yet.
    pub(super) fn acquire(&mut self, peer: &PodPeer) -> (TermId, bool) {
        if let Some(id) = self.ids.get(peer)
            && let Some(term) = self.all.get_mut(id)
        {
            term.users += 1;
            return (*id, false);
        }
        self.next = self.next.wrapping_add(1);
        let id = self.next;
        self.ids.insert(peer.clone(), id);
        self.anchors.file(&peer.namespaces, &peer.pods, &id);
        let term = Term { peer: peer.clone(), members: BTreeSet::new(), groups: BTreeSet::new(), users: 1 };
        self.all.insert(id, term);
        (id, true)
    }

    /// One user less; the term if it was the last one.
    pub(super) fn release(&mut self, id: TermId) -> Option<Term> {
        let term = self.all.get_mut(&id)?;
        term.users -= 1;
        if term.users > 0 {
            return None;
        }
        let term = self.all.remove(&id)?;
        self.ids.remove(&term.peer);
        self.anchors.remove(&term.peer.namespaces, &term.peer.pods, &id);
        Some(term)
    }

    pub(super) fn join_group(&mut self, id: TermId, group: &GroupId) {
        if let Some(term) = self.all.get_mut(&id) {
            term.groups.insert(group.clone());
        }
    }

    pub(super) fn leave_group(&mut self, id: TermId, group: &GroupId) {
        if let Some(term) = self.all.get_mut(&id) {
            term.groups.remove(group);
        }
    }

    pub(super) fn select(&mut self, id: TermId, member: MemberId) {
        if let Some(term) = self.all.get_mut(&id) {
            term.members.insert(member);
        }
    }

    pub(super) fn deselect(&mut self, id: TermId, member: MemberId) {
        if let Some(term) = self.all.get_mut(&id) {
            term.members.remove(&member);
        }
    }

    /// All that select a pod, sorted.
    pub(super) fn selecting(&self, namespace: &str, known: &KnownLabels<'_>, labels: &Labels) -> Vec<TermId> {
        let candidates = self.anchors.find(namespace, &known.labels, labels).into_iter();
        let selects = |id: &TermId| self.all.get(id).is_some_and(|term| term.peer.selects(namespace, known, labels));
        candidates.filter(selects).collect()
    }
}

impl PodPeer {
    /// Whether a namespace is among those whose pods are meant.
    pub(super) fn covers(&self, namespace: &str, known: &KnownLabels<'_>) -> bool {
        match &self.namespaces {
            PeerScope::Named(name) => name == namespace,
            PeerScope::Selected(selector) => known.surely_match(selector),
        }
    }

    fn selects(&self, namespace: &str, known: &KnownLabels<'_>, labels: &Labels) -> bool {
        self.covers(namespace, known) && self.pods.matches(labels)
    }
}
