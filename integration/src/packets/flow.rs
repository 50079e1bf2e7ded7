//! Live connections between two pods, and when something last came through them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket};

use super::sctp::{self, Content};
use super::server::{raw_socket, receive_raw};
use crate::lab::{Lab, Place};
use crate::wait::until;

/// Time between two messages.
const INTERVAL: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(20);
/// A packet of a handshake that was not seen is sent again after so long.
const SEND_AGAIN: Duration = Duration::from_millis(500);
/// For a connection that is let in by chance.
const MOMENT: Duration = Duration::from_millis(200);
/// Each flow has a port of its own.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

/// The node's own network, at the addresses that it has for its pods.
///
/// # Panics
/// When the node has no cluster DNS.
#[must_use]
pub fn place_of_node(lab: &Lab) -> Place {
    let own = lab.shell("ip -o address show dev lo scope global").expect_success();
    let dns = ["get", "-n", "kube-system", "service", "kube-dns", "-o", "jsonpath={.spec.clusterIPs[*]}"];
    let dns = lab.minipod(&dns).expect_success();
    let words = own.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next());
    let addresses = words.filter(|word| !dns.split_whitespace().any(|other| other == *word));
    let addresses = addresses.filter_map(|word| word.parse().ok());
    Place { netns: format!("/proc/{}/ns/net", lab.anchor()).into(), addresses: addresses.collect(), is_bound: false }
}

/// Who sends, after the connection is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// both sides send over TCP
    TcpBusy,
    /// nobody does, until told to
    TcpIdle,
    /// only the server does
    TcpOneWay,
    /// both sides send datagrams
    Udp,
    /// both sides send over an association of crafted packets
    Sctp,
}

/// A flow; it ends when it is dropped.
#[derive(Debug)]
pub struct Flow {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    port: u16,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// an idle client may send now
    go: AtomicBool,
    sent: Mutex<u64>,
    at_server: Mutex<Arrivals>,
    at_client: Mutex<Arrivals>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Arrivals {
    last: Option<Instant>,
    bytes: u64,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Flow {
    /// Opens it, and waits until it lives.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[must_use]
    pub fn open(kind: Kind, client: &Place, (server, address): (&Place, IpAddr)) -> Self {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let mut flow = Self { shared: Arc::default(), threads: Vec::new(), port };
        match kind {
            Kind::Udp => flow.open_udp(client, server, address),
            Kind::Sctp => flow.open_sctp(client, server, address),
            Kind::TcpBusy | Kind::TcpIdle | Kind::TcpOneWay => flow.open_tcp(kind, client, server, address),
        }
        if kind != Kind::TcpIdle {
            until("something to come through", LIMIT, || flow.last().map(drop)).expect("a live flow");
        }
        flow
    }

    /// A busy one over TCP, if it can be opened within a moment.
    ///
    /// # Panics
    /// When the server's network does not serve.
    #[must_use]
    pub fn try_open(client: &Place, server: &Place, address: IpAddr) -> Option<Self> {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let to = SocketAddr::new(address, port);
        let listener = server.run(|| TcpListener::bind(to).expect("a listener"));
        let near = client.run(|| TcpStream::connect_timeout(&to, MOMENT).ok())?;
        let mut flow = Self { shared: Arc::default(), threads: Vec::new(), port };
        flow.run_tcp(Kind::TcpBusy, near, listener.accept().expect("the connection").0);
        Some(flow)
    }

    fn open_tcp(&mut self, kind: Kind, client: &Place, server: &Place, address: IpAddr) {
        let to = SocketAddr::new(address, self.port);
        let listener = server.run(|| TcpListener::bind(to).expect("a listener"));
        let near = client.run(|| TcpStream::connect_timeout(&to, LIMIT).expect("a connection"));
        let (far, _) = listener.accept().expect("the connection");
        self.run_tcp(kind, near, far);
    }

    fn run_tcp(&mut self, kind: Kind, near: TcpStream, far: TcpStream) {
        for stream in [&near, &far] {
            stream.set_nodelay(true).expect("no delay");
            stream.set_read_timeout(Some(INTERVAL)).expect("a time-out");
            stream.set_write_timeout(Some(INTERVAL)).expect("a time-out");
        }
        let (near_copy, far_copy) = (near.try_clone().expect("a copy"), far.try_clone().expect("a copy"));
        self.thread(move |shared| read_all(&near_copy, shared, &shared.at_client));
        self.thread(move |shared| read_all(&far_copy, shared, &shared.at_server));
        match kind {
            Kind::TcpIdle => self.thread(move |shared| {
                let _far = far;
                while !shared.is_over() && !shared.go.load(Ordering::Relaxed) {
                    tick();
                }
                write_all(&near, shared);
            }),
            Kind::TcpOneWay => self.thread(move |shared| {
                let _near = near;
                write_all(&far, shared);
            }),
            Kind::TcpBusy | Kind::Udp | Kind::Sctp => {
                self.thread(move |shared| write_all(&near, shared));
                self.thread(move |shared| write_all(&far, shared));
            }
        }
    }

    fn open_udp(&mut self, client: &Place, server: &Place, address: IpAddr) {
        let to = SocketAddr::new(address, self.port);
        let far = server.run(|| UdpSocket::bind(to).expect("a socket"));
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let near = client.run(|| {
            let socket = UdpSocket::bind(any).expect("a socket");
            socket.connect(to).expect("a peer");
            socket
        });
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(INTERVAL)).expect("a time-out");
        }
        let answers = near.try_clone().expect("a copy");
        self.thread(move |shared| {
            while !shared.is_over() {
                if near.send(b"ping").is_ok() {
                    *shared.sent.lock().expect("no panic") += 4;
                }
                tick();
            }
        });
        self.thread(move |shared| {
            let mut buffer = [0; 64];
            while !shared.is_over() {
                if let Ok((length, from)) = far.recv_from(&mut buffer) {
                    arrived(&shared.at_server, length);
                    let _ = far.send_to(b"pong", from);
                }
            }
        });
        self.thread(move |shared| {
            let mut buffer = [0; 64];
            while !shared.is_over() {
                if let Ok(length) = answers.recv(&mut buffer) {
                    arrived(&shared.at_client, length);
                }
            }
        });
    }

