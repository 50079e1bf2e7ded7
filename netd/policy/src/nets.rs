//! Sets of addresses as disjoint, aggregated prefixes. Decides nothing about policy: union, difference, membership.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use minipod_model::IpFamily;

/// A set of addresses of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NetSet {
    /// inclusive ranges, sorted, neither overlapping nor adjacent
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl NetSet {
    /// The addresses of one prefix.
    pub(crate) fn of(net: IpNet) -> Self {
        let mut set = Self::default();
        set.ranges_mut(family(net)).push(bounds(net));
        set
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// The addresses of either.
    #[must_use]
    pub(crate) fn union(&self, other: &Self) -> Self {
        Self { v4: union(&self.v4, &other.v4), v6: union(&self.v6, &other.v6) }
    }

    /// The addresses that `other` does not have.
    #[must_use]
    pub(crate) fn without(&self, other: &Self) -> Self {
        Self { v4: difference(&self.v4, &other.v4), v6: difference(&self.v6, &other.v6) }
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        self.ranges(IpFamily::of(address)).iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// The fewest prefixes that make up the set: disjoint and aggregated.
    pub(crate) fn prefixes(&self) -> BTreeSet<IpNet> {
        IpFamily::ALL
            .into_iter()
            .flat_map(|family| self.ranges(family).iter().flat_map(move |range| prefixes(family, *range)))
            .collect()
    }

    /// This set without the prefixes that lie in `other` as a whole. Prefixes that lie in it in part stay as they are: taking
    /// them apart would make more of them.
    #[must_use]
    pub(crate) fn not_covered_by(&self, other: &Self) -> Self {
        self.prefixes()
            .into_iter()
            .map(Self::of)
            .filter(|prefix| !prefix.without(other).is_empty())
            .fold(Self::default(), |set, prefix| set.union(&prefix))
    }

    fn ranges(&self, family: IpFamily) -> &[(u128, u128)] {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    fn ranges_mut(&mut self, family: IpFamily) -> &mut Vec<(u128, u128)> {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }
}

fn family(net: IpNet) -> IpFamily {
    match net {
        IpNet::V4(_) => IpFamily::V4,
        IpNet::V6(_) => IpFamily::V6,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn bounds(net: IpNet) -> (u128, u128) {
    match net {
        // `IpNet::broadcast` is the last address of the prefix in both families.
        IpNet::V4(net) => (number(net.network().into()), number(net.broadcast().into())),
        IpNet::V6(net) => (number(net.network().into()), number(net.broadcast().into())),
    }
}

fn union(a: &[(u128, u128)], b: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut ranges: Vec<_> = a.iter().chain(b).copied().collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn difference(a: &[(u128, u128)], b: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut rest = Vec::new();
    for &(first, last) in a {
        // The first address that is not yet known to be in or out; `None` once the range is used up.
        let mut from = Some(first);
        for &(hole_first, hole_last) in b.iter().filter(|hole| hole.0 <= last && hole.1 >= first) {
            let Some(start) = from else { break };
            if hole_first > start {
                rest.push((start, hole_first - 1));
            }
            from = (hole_last < last).then(|| start.max(hole_last + 1));
        }
        if let Some(start) = from {
            rest.push((start, last));
        }
    }
    rest
}

/// The fewest prefixes that cover exactly the range: from its start on, always the largest that is aligned and fits.
fn prefixes(family: IpFamily, (first, last): (u128, u128)) -> Vec<IpNet> {
    let width = u32::from(family.host_prefix_len());
    let mut nets = Vec::new();
    let mut from = Some(first);
    while let Some(start) = from {
        let aligned = start.trailing_zeros().min(width);
        // `last - start + 1` addresses are left; of all 2^128 the sum would overflow.
        let fits = (last - start).checked_add(1).map_or(width, u128::ilog2);
        let bits = aligned.min(fits);
        nets.push(net(family, start, width - bits));
        let size_less_one = if bits == 128 { u128::MAX } else { (1_u128 << bits) - 1 };
        from = (start + size_less_one < last).then(|| start + size_less_one + 1);
    }
    nets
}

#[expect(clippy::cast_possible_truncation, reason = "IPv4 numbers have 32 bits and prefix lengths are at most 128")]
fn net(family: IpFamily, start: u128, prefix_len: u32) -> IpNet {
    match family {
        IpFamily::V4 => Ipv4Net::new_assert(Ipv4Addr::from(start as u32), prefix_len as u8).into(),
        IpFamily::V6 => Ipv6Net::new_assert(Ipv6Addr::from(start), prefix_len as u8).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::{IpNet, NetSet};

    fn set(nets: &[&str]) -> NetSet {
        nets.iter().fold(NetSet::default(), |set, net| set.union(&NetSet::of(net.parse().expect("a prefix"))))
    }

    #[track_caller]
    fn check(set: &NetSet, expected: &[&str]) {
        let mut nets: Vec<IpNet> = expected.iter().map(|net| net.parse().expect("a prefix")).collect();
        nets.sort();
        assert_eq!(set.prefixes().into_iter().collect::<Vec<_>>(), nets);
    }

    #[test]
    fn neighbours_become_one_prefix() {
        check(&set(&["10.0.0.0/25", "10.0.0.128/25", "10.0.0.7/32"]), &["10.0.0.0/24"]);
        check(&set(&["fd00::/65", "fd00:0:0:0:8000::/65"]), &["fd00::/64"]);
        check(&set(&["10.0.1.0/24", "10.0.2.0/24"]), &["10.0.1.0/24", "10.0.2.0/24"]);
    }

    #[test]
    fn a_hole_costs_at_most_the_difference_of_the_prefix_lengths() {
        let rest = set(&["10.0.0.0/8"]).without(&set(&["10.1.2.3/32"]));
        assert_eq!(rest.prefixes().len(), 24);
        check(&set(&["10.0.0.0/24"]).without(&set(&["10.0.0.0/25"])), &["10.0.0.128/25"]);
        check(
            &set(&["10.0.0.0/24"]).without(&set(&["10.0.0.255/32", "10.0.0.128/26"])).without(&set(&["10.0.0.0/25"])),
            &["10.0.0.192/27", "10.0.0.224/28", "10.0.0.240/29", "10.0.0.248/30", "10.0.0.252/31", "10.0.0.254/32"],
        );
    }

    #[test]
    fn the_whole_of_a_family_is_one_prefix_and_nothing_of_the_other() {
        for all in ["0.0.0.0/0", "::/0"] {
            check(&set(&[all]), &[all]);
            check(&set(&[all]).without(&set(&[all])), &[]);
        }
        check(&set(&["::/0"]).without(&set(&["8000::/1"])), &["::/1"]);
        assert!(!set(&["0.0.0.0/0"]).contains("::1".parse().expect("an address")));
    }

    #[test]
    fn only_prefixes_that_are_covered_as_a_whole_are_left_out() {
        let all = set(&["10.0.0.0/8", "10.255.0.0/16", "192.168.0.0/16"]);
        check(&all.not_covered_by(&set(&["192.168.0.0/15", "10.1.0.0/16"])), &["10.0.0.0/8"]);
    }

    fn nets() -> impl Strategy<Value = Vec<IpNet>> {
        proptest::collection::vec((0_u32..256, 24_u8..=32), 0..6).prop_map(|nets| {
            nets.into_iter()
                .map(|(host, len)| {
                    IpNet::new(Ipv4Addr::from(0x0a00_0000 + host).into(), len).expect("a prefix").trunc()
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_address_by_address(plus in nets(), minus in nets()) {
            let of = |nets: &[IpNet]| nets.iter().fold(NetSet::default(), |set, net| set.union(&NetSet::of(*net)));
            let rest = of(&plus).without(&of(&minus));
            let prefixes = rest.prefixes();
            for host in 0..=256_u32 {
                let address = Ipv4Addr::from(0x0a00_0000 + host).into();
                let expected = plus.iter().any(|net| net.contains(&address)) && !minus.iter().any(|net| net.contains(&address));
                prop_assert_eq!(rest.contains(address), expected);
                prop_assert_eq!(prefixes.iter().filter(|net| net.contains(&address)).count(), usize::from(expected));
            }
        }
    }
}
