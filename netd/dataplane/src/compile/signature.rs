//! One pair of chains for each signature, and the sets of the peers that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use minipod_model::IpFamily;
use minipod_model::hash::short_hash;
use netd_policy::intent::{Allowed, GroupId, Intent, Pair, PairsId, Peers, PortClass, Signature, SignatureId};
use netd_policy::shared::SharedSet;

use super::Compiler;
use super::deny::deny;
use super::mangle::{egress_tree, ingress_tree, next_set, signature_set};
use crate::facts::MarkBits;
use crate::index::Indexes;
use crate::name::{ChainName, SetName, tag};
use crate::spec::{
    Chain, ChainKey, Content, Directions, Entry, MarkValue, Match, Reason, Rule, SetKind, SetSpec, Table, Target,
};
use crate::tree::{Leaves, Tree};

/// Ports that one `multiport` match takes; a range counts twice (iptables-extensions(8)).
const MULTIPORT_MAX: usize = 15;

/// Chain kind of what a signature lets out.
pub(crate) const EGRESS: &str = "SE";
/// Chain kind of what a signature lets in.
pub(crate) const INGRESS: &str = "SI";

/// The tag that ends the names of a signature's chains.
#[must_use]
pub fn tag_of(id: &SignatureId) -> String {
    tag(&id.0)
}

/// The sets of a group: its pods, its networks.
pub(crate) fn group_sets(id: &GroupId, family: IpFamily) -> (SetName, SetName) {
    (SetName::of("p", &id.0, family), SetName::of("n", &id.0, family))
}

/// The set of a list of pairs.
pub(crate) fn pairs_set(id: &PairsId, family: IpFamily) -> SetName {
    SetName::of("q", &id.0, family)
}

/// The pairs of a family.
pub(crate) fn pairs_of(pairs: &SharedSet<Pair>, family: IpFamily) -> SharedSet<Pair> {
    pairs.iter().filter(|pair| IpFamily::of(pair.address) == family).copied().collect()
}

/// The mark that stands for a signature; `None` if there are no rules for it, and so nothing passes.
pub(crate) fn signature_mark(id: &SignatureId, marks: MarkBits, indexes: &Indexes) -> Option<MarkValue> {
    let index = indexes.signatures.get(&tag_of(id))?;
    Some(MarkValue { value: marks.mark_of(*index), mask: marks.scratch() })
}

#[derive(Clone, Copy)]
enum Side {
    /// peers are destinations
    Egress,
    /// peers are sources
    Ingress,
}

