//! A cable that passes on bytes, as hardware does that does not know what is in a tunnel: the outer checksum is in order, but one inside
//! that the kernel left to whoever sends nobody computes.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use integration::lab::{Iptables, Lab};
use minipod_kernel::netns::NetNs;
use minipod_model::defaults::VXLAN_PORT;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, bind};
use socket2::{Domain, Protocol, Socket, Type};

use crate::site::{cable, network};

/// `include/uapi/linux/if_ether.h`
const ETH_P_ALL: u16 = 3;
/// Larger than any packet, also one that is yet to be cut into segments.
const BUFFER: usize = 128 * 1024;
/// How soon a cable that is cut is noticed.
const TICK: Duration = Duration::from_millis(100);

/// The cable; whoever drops it cuts it.
pub(crate) struct Wire {
    is_cut: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _lab: Lab,
}

impl Wire {
    /// Joins two machines as [`cable`] does.
    pub(crate) fn new(lab: &Lab, other: &Lab, far: &str) -> Self {
        let wire = Lab::new("wire", Iptables::Nft).expect("a lab");
        // Nothing of its own is to be on the cable.
        let _ = wire.shell("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6").expect_success();
        cable(lab, &wire, "near");
        cable(&wire, other, far);
        let _ = wire.shell("ip link set near up; ip link set up0 up").expect_success();
        let inside = network(&wire);
        let [near, up0] = ["near", "up0"].map(|link| Arc::new(end(&inside, link)));
        let is_cut = Arc::new(AtomicBool::new(false));
        let pass = |from: &Arc<Socket>, to: &Arc<Socket>| {
            let (from, to, is_cut) = (Arc::clone(from), Arc::clone(to), Arc::clone(&is_cut));
            std::thread::spawn(move || pass_on(&from, &to, &is_cut))
        };
        let threads = vec![pass(&near, &up0), pass(&up0, &near)];
        Self { is_cut, threads, _lab: wire }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.is_cut.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A socket that has all that comes out of one end.
fn end(inside: &NetNs, link: &str) -> Socket {
    let open = || {
        let all: Vec<_> = getifaddrs().expect("links").filter(|found| found.interface_name == link).collect();
        let address = all.iter().find_map(|found| found.address.as_ref()?.as_link_addr().copied());
        let address: LinkAddr = address.expect("the link's own address");
        let everything = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(everything)).expect("a socket");
        bind(socket.as_raw_fd(), &address).expect("bound to the link");
        socket.set_read_timeout(Some(TICK)).expect("a time-out");
        socket
    };
    inside.run(open).expect("the network of the cable")
}

fn pass_on(mut from: &Socket, mut to: &Socket, is_cut: &AtomicBool) {
    let mut buffer = vec![0; BUFFER];
    while !is_cut.load(Ordering::Relaxed) {
        if let Ok(length) = from.read(&mut buffer) {
            settle_outer_checksum(&mut buffer[..length]);
            // What is too large for the cable is lost.
            let _ = to.write(&buffer[..length]);
        }
    }
}

/// Says of a VXLAN packet over IPv4 that it has none (RFC 768): the device's packets do have one, and that too is left to the hardware.
fn settle_outer_checksum(frame: &mut [u8]) {
    const IPV4: usize = 14;
    const UDP: usize = IPV4 + 20;
    let is_vxlan = frame.len() > UDP + 8
        && frame[12..=IPV4] == [0x08, 0x00, 0x45]
        && frame[IPV4 + 9] == 17
        && frame[UDP + 2..UDP + 4] == VXLAN_PORT.to_be_bytes();
    if is_vxlan {
        frame[UDP + 6..UDP + 8].fill(0);
    }
}
