//! Packets between all pods, all the time: datagrams that are never answered, so that each is judged as a first packet, and new TCP
//! connections. Each has a number, and what arrives is remembered by it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use integration::lab::Place;
use minipod_kernel::netns::NetNs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

/// Every pod takes packets on these ports.
pub(crate) const PORTS: [u16; 2] = [80, 81];
/// Time between two datagrams of a line.
const TICK: Duration = Duration::from_millis(20);
/// A line over TCP opens a connection each so many ticks.
const TCP_TICKS: u32 = 10;
/// A connection that is not there by then has lost its first packet: the second one goes out after a second.
const FIRST_PACKET: Duration = Duration::from_millis(900);
/// What a receiver may be behind by, in bytes.
const BUFFER: usize = 8 << 20;

/// How packets are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// From whom to whom, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) transport: Transport,
    pub(crate) port: u16,
    pub(crate) v6: bool,
}

/// Packets of one way.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) way: Way,
    pub(crate) to: SocketAddr,
    /// how many have been sent
    sent: AtomicU32,
    /// which have arrived
    arrived: Mutex<Vec<bool>>,
}

impl Line {
    pub(crate) fn new(way: Way, address: IpAddr) -> Self {
        let to = SocketAddr::new(address, way.port);
        Self { way, to, sent: AtomicU32::new(0), arrived: Mutex::default() }
    }

    fn note(&self, number: u32) {
        let (number, mut arrived) = (number as usize, self.arrived.lock().expect("no panic"));
        if arrived.len() <= number {
            arrived.resize(number + 1, false);
        }
        arrived[number] = true;
    }

    /// How many of these have arrived.
    pub(crate) fn arrived(&self, from: u32, until: u32) -> usize {
        let arrived = self.arrived.lock().expect("no panic");
        (from..until).filter(|number| arrived.get(*number as usize) == Some(&true)).count()
    }
}

/// All lines; they end when it is dropped.
pub(crate) struct Streams {
    lines: Arc<Vec<Line>>,
    stop: Arc<AtomicBool>,
    over: Vec<mpsc::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Streams {
    pub(crate) fn start(pods: &BTreeMap<&'static str, Place>, lines: Vec<Line>) -> Self {
        let mut streams = Self { lines: Arc::new(lines), stop: Arc::default(), over: Vec::new(), threads: Vec::new() };
        let ears: Vec<Ears> = pods.values().map(|place| within(place, Ears::open)).collect();
        let (lines, stop) = (Arc::clone(&streams.lines), Arc::clone(&streams.stop));
        streams.threads.push(std::thread::spawn(move || hear(&ears, &lines, &stop)));
        for (name, place) in pods {
            let (over, is_over) = mpsc::channel();
            let (lines, place, name) = (Arc::clone(&streams.lines), place.clone(), *name);
            streams.over.push(over);
            streams.threads.push(std::thread::spawn(move || within(&place, move || talk(name, &lines, &is_over))));
        }
        streams
    }

    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The number of the next packet of each line.
    pub(crate) fn next(&self) -> Vec<u32> {
        self.lines.iter().map(|line| line.sent.load(Ordering::Acquire)).collect()
    }

    /// Whether each line has sent something since, and datagrams several times.
    pub(crate) fn have_sent_since(&self, since: &[u32]) -> bool {
        let few = |line: &Line| if line.way.transport == Transport::Udp { 4 } else { 1 };
        self.lines.iter().zip(self.next()).zip(since).all(|((line, now), since)| now >= since + few(line))
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.over.clear();
        for thread in self.threads.drain(..) {
            // A test that has failed already is not to fail twice.
            let _ = thread.join();
        }
    }
}

/// Where a pod takes packets.
struct Ears {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
}

impl Ears {
    fn open() -> Self {
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let udp = PORTS.map(|port| UdpSocket::bind(any(port)).expect("a socket"));
        let tcp = PORTS.map(|port| TcpListener::bind(any(port)).expect("a listener"));
        for socket in &udp {
            socket.set_nonblocking(true).expect("non-blocking");
            setsockopt(socket, sockopt::RcvBufForce, &BUFFER).expect("a buffer; run as root");
        }
        for socket in &tcp {
            socket.set_nonblocking(true).expect("non-blocking");
        }
        Self { udp: udp.into(), tcp: tcp.into() }
    }
}

/// Takes everything that comes.
fn hear(ears: &[Ears], lines: &[Line], stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let sockets = ears.iter().flat_map(|ear| {
            ear.udp.iter().map(|socket| socket.as_fd()).chain(ear.tcp.iter().map(|socket| socket.as_fd()))
        });
        let mut wanted: Vec<_> = sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
        poll(&mut wanted, PollTimeout::from(100_u8)).expect("poll");
        let mut packet = [0; 8];
        for socket in ears.iter().flat_map(|ear| &ear.udp) {
            while socket.recv(&mut packet).is_ok() {
                let half = |half: &[u8]| u32::from_be_bytes(half.try_into().expect("four bytes"));
                if let Some(line) = lines.get(half(&packet[..4]) as usize) {
                    line.note(half(&packet[4..]));
                }
            }
        }
        for socket in ears.iter().flat_map(|ear| &ear.tcp) {
            // Its client has what it wanted.
            while socket.accept().is_ok() {}
        }
    }
}

/// Sends what one pod sends.
fn talk(name: &str, lines: &[Line], is_over: &mpsc::Receiver<()>) {
    let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a socket");
    let of_pod = |transport| {
        let own = move |(_, line): &(u32, &Line)| line.way.from == name && line.way.transport == transport;
        (0..).zip(lines).filter(own).collect::<Vec<_>>()
    };
    let (udp, tcp) = (of_pod(Transport::Udp), of_pod(Transport::Tcp));
    let mut open: VecDeque<(&Line, u32, Socket, Instant)> = VecDeque::new();
    for tick in 0_u32.. {
        for (index, line) in &udp {
            let number = line.sent.load(Ordering::Relaxed);
            let packet = [index.to_be_bytes(), number.to_be_bytes()].concat();
            let socket = if line.way.v6 { &v6 } else { &v4 };
            // What the pod's own kernel does not send was not sent.
            if socket.send_to(&packet, line.to).is_ok() {
                line.sent.store(number + 1, Ordering::Release);
            }
        }
        for (_, line) in tcp.iter().filter(|_| tick.is_multiple_of(TCP_TICKS)) {
            let number = line.sent.fetch_add(1, Ordering::AcqRel);
            open.push_back((line, number, connecting(line.to), Instant::now()));
        }
        open.retain(|(line, number, socket, since)| {
            let is_connected = matches!(socket.take_error(), Ok(None)) && socket.peer_addr().is_ok();
            if is_connected {
                line.note(*number);
            }
            !is_connected && since.elapsed() < FIRST_PACKET
        });
        if is_over.recv_timeout(TICK) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

fn connecting(to: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("non-blocking");
    // No connection of a test is to keep its port for a minute.
    socket.set_linger(Some(Duration::ZERO)).expect("no lingering");
    // What it says is asked for later.
    let _ = socket.connect(&to.into());
    socket
}

fn within<T: Send>(place: &Place, work: impl FnOnce() -> T + Send) -> T {
    NetNs::open(&place.netns).expect("the pod's network").run(work).expect("no panic")
}
