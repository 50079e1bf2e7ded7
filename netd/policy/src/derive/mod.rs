//! What follows from the objects for this node, kept up to date: after a change only what it can touch is looked at again (docs/datapath.md,
//! "What a change costs").
//!
//! Four things follow one from the other: the *members*, who can be a peer, and under which addresses; the *terms*, the selectors of peers in use,
//! with the members that each selects; the *signatures* of this node's pods; and the *groups* and *pairs* of addresses that signatures name.
//! [`Derived::refresh`] brings them up to date in an order in which each is looked at once. What comes out does not depend on the way there:
//! `what_is_kept_up_to_date_is_what_would_be_made_from_nothing`.

mod anchors;
mod describe;
mod groups;
mod members;
mod signatures;
mod terms;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use minipod_model::{IpFamily, LinkName, PodKey};

use crate::cluster::Cluster;
use crate::compile::{NamedPeers, PeerScope, PeerSet, Who};
use crate::index::Dirty;
use crate::intent::{Endpoint, GroupId, Intent, Pair, PairsId, PeerGroup};
use crate::nets::NetSet;
use crate::object::NamedPort;
use crate::services;
use crate::shared::SharedSet;
use describe::{KnownLabels, MemberKey, SubjectKey};
use groups::{Group, Groups, PairPeers, Pairs};
use members::{Member, MemberId, Members};
use signatures::{Difference, Signatures};
use terms::{TermId, Terms};

/// What follows from the objects that were seen last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Derived {
    links: Links,
    /// addresses of nodes
    nodes: BTreeMap<String, BTreeSet<IpAddr>>,
    members: Members,
    terms: Terms,
    signatures: Signatures,
    groups: Groups,
    /// the cluster DNS has been entered
    has_dns: bool,
    intent: Intent,
}

/// Interfaces as they were seen last.
#[derive(Debug, Clone, Default)]
struct Links {
    all: BTreeMap<LinkName, (PodKey, Vec<IpAddr>)>,
    by_pod: BTreeMap<PodKey, BTreeSet<LinkName>>,
}

impl Links {
    fn of_pod(&self, pod: &PodKey) -> Vec<LinkName> {
        self.by_pod.get(pod).into_iter().flatten().cloned().collect()
    }
}

/// What has to be looked at again.
#[derive(Debug, Default)]
struct Touched {
    subjects: BTreeSet<SubjectKey>,
    members: BTreeSet<MemberKey>,
    /// addresses that came to somebody who is believed before any status, or went from one
    taken: BTreeSet<IpAddr>,
    /// groups and pairs made since the last time: to be filled as a whole
    new_groups: BTreeSet<GroupId>,
    new_pairs: BTreeSet<PairsId>,
    /// of groups and pairs that are filled, addresses that may come or go
    in_groups: BTreeMap<GroupId, BTreeSet<IpAddr>>,
    in_pairs: BTreeMap<PairsId, BTreeSet<IpAddr>>,
    /// addresses whose owners' ports may be others now
    ports: BTreeSet<IpAddr>,
}

impl Derived {
    /// What the objects ask of this node, `dirty` of which may be other ones than the last time.
    pub(crate) fn refresh(&mut self, cluster: &Cluster, dirty: &Dirty) -> Intent {
        let mut touched = Touched::default();
        self.enter_dns(cluster, &mut touched);
        self.enter_links(cluster, dirty, &mut touched);
        self.enter_nodes(cluster, dirty, &mut touched);
        self.enter_pods(dirty, &mut touched);
        self.enter_policies(cluster, dirty, &mut touched);
        for namespace in &dirty.namespaces {
            let keys = self.members.in_namespace(namespace).filter_map(|id| self.members.get(id));
            touched.members.extend(keys.map(|member| member.key.clone()));
        }
        // Selectors first, then whom they select: so a member is looked at once, however many selectors are new.
        self.look_at_subjects(cluster, &mut touched);
        self.look_at_members(cluster, &mut touched);
        self.fill(&touched);
        self.correct(&touched);
        if !dirty.services.is_empty() || !dirty.slices.is_empty() {
            let services = services::frontends(cluster);
            if *self.intent.services != services {
                self.intent.services = Arc::new(services);
            }
        }
        self.intent.clone()
    }

