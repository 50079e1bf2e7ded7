//! Dials many targets at once from inside a pod.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use super::echo::{Echo, UNKNOWN_PROTOCOL};
use super::sctp;
use super::server::{ANSWER, QUESTION, raw_socket, receive_raw};
use super::target::{Protocol, Target};
use crate::lab::Place;

const ICMP: i32 = 1;
const ICMPV6: i32 = 58;

/// Those of the targets that answer within the time.
///
/// # Panics
/// When sockets cannot be made: raw ones need root.
#[must_use]
pub fn answering(place: &Place, targets: &[Target], patience: Duration) -> BTreeSet<Target> {
    let source = |to: IpAddr| if place.is_bound { place.address(to.is_ipv6()) } else { unspecified(to) };
    place.run(|| dial(&source, targets, patience))
}

/// The address from which packets to `to` are sent.
type Source<'a> = &'a (dyn Fn(IpAddr) -> IpAddr + Sync);

/// A question on its way.
enum Asked {
    Tcp(Target, Socket),
    Udp(Target, UdpSocket),
    Crafted(Crafted),
}

/// All questions of one protocol and family that are asked by crafted packets.
struct Crafted {
    protocol: Protocol,
    socket: Socket,
    /// by what tells their answers apart
    open: BTreeMap<(IpAddr, u16, u16), Target>,
}

fn dial(source: Source<'_>, targets: &[Target], patience: Duration) -> BTreeSet<Target> {
    let deadline = Instant::now() + patience;
    let mut asked = Vec::new();
    for target in targets {
        match target.protocol {
            Protocol::Tcp => asked.push(Asked::Tcp(*target, connecting(source, target.address))),
            Protocol::Udp => asked.push(Asked::Udp(*target, sent(source, target.address))),
            Protocol::Sctp | Protocol::Icmp | Protocol::Unknown => {}
        }
    }
    for protocol in [Protocol::Sctp, Protocol::Icmp, Protocol::Unknown] {
        for is_v6 in [false, true] {
            let of = |target: &&Target| target.protocol == protocol && target.address.is_ipv6() == is_v6;
            let targets: Vec<Target> = targets.iter().filter(of).copied().collect();
            if !targets.is_empty() {
                asked.push(Asked::Crafted(Crafted::ask(protocol, source, &targets)));
            }
        }
    }
    let mut answered = BTreeSet::new();
    while !asked.is_empty() && Instant::now() < deadline {
        wait(&asked, deadline);
        asked.retain_mut(|asked| match asked {
            Asked::Tcp(target, socket) => match tcp_outcome(socket) {
                None => true,
                Some(connected) => {
                    answered.extend(connected.then_some(*target));
                    false
                }
            },
            Asked::Udp(target, socket) => match socket.recv(&mut [0; 64]) {
                Ok(_) => {
                    answered.insert(*target);
                    false
                }
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            },
            Asked::Crafted(crafted) => {
                crafted.hear(&mut answered);
                !crafted.open.is_empty()
            }
        });
    }
    answered
}

fn connecting(source: Source<'_>, to: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("non-blocking");
    // No connection of a test is to keep its port for a minute.
    socket.set_linger(Some(Duration::ZERO)).expect("no lingering");
    let source = source(to.ip());
    if !source.is_unspecified() {
        socket.bind(&SocketAddr::new(source, 0).into()).expect("an own address");
    }
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

fn sent(source: Source<'_>, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((source(to.ip()), 0)).expect("a socket");
    socket.set_nonblocking(true).expect("non-blocking");
    socket.connect(to).expect("a route");
    // Refused at once: then nothing answers.
    let _ = socket.send(QUESTION);
    socket
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

impl Crafted {
    /// Sends a packet to each of the targets, all of one family.
    fn ask(protocol: Protocol, source: Source<'_>, targets: &[Target]) -> Self {
        let first = targets[0].address;
        let number = match (protocol, first.is_ipv6()) {
            (Protocol::Sctp, _) => sctp::PROTOCOL,
            (Protocol::Icmp, false) => ICMP,
            (Protocol::Icmp, true) => ICMPV6,
            (Protocol::Tcp | Protocol::Udp | Protocol::Unknown, _) => UNKNOWN_PROTOCOL,
        };
        let socket = raw_socket(Domain::for_address(first), number);
        socket.bind(&SocketAddr::new(source(first.ip()), 0).into()).expect("an own address");
        let fresh = fresh_numbers();
        let mut open = BTreeMap::new();
        for (number, target) in (fresh..).zip(targets) {
            let address = target.address;
            let (packet, key) = match protocol {
                Protocol::Sctp => {
                    let (destination, tag) = (address.port(), u32::from(number) + 1);
                    let init = sctp::Packet { source: number, destination, tag, answers: None };
                    (init.bytes(), (destination, number))
                }
                Protocol::Icmp => {
                    let echo = Echo { identifier: fresh, sequence: number };
                    (echo.request(address.is_ipv6()).to_vec(), (fresh, number))
                }
                Protocol::Tcp | Protocol::Udp | Protocol::Unknown => {
                    ([QUESTION, &number.to_be_bytes()].concat(), (0, number))
                }
            };
            if socket.send_to(&packet, &SocketAddr::new(address.ip(), 0).into()).is_ok() {
                open.insert((address.ip(), key.0, key.1), *target);
            }
        }
        Self { protocol, socket, open }
    }

    /// Notes the answers that are there.
    fn hear(&mut self, answered: &mut BTreeSet<Target>) {
        while let Some((bytes, from)) = receive_raw(&self.socket) {
            let key = match self.protocol {
                Protocol::Sctp => sctp::Packet::parse(&bytes)
                    .filter(|packet| packet.answers.is_some())
                    .map(|packet| (packet.source, packet.destination)),
                Protocol::Icmp => {
                    Echo::answer(&bytes, from.is_ipv6()).map(|answer| (answer.identifier, answer.sequence))
                }
                Protocol::Tcp | Protocol::Udp | Protocol::Unknown => bytes
                    .strip_prefix(ANSWER)
                    .and_then(|number| number.try_into().ok())
                    .map(|number| (0, u16::from_be_bytes(number))),
            };
            if let Some((one, two)) = key {
                answered.extend(self.open.remove(&(from, one, two)));
            }
        }
    }
}

/// The first of a hundred numbers that go round. None has been used in the last seconds: a connection that conntrack knows is not
/// judged again.
fn fresh_numbers() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 500 * 100
}

fn wait(asked: &[Asked], deadline: Instant) {
    let wanted = |asked: &Asked| match asked {
        Asked::Tcp(..) => PollFlags::POLLOUT,
        Asked::Udp(..) | Asked::Crafted(_) => PollFlags::POLLIN,
    };
    let mut all: Vec<_> = asked.iter().map(|asked| PollFd::new(descriptor(asked), wanted(asked))).collect();
    let left = deadline.saturating_duration_since(Instant::now()).as_millis().min(1000);
    poll(&mut all, PollTimeout::try_from(left).expect("a short time")).expect("poll");
}

fn descriptor(asked: &Asked) -> BorrowedFd<'_> {
    match asked {
        Asked::Tcp(_, socket) => socket.as_fd(),
        Asked::Udp(_, socket) => socket.as_fd(),
        Asked::Crafted(crafted) => crafted.socket.as_fd(),
    }
}
