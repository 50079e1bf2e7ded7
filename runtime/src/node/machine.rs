//! What this machine is: read from `/proc`, `/etc` and the kernel's routes. Decides nothing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use minipod_kernel::host::{has_address, link_addresses};

use super::options::OptionsError;

/// What a Node object says of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// `/proc/sys/kernel/random/boot_id`
    pub(super) boot_id: String,
    /// `/etc/machine-id`
    pub(super) id: String,
    /// DMI's product UUID, where it can be read
    pub(super) system_uuid: String,
    /// `uname -r`
    pub(super) kernel_version: String,
    /// `PRETTY_NAME` of `/etc/os-release`
    pub(super) os_image: String,
    /// processors
    pub(super) cpus: usize,
    /// kibibytes of memory
    pub(super) memory_kib: u64,
}

impl Machine {
    /// Looks; what cannot be read is empty.
    pub(super) fn observe() -> Self {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        Self {
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            id: line("/etc/machine-id"),
            system_uuid: line("/sys/class/dmi/id/product_uuid"),
            kernel_version: line("/proc/sys/kernel/osrelease"),
            os_image: os_release_name(&os_release),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_kib: total_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        }
    }
}

fn os_release_name(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

fn total_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The node's addresses, IPv4 first: what it would send from by its default routes, else the first address of a link that is up.
/// Loopback and link-local addresses are never taken.
pub(super) fn observe_addresses() -> Vec<IpAddr> {
    let v4 = source_towards(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)));
    let v6 = source_towards(SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9)));
    let on_links = addresses_of_links();
    let first = |v4: bool| on_links.iter().copied().find(|address| address.is_ipv4() == v4);
    v4.or_else(|| first(true)).into_iter().chain(v6.or_else(|| first(false))).collect()
}

/// Addresses that were given have to be this machine's: others would answer for the node.
pub(super) fn check_addresses(given: &[IpAddr]) -> Result<(), OptionsError> {
    match given.iter().find(|address| !has_address(**address)) {
        None => Ok(()),
        Some(address) => Err(OptionsError {
            flag: "--node-ip",
            value: address.to_string(),
            problem: "not an address of this machine",
            next: "give one that `ip address` shows, or leave the option out",
        }),
    }
}

/// The source address that the kernel chooses; connecting a UDP socket sends nothing.
fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(is_usable)
}

fn addresses_of_links() -> Vec<IpAddr> {
    let all = link_addresses().into_iter().filter(|(link, _)| !link.starts_with(minipod_model::link::POD_LINK_PREFIX));
    all.map(|(_, address)| address).filter(is_usable).collect()
}

fn is_usable(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::{os_release_name, total_memory};

    #[test]
    fn the_names_and_numbers_of_the_machine_are_found() {
        assert_eq!(os_release_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(os_release_name(""), "Linux");
        assert_eq!(total_memory("MemTotal:        8000000 kB\nMemFree: 1 kB\n"), 8_000_000);
    }
}