    fn enter_dns(&mut self, cluster: &Cluster, touched: &mut Touched) {
        let dns = &cluster.options.cluster_dns;
        if std::mem::replace(&mut self.has_dns, true) || dns.is_empty() {
            return;
        }
        touched.members.insert(MemberKey::Dns);
        for address in dns {
            self.members.take(*address);
            touched.taken.insert(*address);
        }
        self.intent.cluster_dns = dns.iter().copied().collect();
    }

    fn enter_links(&mut self, cluster: &Cluster, dirty: &Dirty, touched: &mut Touched) {
        for link in &dirty.attachments {
            let now =
                cluster.attachments.get(link).map(|attachment| (attachment.pod.clone(), attachment.addresses.clone()));
            let before = self.links.all.remove(link);
            if let Some((pod, _)) = &before
                && let Some(links) = self.links.by_pod.get_mut(pod)
            {
                links.remove(link);
                if links.is_empty() {
                    self.links.by_pod.remove(pod);
                }
            }
            for (pod, addresses) in now.iter().chain(&before) {
                touched.subjects.insert(SubjectKey::Expected(pod.clone()));
                touched.taken.extend(addresses);
            }
            for address in now.iter().flat_map(|(_, addresses)| addresses) {
                self.members.take(*address);
            }
            for address in before.iter().flat_map(|(_, addresses)| addresses) {
                self.members.give_back(*address);
            }
            if let Some((pod, addresses)) = now {
                self.links.by_pod.entry(pod.clone()).or_default().insert(link.clone());
                self.links.all.insert(link.clone(), (pod, addresses));
            }
            touched.members.insert(MemberKey::Link(link.clone()));
            touched.subjects.insert(SubjectKey::Link(link.clone()));
        }
    }

    fn enter_nodes(&mut self, cluster: &Cluster, dirty: &Dirty, touched: &mut Touched) {
        for name in &dirty.nodes {
            let now = cluster.nodes.get(name).map(|node| node.addresses.clone()).unwrap_or_default();
            for address in &now {
                self.members.take(*address);
            }
            let before = self.nodes.remove(name).unwrap_or_default();
            for address in &before {
                self.members.give_back(*address);
            }
            touched.taken.extend(now.symmetric_difference(&before));
            if !now.is_empty() {
                self.nodes.insert(name.clone(), now);
            }
        }
    }

    fn enter_pods(&mut self, dirty: &Dirty, touched: &mut Touched) {
        for pod in &dirty.pods {
            touched.members.insert(MemberKey::Pod(pod.clone()));
            touched.subjects.insert(SubjectKey::Expected(pod.clone()));
            for link in self.links.of_pod(pod) {
                touched.members.insert(MemberKey::Link(link.clone()));
                touched.subjects.insert(SubjectKey::Link(link));
            }
        }
    }

    fn enter_policies(&mut self, cluster: &Cluster, dirty: &Dirty, touched: &mut Touched) {
        for key in &dirty.policies {
            touched.subjects.extend(self.signatures.selected_by(key).cloned());
            let policy = cluster.policies.get(key);
            self.signatures.file(key, policy);
            let Some(policy) = policy else { continue };
            for subject in self.signatures.in_namespace(&key.namespace) {
                let described = describe::subject(cluster, subject, |pod| self.links.of_pod(pod));
                let labels = described.and_then(|subject| subject.labels);
                if labels.is_some_and(|labels| policy.subjects.matches(labels)) {
                    touched.subjects.insert(subject.clone());
                }
            }
        }
    }

