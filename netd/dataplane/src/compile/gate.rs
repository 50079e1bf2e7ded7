//! The two gates: nothing comes from an interface but its own pod's address, and nothing goes to an interface but to its own pod
//! (semantics, rulings 5 and 18).

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use minipod_model::{IpFamily, LinkName};

use super::Compiler;
use crate::name::{ChainName, SetName};
use crate::spec::{Chain, Directions, Entry, Hook, Interface, Match, Reason, Rule, SetKind, Table, Target};

/// Router solicitation, neighbour solicitation and advertisement (RFC 4861, section 4).
pub(super) const FROM_POD: [u8; 3] = [133, 135, 136];
/// What the node sends a pod: neighbour solicitation and advertisement.
const TO_POD: [u8; 2] = [135, 136];
const ROUTER_ADVERTISEMENT: u8 = 134;
/// Multicast listener reports, done, and reports of version 2 (RFC 2710, RFC 3810).
const LISTENER: [u8; 3] = [131, 132, 143];
/// A packet that no router has forwarded (RFC 4861, section 7.1).
const NOT_FORWARDED: Match = Match::HopLimit(255);

/// Which pod is behind which interface.
pub(crate) fn gate_set(family: IpFamily) -> SetName {
    SetName::fixed("gate", family)
}

/// A pod's address behind its interface.
pub(crate) fn gate_entry(address: IpAddr, link: &LinkName) -> Entry {
    Entry::NetIface(IpNet::from(address), link.clone())
}

impl Compiler<'_> {
    pub(super) fn gates(&mut self) {
        let gate = gate_set(self.family);
        let family = self.family;
        let pairs: Vec<Entry> = self
            .intent
            .endpoints
            .iter()
            .flat_map(|(link, endpoint)| endpoint.addresses.iter().map(move |address| (link, *address)))
            .filter(|(_, address)| IpFamily::of(*address) == family)
            .map(|(link, address)| gate_entry(address, link))
            .collect();
        self.set(gate.clone(), SetKind::HashNetIface(family), pairs);
        self.gate_from_pods(&gate);
        self.gate_to_pods(&gate);
    }

    fn gate_from_pods(&mut self, gate: &SetName) {
        let from = ChainName::fixed("FROM");
        let known = Rule::new(vec![Match::Set(gate.clone(), Directions::SrcSrc)], Target::Return);
        let drop = Rule::always(Target::Drop);
        let mut rules = vec![known.clone(), Self::tell(Reason::Spoofed), drop.clone()];
        if self.family == IpFamily::V6 {
            let icmp = ChainName::fixed("FROM-ICMP");
            rules.insert(0, Rule::new(vec![Match::Icmp], Target::Goto(icmp.clone())));
            let mut discovery = vec![Rule::new(vec![Match::Icmpv6Type(ROUTER_ADVERTISEMENT)], Target::Drop), known];
            // Link-local destinations are not forwarded (RFC 4291, sections 2.5.6 and 2.7): this reaches the node only.
            for kind in FROM_POD {
                discovery.extend(link_local().map(|net| {
                    let to = Match::Destination(net);
                    Rule::new(vec![to, Match::Icmpv6Type(kind), NOT_FORWARDED], Target::Return)
                }));
            }
            // A pod's kernel reports the groups that it joins, from an address that is not the pod's, whenever its link comes up. Nobody here
            // routes multicast: they are dropped, and nobody need hear of it.
            for kind in LISTENER {
                let to = Match::Destination(link_local_multicast());
                discovery.push(Rule::new(vec![to, Match::Icmpv6Type(kind)], Target::Drop));
            }
            discovery.extend([Self::tell(Reason::Spoofed), drop]);
            self.chain(Table::Raw, icmp, Chain::new(discovery));
        }
        self.chain(Table::Raw, from.clone(), Chain::new(rules));
        // Only one jump can be the first.
        match self.facts.vxlan {
            Some(_) => self.vxlan_gate(&from),
            None => self.jump(Table::Raw, Hook::Prerouting, vec![Match::In(Interface::AnyPod)], from),
        }
    }

    /// For the node's own packets, on which there is no verdict. What is forwarded to a pod needs a signature of the pod's address, which is there as
    /// long as the pod's interface is known.
    fn gate_to_pods(&mut self, gate: &SetName) {
        let to = ChainName::fixed("TO");
        // What the node itself sends back on a connection that it may not have any more: the verdict sees only what comes in.
        let mut rules = vec![self.drop_to_pods()];
        rules.push(Rule::new(vec![Match::Set(gate.clone(), Directions::DstDst)], Target::Return));
        if self.family == IpFamily::V6 {
            rules.extend(TO_POD.map(|kind| Rule::new(vec![Match::Icmpv6Type(kind), NOT_FORWARDED], Target::Return)));
        }
        rules.push(Rule::always(Target::Drop));
        self.chain(Table::Mangle, to.clone(), Chain::new(rules));
        self.jump(Table::Mangle, Hook::Output, vec![Match::Out(Interface::AnyPod)], to);
    }
}

/// Link-local unicast and multicast.
fn link_local() -> [IpNet; 2] {
    [net(0xfe80, 10), link_local_multicast()]
}

fn link_local_multicast() -> IpNet {
    net(0xff02, 16)
}

fn net(first: u16, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), length))
}
