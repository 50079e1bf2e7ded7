//! Who can be a peer, and who stands behind an address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use minipod_model::Protocol;

use super::describe::{self, MemberKey};
use super::terms::TermId;
use crate::object::{NamedPort, port_number};

/// A number for a member, as long as it is known.
pub(super) type MemberId = u32;

/// A member as it was seen last.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) key: MemberKey,
    pub(super) namespace: String,
    pub(super) ports: Vec<NamedPort>,
    pub(super) addresses: Vec<IpAddr>,
    /// what selects it, sorted
    pub(super) terms: Vec<TermId>,
}

/// All members.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    all: HashMap<MemberId, Member>,
    ids: BTreeMap<MemberKey, MemberId>,
    next: MemberId,
    by_namespace: BTreeMap<String, BTreeSet<MemberId>>,
    /// who claims an address
    claims: HashMap<IpAddr, Vec<MemberId>>,
    /// addresses of this node's interfaces, of nodes and of the cluster DNS, and how many of these have them: what a status says of them is
    /// not believed
    taken: HashMap<IpAddr, u32>,
}

impl Members {
    pub(super) fn get(&self, id: MemberId) -> Option<&Member> {
        self.all.get(&id)
    }

    pub(super) fn id(&self, key: &MemberKey) -> Option<MemberId> {
        self.ids.get(key).copied()
    }

    pub(super) fn in_namespace(&self, name: &str) -> impl Iterator<Item = MemberId> {
        self.by_namespace.get(name).into_iter().flatten().copied()
    }

    /// The namespaces that have members.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.by_namespace.keys().map(String::as_str)
    }

    /// Everyone who claims an address, believed or not.
    pub(super) fn claimants(&self, address: IpAddr) -> impl Iterator<Item = MemberId> {
        self.claims.get(&address).into_iter().flatten().copied()
    }

    /// Every address that somebody claims.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.claims.keys().copied()
    }

    /// Everyone who is believed to have an address. What holds for it must hold for all of them (semantics, ruling 17).
    pub(super) fn owners(&self, address: IpAddr) -> impl Iterator<Item = &Member> {
        let is_taken = self.taken.contains_key(&address);
        let claimants = self.claimants(address).filter_map(|id| self.all.get(&id));
        claimants.filter(move |member| !is_taken || !matches!(member.key, MemberKey::Pod(_)))
    }

    /// Whether an address belongs to members that are all selected by one of `terms`.
    pub(super) fn is_selected(&self, address: IpAddr, terms: &[TermId]) -> bool {
        let mut owners = self.owners(address).peekable();
        let is_owned = owners.peek().is_some();
        is_owned && owners.all(|member| terms.iter().any(|term| member.terms.binary_search(term).is_ok()))
    }

    /// The number that all owners of an address gave a port name.
    pub(super) fn number(&self, address: IpAddr, name: &str, protocol: Protocol) -> Option<u16> {
        let mut numbers = self.owners(address).map(|member| port_number(&member.ports, name, protocol));
        let first = numbers.next()??;
        numbers.all(|number| number == Some(first)).then_some(first)
    }

    /// Enters what was described, or takes it out. Returns the member as it was; its terms are kept.
    pub(super) fn set(&mut self, key: &MemberKey, now: Option<&describe::Member<'_>>) -> Option<Member> {
        let Some(now) = now else {
            let id = self.ids.remove(key)?;
            let before = self.all.remove(&id)?;
            self.leave(id, &before);
            return Some(before);
        };
        let id = self.ids.get(key).copied().unwrap_or_else(|| {
            self.next = self.next.wrapping_add(1);
            self.ids.insert(key.clone(), self.next);
            self.next
        });
        let before = self.all.remove(&id);
        if let Some(before) = &before {
            self.leave(id, before);
        }
        let member = Member {
            key: key.clone(),
            namespace: now.namespace.to_owned(),
            ports: now.ports.to_vec(),
            addresses: now.addresses.clone(),
            terms: before.as_ref().map(|before| before.terms.clone()).unwrap_or_default(),
        };
        for address in &member.addresses {
            self.claims.entry(*address).or_default().push(id);
        }
        self.by_namespace.entry(member.namespace.clone()).or_default().insert(id);
        self.all.insert(id, member);
        before
    }

    fn leave(&mut self, id: MemberId, member: &Member) {
        for address in &member.addresses {
            if let Some(claims) = self.claims.get_mut(address) {
                claims.retain(|claimant| *claimant != id);
                if claims.is_empty() {
                    self.claims.remove(address);
                }
            }
        }
        if let Some(ids) = self.by_namespace.get_mut(&member.namespace) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_namespace.remove(&member.namespace);
            }
        }
    }

    pub(super) fn set_terms(&mut self, id: MemberId, terms: Vec<TermId>) {
        if let Some(member) = self.all.get_mut(&id) {
            member.terms = terms;
        }
    }

    /// A term that is new selects the member.
    pub(super) fn add_term(&mut self, id: MemberId, term: TermId) {
        if let Some(member) = self.all.get_mut(&id)
            && let Err(place) = member.terms.binary_search(&term)
        {
            member.terms.insert(place, term);
        }
    }

    /// A term that nobody uses any more.
    pub(super) fn remove_term(&mut self, id: MemberId, term: TermId) {
        if let Some(member) = self.all.get_mut(&id)
            && let Ok(place) = member.terms.binary_search(&term)
        {
            member.terms.remove(place);
        }
    }

    /// Somebody who is believed before any status has the address.
    pub(super) fn take(&mut self, address: IpAddr) {
        *self.taken.entry(address).or_default() += 1;
    }

    /// Somebody has it no more.
    pub(super) fn give_back(&mut self, address: IpAddr) {
        if let Some(count) = self.taken.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.taken.remove(&address);
            }
        }
    }
}