    /// The four packets that make an association, then data from both sides.
    fn open_sctp(&mut self, client: &Place, server: &Place, address: IpAddr) {
        let port = self.port;
        let raw = || raw_socket(Domain::for_address(SocketAddr::new(address, 0)), sctp::PROTOCOL);
        let (near, far) = (client.run(raw), server.run(raw));
        let to = SocketAddr::new(address, 0);
        let init = sctp::Packet { source: port, destination: port, tag: u32::from(port) + 1, answers: None };
        let send = |socket: &Socket, bytes: &[u8], to: SocketAddr| {
            socket.send_to(bytes, &to.into()).expect("a way");
        };
        let wanted = |bytes: &[u8]| sctp::Packet::parse(bytes).filter(|init| init.destination == port);
        let (init, client) = receive(&far, wanted, || send(&near, &init.bytes(), to));
        let (to_server, to_client) = (to, SocketAddr::new(client, 0));
        let answer = init.answer();
        let wanted = |bytes: &[u8]| sctp::Packet::parse(bytes).filter(|answer| answer.answers == Some(init.tag));
        receive(&near, wanted, || send(&far, &answer.bytes(), to_client));
        let wanted = |content| move |bytes: &[u8]| Content::parse(bytes, port).filter(|seen| *seen == content);
        let echo = Content::CookieEcho.bytes([port; 2], answer.tag);
        receive(&far, wanted(Content::CookieEcho), || send(&near, &echo, to_server));
        let ack = Content::CookieAck.bytes([port; 2], init.tag);
        receive(&near, wanted(Content::CookieAck), || send(&far, &ack, to_client));
        let talk = move |socket: &Socket, to: SocketAddr, tag, shared: &Shared, arrivals: &Mutex<Arrivals>| {
            while !shared.is_over() {
                while let Some((bytes, _)) = receive_raw(socket) {
                    if Content::parse(&bytes, port) == Some(Content::Data) {
                        arrived(arrivals, bytes.len());
                    }
                }
                // A node that rejects answers with an error, which the next call of the socket tells.
                let _ = socket.send_to(&Content::Data.bytes([port; 2], tag), &to.into());
                tick();
            }
        };
        self.thread(move |shared| talk(&near, to_server, answer.tag, shared, &shared.at_client));
        self.thread(move |shared| talk(&far, to_client, init.tag, shared, &shared.at_server));
    }

    fn thread(&mut self, work: impl FnOnce(&Shared) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.threads.push(std::thread::spawn(move || work(&shared)));
    }

    /// Lets an idle client send.
    pub fn speak(&self) {
        self.shared.go.store(true, Ordering::Relaxed);
    }

    /// When something last came through, in either direction.
    ///
    /// # Panics
    /// When one of its threads has.
    #[must_use]
    pub fn last(&self) -> Option<Instant> {
        let of = |arrivals: &Mutex<Arrivals>| arrivals.lock().expect("no panic").last;
        of(&self.shared.at_server).max(of(&self.shared.at_client))
    }

    /// Bytes that the client's side of a UDP flow sent, that reached the server, and that came back.
    ///
    /// # Panics
    /// When one of its threads has.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        let of = |arrivals: &Mutex<Arrivals>| arrivals.lock().expect("no panic").bytes;
        let sent = *self.shared.sent.lock().expect("no panic");
        (sent, of(&self.shared.at_server), of(&self.shared.at_client))
    }

    /// Ends it and says what went through, as [`Flow::counts`], with nothing on its way any more.
    #[must_use]
    pub fn finish(mut self) -> (u64, u64, u64) {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("no panic");
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.end();
    }
}

/// The next packet that is wanted, with where it came from. It is sent again and again until it is there, as the protocol's timers do.
fn receive<T>(socket: &Socket, wanted: impl Fn(&[u8]) -> Option<T>, send: impl Fn()) -> (T, IpAddr) {
    let mut last: Option<Instant> = None;
    let next = || {
        if last.is_none_or(|at| at.elapsed() > SEND_AGAIN) {
            send();
            last = Some(Instant::now());
        }
        // A raw socket hears other associations of the same pod as well, faster than this asks: all that is there is read.
        std::iter::from_fn(|| receive_raw(socket)).find_map(|(bytes, from)| Some((wanted(&bytes)?, from)))
    };
    until("a packet of the handshake", LIMIT, next).expect("an association")
}

fn arrived(arrivals: &Mutex<Arrivals>, length: usize) {
    let mut arrivals = arrivals.lock().expect("no panic");
    arrivals.last = Some(Instant::now());
    arrivals.bytes += length as u64;
}

fn read_all(mut stream: &TcpStream, shared: &Shared, arrivals: &Mutex<Arrivals>) {
    let mut buffer = [0; 4096];
    while !shared.is_over() {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => arrived(arrivals, length),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
}

fn write_all(mut stream: &TcpStream, shared: &Shared) {
    while !shared.is_over() {
        // A full buffer is what is to be expected of a connection that was cut.
        let _ = stream.write(b"12345678");
        tick();
    }
}

/// One interval, by waiting for a message that never comes: a flow's pace is part of what it is.
fn tick() {
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(INTERVAL);
}