    fn look_at_subjects(&mut self, cluster: &Cluster, touched: &mut Touched) {
        let mut difference = Difference::default();
        for key in &touched.subjects {
            let now = describe::subject(cluster, key, |pod| self.links.of_pod(pod));
            self.signatures.look(cluster, key, now.as_ref(), &mut difference);
        }
        for compiled in difference.compiled {
            for (id, set) in compiled.groups {
                self.acquire_group(cluster, id, &set, touched);
            }
            for (id, named) in compiled.pairs {
                self.acquire_pairs(cluster, id, named, touched);
            }
        }
        for id in &difference.groups {
            self.release_group(id, touched);
        }
        for id in &difference.pairs {
            self.release_pairs(id, touched);
        }
        if !difference.made.is_empty() || !difference.gone.is_empty() {
            let signatures = Arc::make_mut(&mut self.intent.signatures);
            signatures.retain(|id, _| !difference.gone.contains(id));
            signatures.extend(difference.made);
        }
        for key in &touched.subjects {
            if let SubjectKey::Link(link) = key {
                self.enter_endpoint(cluster, link);
            }
        }
    }

    fn enter_endpoint(&mut self, cluster: &Cluster, link: &LinkName) {
        let signature = self.signatures.of(&SubjectKey::Link(link.clone())).cloned();
        let now = cluster.attachments.get(link).zip(signature).map(|(attachment, signature)| {
            let families = IpFamily::ALL.into_iter().filter(|family| cluster.options.families.contains(family));
            let of_family = |family| attachment.addresses.iter().find(|a| IpFamily::of(**a) == family).copied();
            Endpoint { pod: attachment.pod.clone(), addresses: families.filter_map(of_family).collect(), signature }
        });
        if self.intent.endpoints.get(link).map(|endpoint| &**endpoint) == now.as_ref() {
            return;
        }
        let endpoints = Arc::make_mut(&mut self.intent.endpoints);
        match now {
            Some(now) => endpoints.insert(link.clone(), Arc::new(now)),
            None => endpoints.remove(link),
        };
    }

    fn acquire_group(&mut self, cluster: &Cluster, id: GroupId, set: &PeerSet, touched: &mut Touched) {
        if let Some(group) = self.groups.by_id.get_mut(&id) {
            group.users += 1;
            return;
        }
        let terms = self.acquire_terms(cluster, set, touched);
        let nets = set.nets.without(&dns(cluster)).prefixes().into_iter();
        let nets = nets.filter(|net| cluster.options.families.contains(&IpFamily::of(net.addr()))).collect();
        self.groups.by_id.insert(id.clone(), Group { terms, nets: Arc::new(nets), users: 1 });
        touched.new_groups.insert(id);
    }

    fn acquire_pairs(&mut self, cluster: &Cluster, id: PairsId, named: NamedPeers, touched: &mut Touched) {
        if let Some(pairs) = self.groups.pairs.get_mut(&id) {
            pairs.users += 1;
            return;
        }
        let NamedPeers { who, name, protocol } = named;
        let who = match who {
            Who::Everyone => PairPeers::Everyone,
            Who::Some(set) => {
                let nets = set.nets.without(&dns(cluster));
                PairPeers::Some { terms: self.acquire_terms(cluster, &set, touched), nets }
            }
        };
        self.groups.add_pairs(id.clone(), Pairs { who, name, protocol, users: 1 });
        touched.new_pairs.insert(id);
    }

    fn acquire_terms(&mut self, cluster: &Cluster, set: &PeerSet, touched: &Touched) -> Vec<TermId> {
        let mut terms: Vec<TermId> = Vec::with_capacity(set.pods.len());
        for peer in &set.pods {
            let (id, is_new) = self.terms.acquire(peer);
            terms.push(id);
            if is_new {
                self.find_members(cluster, id, &touched.members);
            }
        }
        terms.sort_unstable();
        terms
    }

    /// Whom a new term selects, of those that are not going to be looked at anyway.
    fn find_members(&mut self, cluster: &Cluster, id: TermId, later: &BTreeSet<MemberKey>) {
        let Some(peer) = self.terms.get(id).map(|term| term.peer.clone()) else { return };
        let namespaces: Vec<String> = match &peer.namespaces {
            PeerScope::Named(name) => vec![name.clone()],
            PeerScope::Selected(_) => {
                let covered =
                    self.members.namespaces().filter(|name| peer.covers(name, &KnownLabels::of(cluster, name)));
                covered.map(str::to_owned).collect()
            }
        };
        let found: Vec<MemberId> = namespaces
            .iter()
            .flat_map(|namespace| self.members.in_namespace(namespace))
            .filter(|member| {
                let key = self.members.get(*member).map(|member| &member.key).filter(|key| !later.contains(*key));
                let described = key.and_then(|key| describe::member(cluster, key));
                described.is_some_and(|described| peer.pods.matches(&described.labels))
            })
            .collect();
        for member in found {
            self.terms.select(id, member);
            self.members.add_term(member, id);
        }
    }