impl Compiler<'_> {
    pub(super) fn signatures(&mut self) {
        let (mut egress, mut ingress) = (Leaves::new(), Leaves::new());
        let intent = self.intent;
        let changed = self.made.map(|made| changed_names(made.intent, intent));
        for (id, signature) in intent.signatures.iter() {
            let Some(index) = self.spec.indexes.signatures.get(&tag_of(id)).copied() else { continue };
            let (out, into) = (ChainName::of(EGRESS, &id.0), ChainName::of(INGRESS, &id.0));
            let is_as_made = self.made.is_some_and(|made| made.intent.signatures.get(id) == Some(signature))
                && changed.as_ref().is_some_and(|changed| !names_any(signature, changed));
            for (name, allowed, side) in
                [(&out, &signature.egress, Side::Egress), (&into, &signature.ingress, Side::Ingress)]
            {
                if !is_as_made || !self.take_over(name, allowed.as_ref()) {
                    let chain = self.allowed(allowed.as_ref(), side);
                    self.chain(Table::Mangle, name.clone(), chain);
                }
            }
            egress.insert(index, out);
            ingress.insert(index, into);
        }
        let marks = self.facts.marks;
        for (root, leaves) in [(egress_tree(), egress), (ingress_tree(), ingress)] {
            // An address that belongs to no signature passes nothing (ruling 5).
            let otherwise = vec![Rule::always(Target::Drop)];
            self.tree(Table::Mangle, root, Tree { leaves, marks, otherwise });
        }
        self.signature_map();
        self.peer_sets();
    }

    /// Takes a signature's chain from what was made before, with the sets of ports that it names; `false`: it is not there.
    fn take_over(&mut self, name: &ChainName, allowed: Option<&Allowed>) -> bool {
        let key = ChainKey { family: self.family, table: Table::Mangle, name: name.clone() };
        let Some(made) = self.made else { return false };
        let Some(chain) = made.spec.chains.get(&key) else { return false };
        for set in allowed.iter().flat_map(|allowed| &allowed.ports).filter_map(port_set) {
            let Some(ports) = made.spec.sets.get(&set) else { return false };
            self.spec.sets.insert(set, ports.clone());
        }
        self.spec.chains.insert(key, Arc::clone(chain));
        true
    }

    fn signature_map(&mut self) {
        let mut entries = BTreeMap::new();
        for endpoint in self.intent.endpoints.values() {
            // A pod whose signature is missing is left out and so passes nothing.
            let Some(mark) = signature_mark(&endpoint.signature, self.facts.marks, &self.spec.indexes) else {
                continue;
            };
            for address in endpoint.addresses.iter().filter(|address| IpFamily::of(**address) == self.family) {
                entries.insert(Entry::Ip(*address), Some(mark));
            }
        }
        let kind = SetKind::HashIpMark(self.family);
        let set = SetSpec { kind, content: Content::of(entries) };
        self.spec.sets.insert(signature_set(self.family), set);
        self.set(next_set(self.family), kind, []);
    }

    fn peer_sets(&mut self) {
        let family = self.family;
        let intent = self.intent;
        for (id, group) in intent.groups.iter() {
            let (pods, nets) = group_sets(id, family);
            let content = Content::Addresses(group.pods.of(family).clone());
            self.spec.sets.insert(pods, SetSpec { kind: SetKind::HashIp(family), content });
            let networks: Vec<Entry> =
                group.nets.iter().filter(|net| family_of(**net) == family).flat_map(|net| halves(*net)).collect();
            if !networks.is_empty() {
                self.set(nets, SetKind::HashNet(family), networks);
            }
        }
        for (id, pairs) in intent.pairs.iter() {
            let content = Content::Pairs(pairs_of(pairs, family));
            self.spec.sets.insert(pairs_set(id, family), SetSpec { kind: SetKind::HashIpPort(family), content });
        }
    }

    fn allowed(&mut self, allowed: Option<&Allowed>, side: Side) -> Chain {
        let Some(allowed) = allowed else { return Chain::new(vec![Rule::always(Target::Return)]) };
        let mut rules = Vec::new();
        if let Some(peers) = &allowed.any_port {
            rules.extend(self.peers(&[], peers, side));
        }
        for class in &allowed.ports {
            let ports = self.ports(class);
            rules.extend(self.peers(&ports, &class.peers, side));
        }
        for id in &allowed.named {
            if self.intent.pairs.contains_key(id) {
                let pairs = Match::Set(pairs_set(id, self.family), Directions::DstDst);
                rules.push(Rule::new(vec![pairs], Target::Return));
            }
        }
        rules.push(Rule::always(deny(match side {
            Side::Egress => Reason::Egress,
            Side::Ingress => Reason::Ingress,
        })));
        Chain::new(rules)
    }

    /// Rules that let `peers` pass where `ports` match.
    fn peers(&self, ports: &[Match], peers: &Peers, side: Side) -> Vec<Rule> {
        let rule = |more: Vec<Match>| Rule::new([ports, &more].concat(), Target::Return);
        let id = match peers {
            Peers::Everyone => return vec![rule(Vec::new())],
            Peers::Group(id) => id,
        };
        let direction = match side {
            Side::Egress => Directions::Dst,
            Side::Ingress => Directions::Src,
        };
        // A group that is not there has no members.
        let Some(group) = self.intent.groups.get(id) else { return Vec::new() };
        let (pods, nets) = group_sets(id, self.family);
        let mut rules = vec![rule(vec![Match::Set(pods, direction)])];
        if group.nets.iter().any(|net| family_of(*net) == self.family) {
            rules.push(rule(vec![Match::Set(nets, direction)]));
        }
        rules
    }

    /// Matches of a class's protocol and ports; many ranges are one set.
    fn ports(&mut self, class: &PortClass) -> Vec<Match> {
        let mut matches = vec![Match::Protocol(class.protocol)];
        if class.ranges.contains(&(0, u16::MAX)) {
            return matches;
        }
        let Some(set) = port_set(class) else {
            matches.push(Match::DestinationPorts(class.ranges.clone()));
            return matches;
        };
        let ports = class.ranges.iter().flat_map(|(low, high)| (*low..=*high).map(Entry::Port));
        self.set(set.clone(), SetKind::BitmapPort, ports);
        matches.push(Match::Set(set, Directions::Dst));
        matches
    }
}

