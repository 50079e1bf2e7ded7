//! Dials many targets at once from inside a pod.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use integration::lab::Place;
use minipod_kernel::netns::NetNs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use crate::sctp;
use crate::server::{raw_socket, receive_sctp};
use crate::target::{Protocol, Target};

/// Those of the targets that answer within the time.
pub(crate) fn answering(place: &Place, targets: &[Target], patience: Duration) -> BTreeSet<Target> {
    let netns = NetNs::open(&place.netns).expect("the pod's network");
    netns.run(|| dial(targets, patience)).expect("no panic")
}

/// A question on its way.
enum Asked {
    Tcp(Socket),
    Udp(UdpSocket),
    /// all of one family, by address and ports
    Sctp(Domain, Socket, BTreeMap<(IpAddr, u16, u16), Target>),
}

fn dial(targets: &[Target], patience: Duration) -> BTreeSet<Target> {
    let deadline = Instant::now() + patience;
    let mut asked: Vec<(Option<Target>, Asked)> = Vec::new();
    for target in targets {
        match target.protocol {
            Protocol::Tcp => asked.push((Some(*target), Asked::Tcp(connecting(target.address)))),
            Protocol::Udp => asked.push((Some(*target), Asked::Udp(sent(target.address)))),
            Protocol::Sctp => {}
        }
    }
    for domain in [Domain::IPV4, Domain::IPV6] {
        asked.push((None, init_all(domain, targets)));
    }
    let mut answered = BTreeSet::new();
    while !asked.is_empty() && Instant::now() < deadline {
        wait(&asked, deadline);
        asked.retain_mut(|(target, asked)| match asked {
            Asked::Tcp(socket) => match tcp_outcome(socket) {
                None => true,
                Some(connected) => {
                    answered.extend(target.filter(|_| connected));
                    false
                }
            },
            Asked::Udp(socket) => match socket.recv(&mut [0; 64]) {
                Ok(_) => {
                    answered.extend(*target);
                    false
                }
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            },
            Asked::Sctp(domain, socket, open) => {
                while let Some((packet, from)) = receive_sctp(*domain, socket) {
                    if packet.answers.is_some() {
                        answered.extend(open.remove(&(from, packet.source, packet.destination)));
                    }
                }
                !open.is_empty()
            }
        });
    }
    answered
}

fn connecting(to: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("non-blocking");
    // No connection of a test is to keep its port for a minute.
    socket.set_linger(Some(Duration::ZERO)).expect("no lingering");
    // What it says is asked for once the socket is ready.
    let _ = socket.connect(&to.into());
    socket
}

/// Whether it is connected; `None` while that is open.
fn tcp_outcome(socket: &Socket) -> Option<bool> {
    match socket.take_error() {
        Ok(None) => socket.peer_addr().is_ok().then_some(true),
        Ok(Some(_)) | Err(_) => Some(false),
    }
}

fn sent(to: SocketAddr) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).expect("a socket");
    socket.set_nonblocking(true).expect("non-blocking");
    socket.connect(to).expect("a route");
    // Refused at once: then nothing answers.
    let _ = socket.send(b"?");
    socket
}

/// Sends an INIT to every SCTP target of the family, each from a port of its own.
fn init_all(domain: Domain, targets: &[Target]) -> Asked {
    let socket = raw_socket(domain);
    let mut open = BTreeMap::new();
    let targets = targets.iter().filter(|target| target.protocol == Protocol::Sctp);
    // From ports that no earlier look has used in the last seconds: a connection that conntrack knows is not judged again.
    let first = fresh_ports();
    for (source, target) in (first..).zip(targets.filter(|t| Domain::for_address(t.address) == domain)) {
        let init =
            sctp::Packet { source, destination: target.address.port(), tag: u32::from(source) + 1, answers: None };
        let to = SocketAddr::new(target.address.ip(), 0);
        if socket.send_to(&init.bytes(), &to.into()).is_ok() {
            open.insert((target.address.ip(), target.address.port(), source), *target);
        }
    }
    Asked::Sctp(domain, socket, open)
}

/// The first of a hundred source ports that go round.
fn fresh_ports() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 500 * 100
}

fn wait(asked: &[(Option<Target>, Asked)], deadline: Instant) {
    let wanted = |asked: &Asked| match asked {
        Asked::Tcp(_) => PollFlags::POLLOUT,
        Asked::Udp(_) | Asked::Sctp(..) => PollFlags::POLLIN,
    };
    let mut all: Vec<_> = asked.iter().map(|(_, asked)| PollFd::new(descriptor(asked), wanted(asked))).collect();
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().min(1000);
    poll(&mut all, PollTimeout::try_from(left).expect("a short time")).expect("poll");
}

fn descriptor(asked: &Asked) -> BorrowedFd<'_> {
    match asked {
        Asked::Tcp(socket) | Asked::Sctp(_, socket, _) => socket.as_fd(),
        Asked::Udp(socket) => socket.as_fd(),
    }
}
