//! Whether a device may leave the checksums of what it sends to those after it, down to the hardware (`ethtool -K LINK tx`).

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use nix::net::if_::if_nametoindex;

/// `include/uapi/linux/ethtool.h`
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether this kernel gets the checksums of tunnelled packets right when they are left to the hardware. Those before 5.7 write a checksum
/// into the outer UDP header, which must have none, where a packet is translated on its way out (`nf_nat_mangle_udp_packet` and
/// `udp_manip_pkt`, mended by ea64d8d6c675): the other node drops it.
#[must_use]
pub fn tunnels_can_offload() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| is_mended(&release))
}

fn is_mended(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 7)
}

/// Whether the link of this thread's network leaves checksums to those after it.
///
/// # Errors
/// What the kernel says; `ENODEV`, `EOPNOTSUPP`.
pub fn offloads(link: &str) -> io::Result<bool> {
    Ok(ask(link, ETHTOOL_GTXCSUM, 0)? != 0)
}

/// Has the link leave checksums to those after it, or not.
///
/// # Errors
/// What the kernel says; `ENODEV`, `EOPNOTSUPP`, `EPERM`.
pub fn set_offload(link: &str, on: bool) -> io::Result<()> {
    ask(link, ETHTOOL_STXCSUM, on.into()).map(drop)
}

fn ask(link: &str, command: u32, data: u32) -> io::Result<u32> {
    nix::ioctl_readwrite_bad!(ethtool, libc::SIOCETHTOOL, libc::ifreq);
    // Also says whether the name fits into the request.
    if_nametoindex(link)?;
    let mut value = Value { command, data };
    let mut name = [0; libc::IFNAMSIZ];
    for (place, byte) in name.iter_mut().zip(link.bytes()) {
        *place = byte.cast_signed();
    }
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() } };
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    #[expect(unsafe_code, reason = "SIOCETHTOOL has no safe wrapper")]
    // SAFETY: `request` is a `struct ifreq` whose data is a `struct ethtool_value`, which both commands read and write; both outlive
    // the call, and the descriptor is open.
    unsafe { ethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok(value.data)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{is_mended, offloads, set_offload};
    use crate::netns::NetNs;

    #[test]
    fn kernels_from_5_7_on_are_mended() {
        for (release, expected) in [
            ("5.7.0", true),
            ("6.18.5-arch1-1\n", true),
            ("5.10", true),
            ("5.6.19-300.fc32", false),
            ("4.19.0", false),
            ("", false),
        ] {
            assert_eq!(is_mended(release), expected, "{release}");
        }
    }

    #[test]
    fn a_device_can_be_told_to_compute_checksums_itself() {
        let netns = NetNs::create().expect("a network namespace of its own; run as root");
        netns
            .run(|| {
                let ip = |args: &str| Command::new("ip").args(args.split(' ')).status().expect("ip").success();
                assert!(ip("link set lo up"));
                assert!(ip("link add vx type vxlan id 7 dstport 4789 local 127.0.0.1"));
                assert!(offloads("vx").expect("a state"));
                set_offload("vx", false).expect("a change");
                assert!(!offloads("vx").expect("a state"));
                set_offload("vx", true).expect("a change");
                assert!(offloads("vx").expect("a state"));
                assert!(set_offload("no-such-link", false).is_err());
            })
            .expect("no panic");
    }
}
