//! One pair of chains for each signature, and the sets of the peers that they name.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use minipod_model::IpFamily;
use minipod_model::hash::short_hash;
use netd_policy::intent::{Allowed, GroupId, Pair, PairsId, Peers, PortClass, SignatureId};

use super::Compiler;
use super::deny::deny;
use super::mangle::{egress_tree, ingress_tree, next_set, signature_set};
use crate::facts::MarkBits;
use crate::index::Indexes;
use crate::name::{ChainName, SetName, tag};
use crate::spec::{Chain, Content, Directions, Entry, MarkValue, Match, Reason, Rule, SetKind, SetSpec, Table, Target};
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

/// A pair as an element of a set of the family.
pub(crate) fn pair_entry(pair: &Pair, family: IpFamily) -> Option<Entry> {
    (IpFamily::of(pair.address) == family).then_some(Entry::IpPort(pair.address, pair.protocol, pair.port))
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
        for (id, signature) in &intent.signatures {
            let Some(index) = self.spec.indexes.signatures.get(&tag_of(id)).copied() else { continue };
            let (out, into) = (ChainName::of(EGRESS, &id.0), ChainName::of(INGRESS, &id.0));
            let chain = self.allowed(signature.egress.as_ref(), Side::Egress);
            self.chain(Table::Mangle, out.clone(), chain);
            let chain = self.allowed(signature.ingress.as_ref(), Side::Ingress);
            self.chain(Table::Mangle, into.clone(), chain);
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
        let set = SetSpec { kind, content: Content::Entries(entries) };
        self.spec.sets.insert(signature_set(self.family), set);
        self.set(next_set(self.family), kind, []);
    }

    fn peer_sets(&mut self) {
        let family = self.family;
        for (id, group) in &self.intent.groups {
            let (pods, nets) = group_sets(id, family);
            let addresses = group.pods.iter().filter(|address| IpFamily::of(**address) == family);
            self.set(pods, SetKind::HashIp(family), addresses.map(|address| Entry::Ip(*address)));
            let networks: Vec<Entry> =
                group.nets.iter().filter(|net| family_of(**net) == family).flat_map(|net| halves(*net)).collect();
            if !networks.is_empty() {
                self.set(nets, SetKind::HashNet(family), networks);
            }
        }
        for (id, pairs) in &self.intent.pairs {
            let entries = pairs.iter().filter_map(|pair| pair_entry(pair, family));
            self.set(pairs_set(id, family), SetKind::HashIpPort(family), entries);
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
        let slots: usize = class.ranges.iter().map(|(low, high)| if low == high { 1 } else { 2 }).sum();
        if class.ranges.contains(&(0, u16::MAX)) {
            return matches;
        }
        if slots <= MULTIPORT_MAX {
            matches.push(Match::DestinationPorts(class.ranges.clone()));
            return matches;
        }
        let text: Vec<String> = class.ranges.iter().map(|(low, high)| format!("{low}-{high}")).collect();
        let set = SetName::shared("b", &short_hash(text.iter().map(String::as_str), 16));
        let ports = class.ranges.iter().flat_map(|(low, high)| (*low..=*high).map(Entry::Port));
        self.set(set.clone(), SetKind::BitmapPort, ports);
        matches.push(Match::Set(set, Directions::Dst));
        matches
    }
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