/// The set of a class's ports, if they are too many for a match.
fn port_set(class: &PortClass) -> Option<SetName> {
    let slots: usize = class.ranges.iter().map(|(low, high)| if low == high { 1 } else { 2 }).sum();
    if slots <= MULTIPORT_MAX {
        return None;
    }
    let text: Vec<String> = class.ranges.iter().map(|(low, high)| format!("{low}-{high}")).collect();
    Some(SetName::shared("b", &short_hash(text.iter().map(String::as_str), 16)))
}

/// Names of peers by which a signature's rules can become others though the signature stays: those that came or went, and groups whose
/// networks are others.
#[derive(Debug, Default)]
struct Changed<'a> {
    groups: BTreeSet<&'a GroupId>,
    pairs: BTreeSet<&'a PairsId>,
}

fn changed_names<'a>(old: &'a Intent, new: &'a Intent) -> Changed<'a> {
    let mut changed = Changed::default();
    if !Arc::ptr_eq(&old.groups, &new.groups) {
        let has_changed = |one: &'a Intent, other: &'a Intent| {
            let groups = one
                .groups
                .iter()
                .filter(|(id, group)| other.groups.get(*id).is_none_or(|other| other.nets != group.nets));
            groups.map(|(id, _)| id).collect::<BTreeSet<_>>()
        };
        changed.groups = has_changed(old, new);
        changed.groups.extend(has_changed(new, old));
    }
    if !Arc::ptr_eq(&old.pairs, &new.pairs) {
        let keys = |intent: &'a Intent| intent.pairs.keys().collect::<BTreeSet<_>>();
        changed.pairs = keys(old).symmetric_difference(&keys(new)).copied().collect();
    }
    changed
}

fn names_any(signature: &Signature, changed: &Changed<'_>) -> bool {
    if changed.groups.is_empty() && changed.pairs.is_empty() {
        return false;
    }
    signature.ingress.iter().chain(&signature.egress).any(|allowed| {
        let peers = allowed.any_port.iter().chain(allowed.ports.iter().map(|class| &class.peers));
        let mut groups = peers.filter_map(|peers| match peers {
            Peers::Everyone => None,
            Peers::Group(id) => Some(id),
        });
        groups.any(|id| changed.groups.contains(id)) || allowed.named.iter().any(|id| changed.pairs.contains(id))
    })
}

fn family_of(net: IpNet) -> IpFamily {
    IpFamily::of(net.addr())
}

/// A network as a `hash:net` takes it: a /0 as its two halves (ruling 15).
fn halves(net: IpNet) -> Vec<Entry> {
    if net.prefix_len() > 0 {
        return vec![Entry::Net(net.trunc())];
    }
    match net {
        IpNet::V4(_) => [[0, 0, 0, 0], [128, 0, 0, 0]]
            .map(|octets| Entry::Net(IpNet::V4(Ipv4Net::new_assert(octets.into(), 1))))
            .to_vec(),
        IpNet::V6(_) => [0_u16, 0x8000]
            .map(|first| Entry::Net(IpNet::V6(Ipv6Net::new_assert([first, 0, 0, 0, 0, 0, 0, 0].into(), 1))))
            .to_vec(),
    }
}
