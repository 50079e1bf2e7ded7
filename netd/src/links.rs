//! Names, hardware addresses and MTU of pod links. Pure.

use std::time::Duration;

use minipod_kernel::netlink::{Link, Mac, Route, RouteKind};
use minipod_model::LinkName;
use minipod_model::hash::short_hash;

/// How long the kernel's own workers are waited for when a link or address is new.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Ethernet's, where no uplink says otherwise.
pub(crate) const DEFAULT_MTU: u32 = 1500;

/// The least that IPv6 works with (RFC 8200, section 5).
pub(crate) const LEAST_MTU: u32 = 1280;

/// Whether `name` can name an interface inside a pod (`dev_valid_name`, `net/core/dev.c`).
#[must_use]
pub fn is_valid_ifname(name: &str) -> bool {
    let fits = (1..=15).contains(&name.len()) && !matches!(name, "." | ".." | "lo" | "all" | "default");
    fits && !name.bytes().any(|b| matches!(b, b'/' | b':') || b.is_ascii_whitespace() || b.is_ascii_control())
}

/// The hardware address of the node's end: always the same for the same sandbox.
#[must_use]
pub fn host_mac(link: &LinkName) -> Mac {
    mac_of(&[link.as_str(), "host"])
}

/// The hardware address of the pod's end, where none is asked for.
#[must_use]
pub fn pod_mac(link: &LinkName) -> Mac {
    mac_of(&[link.as_str(), "pod"])
}

/// A locally administered address made from these words.
pub(crate) fn mac_of(parts: &[&str]) -> Mac {
    let digits = short_hash(parts.iter().copied(), 12);
    let mut bytes = [0; 6];
    for (index, byte) in bytes.iter_mut().enumerate() {
        // The hash is hexadecimal.
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).unwrap_or(0);
    }
    Mac::local(bytes)
}

/// The MTU of pod links: the smallest of the links that a default route leads out of.
#[must_use]
pub fn compute_mtu(links: &[Link], routes: &[Route]) -> u32 {
    let of_uplinks = uplinks(routes).filter_map(|index| links.iter().find(|link| link.index == index));
    of_uplinks.map(|link| link.mtu).min().unwrap_or(DEFAULT_MTU).max(LEAST_MTU)
}

/// The links that a default route leads out of.
pub fn uplinks(routes: &[Route]) -> impl Iterator<Item = u32> {
    let default = |route: &&Route| route.destination.prefix_len() == 0 && route.kind == RouteKind::Unicast;
    routes.iter().filter(default).filter_map(|route| route.link)
}

#[cfg(test)]
mod tests {
    use minipod_kernel::netlink::{Link, Route};
    use minipod_model::LinkName;

    use super::{compute_mtu, host_mac, is_valid_ifname, pod_mac};

    fn link(index: u32, mtu: u32) -> Link {
        Link { index, name: format!("l{index}"), mtu, up: true, sends: true, ..Link::default() }
    }

    #[test]
    fn the_mtu_follows_the_narrowest_uplink() {
        let links = [link(1, 65536), link(2, 1500), link(3, 1420), link(4, 1300)];
        let default = |link| Route::to_link("0.0.0.0/0".parse().expect("a network"), link, 3);
        let direct = Route::to_link("192.0.2.0/24".parse().expect("a network"), 4, 2);
        assert_eq!(compute_mtu(&links, &[default(2), default(3), direct.clone()]), 1420);
        assert_eq!(compute_mtu(&links, &[direct]), 1500);
        assert_eq!(compute_mtu(&[link(2, 600)], &[default(2)]), 1280);
    }

    #[test]
    fn both_ends_have_stable_addresses_of_their_own() {
        let name = LinkName::for_sandbox("c1", "eth0");
        assert_eq!(host_mac(&name), host_mac(&name));
        assert_ne!(host_mac(&name), pod_mac(&name));
        assert!(host_mac(&name).is_unicast());
    }

    #[test]
    fn names_that_the_kernel_refuses_are_refused_before_it() {
        assert!(is_valid_ifname("eth0"));
        assert!(is_valid_ifname("net1.5"));
        for bad in ["", "lo", ".", "..", "a b", "a/b", "a:b", "sixteen-bytes-ab", "all"] {
            assert!(!is_valid_ifname(bad), "{bad}");
        }
    }
}
