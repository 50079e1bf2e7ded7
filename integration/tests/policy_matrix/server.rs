//! What every pod runs: it takes connections and answers datagrams on [`PORTS`], over every protocol and both families.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use integration::lab::Place;
use minipod_kernel::netns::NetNs;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockaddrStorage, recvfrom};
use socket2::{Domain, Socket, Type};

use crate::sctp;
use crate::target::PORTS;

/// A server in a pod's network; it ends when it is dropped.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Sockets {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
    sctp: Vec<(Domain, Socket)>,
}

impl Server {
    pub(crate) fn start(place: &Place) -> Self {
        let netns = NetNs::open(&place.netns).expect("the pod's network");
        let sockets = netns.run(Sockets::open).expect("no panic");
        let stop = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                sockets.serve();
            }
        });
        Self { stop, thread: Some(thread) }
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
    fn open() -> Self {
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let tcp = PORTS.map(|port| TcpListener::bind(any(port)).expect("a listener"));
        let udp = PORTS.map(|port| UdpSocket::bind(any(port)).expect("a socket"));
        for socket in &tcp {
            socket.set_nonblocking(true).expect("non-blocking");
        }
        for socket in &udp {
            socket.set_nonblocking(true).expect("non-blocking");
        }
        let raw = |domain| (domain, raw_socket(domain));
        Self { tcp: tcp.into(), udp: udp.into(), sctp: vec![raw(Domain::IPV4), raw(Domain::IPV6)] }
    }

    /// Answers what is there, or waits for a moment.
    fn serve(&self) {
        let tcp = self.tcp.iter().map(|socket| socket.as_fd());
        let udp = self.udp.iter().map(|socket| socket.as_fd());
        let sctp = self.sctp.iter().map(|(_, socket)| socket.as_fd());
        let mut wanted: Vec<_> = tcp.chain(udp).chain(sctp).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        poll(&mut wanted, PollTimeout::from(100_u8)).expect("poll");
        for socket in &self.tcp {
            // Taken and closed: a client that is connected has what it wanted.
            while socket.accept().is_ok() {}
        }
        for socket in &self.udp {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                // The client may be gone.
                let _ = socket.send_to(&buffer[..length], from);
            }
        }
        for (domain, socket) in &self.sctp {
            while let Some((packet, from)) = receive_sctp(*domain, socket) {
                if packet.answers.is_none() && PORTS.contains(&packet.destination) {
                    let _ = socket.send_to(&packet.answer().bytes(), &SocketAddr::new(from, 0).into());
                }
            }
        }
    }
}

/// A socket for SCTP packets of one family.
pub(crate) fn raw_socket(domain: Domain) -> Socket {
    let socket = Socket::new(domain, Type::RAW, Some(sctp::PROTOCOL.into())).expect("a raw socket; run as root");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

/// The next packet that is there, with where it came from.
pub(crate) fn receive_sctp(domain: Domain, socket: &Socket) -> Option<(sctp::Packet, IpAddr)> {
    loop {
        let mut buffer = [0; 256];
        let (length, from) = match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
            Ok(received) => received,
            Err(Errno::EWOULDBLOCK) => return None,
            // An error that an earlier packet has brought back.
            Err(_) => continue,
        };
        // IPv4 hands over its header, IPv6 does not (raw(7), ipv6(7)).
        let header = if domain == Domain::IPV4 { usize::from(buffer[0] & 15) * 4 } else { 0 };
        let from = from.as_ref().and_then(address);
        if let (Some(packet), Some(from)) = (buffer[..length].get(header..).and_then(sctp::Packet::parse), from) {
            return Some((packet, from));
        }
    }
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}
