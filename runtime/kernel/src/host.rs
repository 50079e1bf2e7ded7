//! Who this process is and where it runs: its user, the machine's name, the addresses on the machine's links.

use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

/// The effective user's number; 0 is root.
#[must_use]
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The machine's name (`gethostname(2)`); empty where it cannot be told.
#[must_use]
pub fn hostname() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Every address of every link that is up, loopback left out, each with its link's name and in the kernel's order. Empty where the
/// kernel does not tell.
#[must_use]
pub fn link_addresses() -> Vec<(String, IpAddr)> {
    let up =
        |flags: InterfaceFlags| flags.contains(InterfaceFlags::IFF_UP) && !flags.contains(InterfaceFlags::IFF_LOOPBACK);
    let links = getifaddrs().into_iter().flatten().filter(|link| up(link.flags));
    links.filter_map(|link| Some((link.interface_name.clone(), address(&link)?))).collect()
}

/// Whether any link of the machine has the address, loopback and links that are down included.
#[must_use]
pub fn has_address(wanted: IpAddr) -> bool {
    getifaddrs().into_iter().flatten().filter_map(|link| address(&link)).any(|address| address == wanted)
}

fn address(link: &InterfaceAddress) -> Option<IpAddr> {
    let address = link.address?;
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
}

#[cfg(test)]
mod tests {
    use super::{effective_uid, has_address, hostname, link_addresses};

    #[test]
    fn what_is_told_is_what_proc_says() {
        let status = std::fs::read_to_string("/proc/self/status").expect("read");
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("a line with the users");
        assert_eq!(uids.split_whitespace().nth(1), Some(effective_uid().to_string().as_str()));
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").expect("read").trim(), hostname());
        assert!(link_addresses().iter().all(|(_, address)| !address.is_loopback() && has_address(*address)));
        assert!(!has_address("192.0.2.77".parse().expect("an address")));
    }
}