    fn release_group(&mut self, id: &GroupId, touched: &mut Touched) {
        let Some(group) = self.groups.release_group(id) else { return };
        for term in &group.terms {
            self.terms.leave_group(*term, id);
        }
        self.release_terms(&group.terms);
        if !touched.new_groups.remove(id) {
            Arc::make_mut(&mut self.intent.groups).remove(id);
        }
    }

    fn release_pairs(&mut self, id: &PairsId, touched: &mut Touched) {
        let Some(pairs) = self.groups.release_pairs(id) else { return };
        self.release_terms(pairs.terms());
        if !touched.new_pairs.remove(id) {
            Arc::make_mut(&mut self.intent.pairs).remove(id);
        }
    }

    fn release_terms(&mut self, terms: &[TermId]) {
        for id in terms {
            let members = self.terms.release(*id).map(|term| term.members).unwrap_or_default();
            for member in members {
                self.members.remove_term(member, *id);
            }
        }
    }

    fn look_at_members(&mut self, cluster: &Cluster, touched: &mut Touched) {
        let taken = std::mem::take(&mut touched.taken);
        for address in &taken {
            self.touch_owners(*address, touched);
        }
        for key in std::mem::take(&mut touched.members) {
            self.look_at_member(cluster, &key, touched);
        }
        for address in &taken {
            self.touch_owners(*address, touched);
        }
        for address in std::mem::take(&mut touched.ports) {
            for owner in self.members.owners(address) {
                touch_ports(&self.groups, &owner.ports, address, touched);
            }
        }
    }

    fn look_at_member(&mut self, cluster: &Cluster, key: &MemberKey, touched: &mut Touched) {
        let now = describe::member(cluster, key);
        let terms = now.as_ref().map_or_else(Vec::new, |now| {
            self.terms.selecting(now.namespace, &KnownLabels::of(cluster, now.namespace), &now.labels)
        });
        let before = self.members.id(key).and_then(|id| Some((id, self.members.get(id)?)));
        if let Some((_, before)) = before
            && let Some(now) = &now
            && before.namespace == now.namespace
            && before.addresses == now.addresses
            && before.ports == *now.ports
            && before.terms == terms
        {
            return;
        }
        let old: BTreeSet<IpAddr> = before.iter().flat_map(|(_, before)| before.addresses.iter().copied()).collect();
        let new: BTreeSet<IpAddr> = now.iter().flat_map(|now| now.addresses.iter().copied()).collect();
        // Who else claims an address that comes or goes is judged together with this one, or no more.
        let moved: Vec<IpAddr> = old.symmetric_difference(&new).copied().collect();
        for address in &moved {
            self.touch_owners(*address, touched);
        }
        let id_before = before.map(|(id, _)| id);
        let before = self.members.set(key, now.as_ref());
        let id = self.members.id(key).or(id_before);
        let (gone, fresh) = term_differences(before.as_ref(), &terms);
        for term in gone.iter().chain(&fresh) {
            for group in self.terms.get(*term).into_iter().flat_map(|term| &term.groups) {
                touched.in_groups.entry(group.clone()).or_default().extend(old.union(&new));
            }
        }
        if let Some(id) = id {
            for term in &gone {
                self.terms.deselect(*term, id);
            }
            for term in &fresh {
                self.terms.select(*term, id);
            }
            self.members.set_terms(id, terms);
        }
        for address in &moved {
            self.touch_owners(*address, touched);
        }
        for address in old.union(&new) {
            touched.ports.insert(*address);
            let ports = before.as_ref().map_or(&[][..], |before| before.ports.as_slice());
            touch_ports(&self.groups, ports, *address, touched);
        }
    }

