//! Numbered addresses of a range.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The number that no pod gets in its node's range: the node's own, for VXLAN and for a host without any address.
pub const NODE_NUMBER: u32 = 1;

/// The node's own address in its range.
#[must_use]
pub fn node_address(range: IpNet) -> IpAddr {
    nth(range, NODE_NUMBER)
}

/// The address with this number, from the first one of the range on.
#[must_use]
pub fn nth(range: IpNet, number: u32) -> IpAddr {
    match range.network() {
        IpAddr::V4(base) => Ipv4Addr::from(u32::from(base).saturating_add(number)).into(),
        IpAddr::V6(base) => Ipv6Addr::from(u128::from(base).saturating_add(u128::from(number))).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::node_address;

    #[test]
    fn a_nodes_own_address_is_the_first_of_its_range() {
        for (range, expected) in [("10.244.7.9/24", "10.244.7.1"), ("fd00:10:244:7::/64", "fd00:10:244:7::1")] {
            assert_eq!(node_address(range.parse().expect("a range")).to_string(), expected);
        }
    }
}
