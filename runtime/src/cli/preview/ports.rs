//! Ranges of ports that policies cannot tell apart, and how they are written. Pure.

use std::collections::{BTreeMap, BTreeSet};

use minipod_model::Protocol;
use netd_policy::Transport;
use netd_policy::object::{NamedPort, PortNumbers, Rule, RulePorts};
use serde::Serialize;

/// Ports of one protocol, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Ports {
    /// none: ICMP and every other protocol without ports, which policies do not tell apart either
    pub(super) protocol: Option<Protocol>,
    pub(super) first: u16,
    pub(super) last: u16,
}

const ICMP: Ports = Ports { protocol: None, first: 0, last: 0 };

impl Ports {
    /// A packet to any of them.
    pub(super) fn transport(self) -> Transport {
        self.protocol.map_or(Transport::Other, |protocol| Transport::Port(protocol, self.first))
    }
}

/// Where rules cut the ports of each protocol: the first ports of ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cuts(BTreeMap<Protocol, BTreeSet<u16>>);

impl Cuts {
    pub(super) fn add_rules(&mut self, rules: &[Rule]) {
        let listed = rules.iter().flat_map(|rule| match &rule.ports {
            RulePorts::Listed(ports) => ports.as_slice(),
            RulePorts::Every => &[],
        });
        for port in listed {
            if let PortNumbers::Range(first, last) = port.numbers {
                self.add(port.protocol, first, last);
            }
        }
    }

    /// What a rule may mean by a name.
    pub(super) fn add_names(&mut self, ports: &[NamedPort]) {
        for port in ports {
            self.add(port.protocol, port.number, port.number);
        }
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (protocol, firsts) in &other.0 {
            self.0.entry(*protocol).or_default().extend(firsts);
        }
    }

    fn add(&mut self, protocol: Protocol, first: u16, last: u16) {
        self.0.entry(protocol).or_default().extend([Some(first), last.checked_add(1)].into_iter().flatten());
    }

    /// Everything, in parts of which each is allowed or denied as a whole.
    pub(super) fn parts(&self) -> Vec<Ports> {
        let mut parts = Vec::new();
        for protocol in Protocol::ALL {
            let mut first = 1;
            for next in self.0.get(&protocol).into_iter().flatten().copied().filter(|next| *next > 1) {
                parts.push(Ports { protocol: Some(protocol), first, last: next - 1 });
                first = next;
            }
            parts.push(Ports { protocol: Some(protocol), first, last: u16::MAX });
        }
        parts.push(ICMP);
        parts
    }
}

/// Neighbours as one.
pub(super) fn joined(parts: &[Ports]) -> Vec<Ports> {
    let mut joined: Vec<Ports> = Vec::new();
    for part in parts {
        match joined.last_mut() {
            Some(before) if before.protocol == part.protocol && before.last.checked_add(1) == Some(part.first) => {
                before.last = part.last;
            }
            _ => joined.push(*part),
        }
    }
    joined
}

/// These of `all`, in as few words as may be.
pub(super) fn words(these: &[Ports], all: &[Ports]) -> String {
    let others: Vec<Ports> = all.iter().filter(|part| !these.contains(part)).copied().collect();
    let (these, others) = (joined(these), joined(&others));
    let list = |ports: &[Ports]| ports.iter().map(|ports| one(*ports)).collect::<Vec<_>>().join(", ");
    match others.len() {
        0 => "every port".to_owned(),
        few if few < these.len() => format!("every port but {}", list(&others)),
        _ => list(&these),
    }
}

fn one(ports: Ports) -> String {
    let Some(protocol) = ports.protocol else { return "ICMP".to_owned() };
    match (ports.first, ports.last) {
        (1, u16::MAX) => format!("all {protocol}"),
        (first, last) if first == last => format!("{first}/{protocol}"),
        (first, last) => format!("{first}-{last}/{protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use minipod_model::Protocol;

    use super::{Cuts, words};

    #[test]
    fn ports_that_change_are_told_in_the_fewest_words() {
        let mut cuts = Cuts::default();
        cuts.add(Protocol::Tcp, 80, 90);
        cuts.add(Protocol::Tcp, 65535, 65535);
        let all = cuts.parts();
        let text: Vec<String> = all.iter().map(|part| words(&[*part], &all)).collect();
        assert_eq!(text, ["1-79/TCP", "80-90/TCP", "91-65534/TCP", "65535/TCP", "all UDP", "all SCTP", "ICMP"]);
        assert_eq!(words(&all, &all), "every port");
        let but: Vec<_> = [&all[..1], &all[2..]].concat();
        assert_eq!(words(&but, &all), "every port but 80-90/TCP");
        assert_eq!(words(&all[..4], &all), "all TCP");
        assert_eq!(words(&Cuts::default().parts(), &Cuts::default().parts()), "every port");
    }
}