    /// An address has other owners, or is going to: every group that it may be in because of one who claims it is looked at.
    fn touch_owners(&self, address: IpAddr, touched: &mut Touched) {
        touched.ports.insert(address);
        for member in self.members.claimants(address).filter_map(|id| self.members.get(id)) {
            touch_ports(&self.groups, &member.ports, address, touched);
            for term in member.terms.iter().filter_map(|term| self.terms.get(*term)) {
                for group in &term.groups {
                    touched.in_groups.entry(group.clone()).or_default().insert(address);
                }
            }
        }
    }

    /// Fills groups and pairs that are new.
    fn fill(&mut self, touched: &Touched) {
        for id in &touched.new_groups {
            let Some(group) = self.groups.by_id.get(id) else { continue };
            let members: BTreeSet<MemberId> = group
                .terms
                .iter()
                .filter_map(|term| self.terms.get(*term))
                .flat_map(|term| &term.members)
                .copied()
                .collect();
            let addresses = members.iter().filter_map(|id| self.members.get(*id)).flat_map(|member| &member.addresses);
            let addresses = addresses.copied().filter(|address| self.members.is_selected(*address, &group.terms));
            let filled = PeerGroup { pods: addresses.collect(), nets: Arc::clone(&group.nets) };
            for term in group.terms.clone() {
                self.terms.join_group(term, id);
            }
            Arc::make_mut(&mut self.intent.groups).insert(id.clone(), filled);
        }
        for id in &touched.new_pairs {
            let Some(pairs) = self.groups.pairs.get(id) else { continue };
            let filled: SharedSet<_> =
                self.members.addresses().filter_map(|address| pairs.pair(&self.members, address)).collect();
            Arc::make_mut(&mut self.intent.pairs).insert(id.clone(), filled);
        }
    }

    /// Brings groups and pairs up to date at addresses that may have come or gone.
    fn correct(&mut self, touched: &Touched) {
        for (id, addresses) in &touched.in_groups {
            let Some(group) = self.groups.by_id.get(id) else { continue };
            let Some(there) = self.intent.groups.get(id) else { continue };
            let is_wrong =
                |address: &&IpAddr| self.members.is_selected(**address, &group.terms) != there.pods.contains(address);
            let wrong: Vec<IpAddr> = addresses.iter().filter(is_wrong).copied().collect();
            if wrong.is_empty() {
                continue;
            }
            let Some(group) = Arc::make_mut(&mut self.intent.groups).get_mut(id) else { continue };
            for address in wrong {
                if !group.pods.remove(&address) {
                    group.pods.insert(address);
                }
            }
        }
        for (id, addresses) in &touched.in_pairs {
            let Some(pairs) = self.groups.pairs.get(id) else { continue };
            let Some(there) = self.intent.pairs.get(id) else { continue };
            let mut filled = there.clone();
            for address in addresses {
                let now = pairs.pair(&self.members, *address);
                let first = Pair { address: *address, protocol: pairs.protocol, port: 0 };
                let of_address = there.starting_at(&first).take_while(|pair| pair.address == *address);
                for pair in of_address.filter(|pair| Some(**pair) != now) {
                    filled.remove(pair);
                }
                filled.extend(now);
            }
            if filled != *there {
                Arc::make_mut(&mut self.intent.pairs).insert(id.clone(), filled);
            }
        }
    }
}

fn dns(cluster: &Cluster) -> NetSet {
    let addresses = cluster.options.cluster_dns.iter().map(|address| NetSet::of((*address).into()));
    addresses.fold(NetSet::default(), |all, one| all.union(&one))
}

/// Terms that select a member no more, and those that do now. Both lists are sorted.
fn term_differences(before: Option<&Member>, now: &[TermId]) -> (Vec<TermId>, Vec<TermId>) {
    let before = before.map_or(&[][..], |before| before.terms.as_slice());
    let only = |one: &[TermId], other: &[TermId]| -> Vec<TermId> {
        one.iter().copied().filter(|term| other.binary_search(term).is_err()).collect()
    };
    (only(before, now), only(now, before))
}

fn touch_ports(groups: &Groups, ports: &[NamedPort], address: IpAddr, touched: &mut Touched) {
    for port in ports {
        for id in groups.of_port(&port.name, port.protocol) {
            touched.in_pairs.entry(id.clone()).or_default().insert(address);
        }
    }
}
