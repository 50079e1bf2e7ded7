//! From a packet's destination to the rules of that address: chains that split a sorted list of addresses by their next bits, so that a packet's
//! way does not grow with the number of addresses. A packet for none of them mostly meets one rule, that for what all have in common.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use minipod_model::IpFamily;

use crate::name::ChainName;
use crate::spec::{Chain, Match, Rule, Target};

/// Bits that one level decides.
const LEVEL_BITS: u32 = 4;
/// Addresses that one chain lists without a further level.
const LEAVES_MAX: usize = 16;

/// What is to be done with packets for each address: a rule without a destination.
pub(super) type Leaves = BTreeMap<IpAddr, Rule>;

/// The chains of the tree below and including `root`. A packet for none of the addresses goes on where `root` was entered from. There has to be
/// at least one address, and all are of one family.
pub(super) fn chains(root: &ChainName, leaves: &Leaves) -> BTreeMap<ChainName, Chain> {
    let leaves: Vec<(IpAddr, &Rule)> = leaves.iter().map(|(address, rule)| (*address, rule)).collect();
    let mut chains = BTreeMap::new();
    let rules = match common(&leaves) {
        Some(all) if leaves.len() > 1 && all.prefix_len() > 0 => vec![below(root, all, &leaves, &mut chains)],
        _ => node(root, &leaves, &mut chains),
    };
    chains.insert(root.clone(), Chain::new(rules));
    chains
}

/// The rules for a sorted list of addresses.
fn node(root: &ChainName, leaves: &[(IpAddr, &Rule)], chains: &mut BTreeMap<ChainName, Chain>) -> Vec<Rule> {
    if leaves.len() <= LEAVES_MAX {
        return leaves.iter().map(leaf).collect();
    }
    let shared = common(leaves).map_or(0, |all| u32::from(all.prefix_len()));
    let groups = leaves.chunk_by(|one, other| common_bits(one.0, other.0) >= shared + LEVEL_BITS);
    let mut rules = Vec::new();
    for group in groups {
        match (group, common(group)) {
            ([only], _) => rules.push(leaf(only)),
            (_, Some(prefix)) => rules.push(below(root, prefix, group, chains)),
            (_, None) => {}
        }
    }
    rules
}

/// Makes the chain for what lies in `prefix`, and the rule that leads there.
fn below(root: &ChainName, prefix: IpNet, leaves: &[(IpAddr, &Rule)], chains: &mut BTreeMap<ChainName, Chain>) -> Rule {
    let name = root.child(&format!("{:x}-{}", bits(prefix.addr()), prefix.prefix_len()));
    let rules = node(root, leaves, chains);
    chains.insert(name.clone(), Chain::new(rules));
    Rule::new(vec![Match::Destination(prefix)], Target::Goto(name))
}

fn leaf((address, rule): &(IpAddr, &Rule)) -> Rule {
    let mut matches = vec![Match::Destination(IpNet::from(*address))];
    matches.extend(rule.matches.iter().cloned());
    Rule::new(matches, rule.target.clone())
}

/// The longest prefix of all addresses of a sorted list.
fn common(leaves: &[(IpAddr, &Rule)]) -> Option<IpNet> {
    let (first, last) = (leaves.first()?.0, leaves.last()?.0);
    let length = u8::try_from(common_bits(first, last)).ok()?;
    Some(IpNet::new(first, length).ok()?.trunc())
}

/// How many of their first bits two addresses share.
fn common_bits(one: IpAddr, other: IpAddr) -> u32 {
    let length = match IpFamily::of(one) {
        IpFamily::V4 => Ipv4Addr::BITS,
        IpFamily::V6 => Ipv6Addr::BITS,
    };
    (bits(one) ^ bits(other)).leading_zeros().saturating_sub(u128::BITS - length)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use super::{Leaves, chains};
    use crate::name::ChainName;
    use crate::spec::{Chain, Match, Rule, Target};

    fn target(address: IpAddr) -> ChainName {
        ChainName::of("L", &address.to_string())
    }

    /// Where a destination leads, and how many rules it meets on the way.
    fn walk(chains: &BTreeMap<ChainName, Chain>, root: &ChainName, to: IpAddr) -> (Option<ChainName>, usize) {
        let (mut at, mut met) = (root.clone(), 0);
        'chain: while let Some(chain) = chains.get(&at) {
            for rule in &chain.rules {
                met += 1;
                let hit = rule.matches.iter().all(|m| matches!(m, Match::Destination(net) if net.contains(&to)));
                if let (true, Target::Goto(next)) = (hit, &rule.target) {
                    at = next.clone();
                    continue 'chain;
                }
            }
            return (None, met);
        }
        (Some(at), met)
    }

    #[track_caller]
    fn check(addresses: impl IntoIterator<Item = IpAddr>, others: &[&str], bound: usize) {
        let root = ChainName::fixed("T");
        let leaves: Leaves = addresses.into_iter().map(|a| (a, Rule::always(Target::Goto(target(a))))).collect();
        let chains = chains(&root, &leaves);
        for address in leaves.keys() {
            let (found, met) = walk(&chains, &root, *address);
            assert_eq!(found, Some(target(*address)), "{address}");
            assert!(met <= bound, "{address} meets {met} rules");
        }
        for other in others {
            let (found, met) = walk(&chains, &root, other.parse().expect("an address"));
            assert_eq!(found, None, "{other}");
            assert_eq!(met, 1, "{other}");
        }
    }

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4((0x0a60_0000 + number).into())
    }

    fn v6(number: u128) -> IpAddr {
        IpAddr::V6((0xfd00_0010_0244_0096_u128 << 64 | number).into())
    }

    #[test]
    fn every_address_leads_to_its_own_rule_within_the_bound_and_others_meet_one() {
        check([v4(10)], &["10.244.1.2", "10.96.0.11"], 1);
        check((0..16).map(v4), &["10.244.1.2", "10.96.0.16"], 17);
        check((0..300).map(v4), &["10.244.1.2"], 1 + 2 * 16 + 16);
        check((0..5000).map(|n| v4(n * 7919 % 65536)), &["10.244.1.2"], 1 + 4 * 16);
        check((0..300).map(v6), &["fd00:10:244:1::2"], 1 + 2 * 16 + 16);
        check((0..4000).map(|n| v6(n * 7919 % 65536)), &["fd00:10:244:1::2"], 1 + 4 * 16);
    }

    #[test]
    fn addresses_without_anything_in_common_are_found_too() {
        let far: Vec<IpAddr> =
            ["10.96.0.1", "192.0.2.7", "0.0.0.1", "255.1.2.3"].map(|a| a.parse().expect("an address")).into();
        check(far, &[], 4);
        check((0..200_u32).map(|n| IpAddr::V4((n << 24 | n).into())), &[], 32);
    }
}
