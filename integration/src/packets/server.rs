//! What every pod runs: it takes connections and answers datagrams on [`PORTS`], over every protocol and both families, and sends
//! back packets of the unknown protocol.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockaddrStorage, recvfrom};
use socket2::{Domain, Socket, Type};

use super::echo::UNKNOWN_PROTOCOL;
use super::sctp;
use super::target::PORTS;
use crate::lab::Place;

/// What probes send; other texts are remembered.
pub const QUESTION: &[u8] = b"?";
/// What answers a packet of the unknown protocol.
pub const ANSWER: &[u8] = b"!";

/// A server at a place's addresses; it ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    heard: Arc<Mutex<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Sockets {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    sctp: Vec<Socket>,
    unknown: Vec<Socket>,
}

impl Server {
    /// Serves at the addresses of the place.
    ///
    /// # Panics
    /// When somebody else does already.
    #[must_use]
    pub fn start(place: &Place) -> Self {
        let sockets = place.run(|| Sockets::open(&place.addresses));
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::<Mutex<BTreeSet<String>>>::default();
        let (over, notes) = (Arc::clone(&stop), Arc::clone(&heard));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                sockets.serve(&notes);
            }
        });
        Self { heard, stop, thread: Some(thread) }
    }

    /// The texts of all datagrams that have come, other than probes, since it was last asked.
    ///
    /// # Panics
    /// When the server has.
    #[must_use]
    pub fn heard(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.heard.lock().expect("no panic"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

impl Sockets {
    fn open(addresses: &[IpAddr]) -> Self {
        let all = || addresses.iter().flat_map(|address| PORTS.map(|port| SocketAddr::new(*address, port)));
        let tcp: Vec<TcpListener> = all().map(|at| TcpListener::bind(at).expect("a listener")).collect();
        let udp: Vec<UdpSocket> = all().map(|at| UdpSocket::bind(at).expect("a socket")).collect();
        for socket in &tcp {
            socket.set_nonblocking(true).expect("non-blocking");
        }
        for socket in &udp {
            socket.set_nonblocking(true).expect("non-blocking");
        }
        let raw = |protocol| addresses.iter().map(|address| raw_socket_at(*address, protocol)).collect();
        Self { tcp, udp, sctp: raw(sctp::PROTOCOL), unknown: raw(UNKNOWN_PROTOCOL) }
    }

    /// Answers what is there, or waits for a moment.
    fn serve(&self, heard: &Mutex<BTreeSet<String>>) {
        let tcp = self.tcp.iter().map(|socket| socket.as_fd());
        let udp = self.udp.iter().map(|socket| socket.as_fd());
        let raw = self.sctp.iter().chain(&self.unknown).map(|socket| socket.as_fd());
        let mut wanted: Vec<_> = tcp.chain(udp).chain(raw).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        poll(&mut wanted, PollTimeout::from(100_u8)).expect("poll");
        for socket in &self.tcp {
            // Taken and closed: a client that is connected has what it wanted.
            while socket.accept().is_ok() {}
        }
        for socket in &self.udp {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let text = &buffer[..length];
                if text != QUESTION {
                    heard.lock().expect("no panic").insert(String::from_utf8_lossy(text).into_owned());
                }
                // The client may be gone.
                let _ = socket.send_to(text, from);
            }
        }
        for socket in &self.sctp {
            while let Some((bytes, from)) = receive_raw(socket) {
                let init = sctp::Packet::parse(&bytes).filter(|packet| packet.answers.is_none());
                if let Some(packet) = init.filter(|packet| PORTS.contains(&packet.destination)) {
                    let _ = socket.send_to(&packet.answer().bytes(), &SocketAddr::new(from, 0).into());
                }
            }
        }
        for socket in &self.unknown {
            while let Some((bytes, from)) = receive_raw(socket) {
                if bytes.first() == QUESTION.first() {
                    let answer = [ANSWER, &bytes[QUESTION.len()..]].concat();
                    let _ = socket.send_to(&answer, &SocketAddr::new(from, 0).into());
                }
            }
        }
    }
}

/// A socket for packets of the IP protocol to and from this address.
fn raw_socket_at(address: IpAddr, protocol: i32) -> Socket {
    let socket = raw_socket(Domain::for_address(SocketAddr::new(address, 0)), protocol);
    socket.bind(&SocketAddr::new(address, 0).into()).expect("an own address");
    socket
}

/// A socket for packets of one family and IP protocol.
///
/// # Panics
/// When this is not root.
#[must_use]
pub fn raw_socket(domain: Domain, protocol: i32) -> Socket {
    let socket = Socket::new(domain, Type::RAW, Some(protocol.into())).expect("a raw socket; run as root");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

/// The next packet that is there, without its IP header, and where it came from.
#[must_use]
pub fn receive_raw(socket: &Socket) -> Option<(Vec<u8>, IpAddr)> {
    loop {
        let mut buffer = [0; 256];
        let (length, from) = match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
            Ok(received) => received,
            Err(Errno::EWOULDBLOCK) => return None,
            // An error that an earlier packet has brought back.
            Err(_) => continue,
        };
        let Some(from) = from.as_ref().and_then(address) else { continue };
        // IPv4 hands over its header, IPv6 does not (raw(7), ipv6(7)).
        let header = if from.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
        if let Some(bytes) = buffer[..length].get(header..) {
            return Some((bytes.to_owned(), from));
        }
    }
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}
