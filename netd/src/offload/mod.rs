//! Finds out whether checksums that the VXLAN device leaves to those after it arrive right at other nodes, and has the device compute
//! them itself where they do not. Network cards and hypervisors are known that do not look for checksums inside of such packets:
//! then all is lost between nodes but ICMP, whose checksums nobody leaves to others.
//!
//! No other node has to help. A kernel answers a datagram to a port that nobody serves with "port unreachable" if its checksum is right,
//! else it drops it; and it computes the answer's own checksum itself, so the answer tells of the way there alone. (Not so TCP: over
//! IPv6 a reset's checksum is left to the device, `tcp_v6_send_response`.)

mod decision;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use minipod_kernel::checksum;
use minipod_model::link::VXLAN_LINK;

use decision::{Finding, Step, choose, next, pause};

/// No program serves UDP there (tcpmux, RFC 1078, is TCP's).
const PORT: u16 = 1;
/// Datagrams to each peer for one question.
const TRIES: u32 = 5;
/// How long an answer to one of them is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// The tunnel to other nodes, as far as questions go through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// this node's address in the underlay
    pub local: IpAddr,
    /// the own address and a peer's, both inside
    pub pairs: Vec<(IpAddr, IpAddr)>,
}

/// The thread that asks. It works in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Prober {
    queue: Option<Sender<Option<Tunnel>>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start() -> io::Result<Self> {
        let (queue, orders) = channel();
        let mut work = Work { orders, tunnel: None, known: Known::Nothing, rounds: 0, due: None };
        let thread = Builder::new().name("netd-offload".into()).spawn(move || work.run())?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Tells it of the tunnel, whether it is another or the same as before: somebody may have changed or made anew its device.
    pub fn follow(&self, tunnel: Option<Tunnel>) {
        if let Some(queue) = &self.queue {
            // Nobody listens only once the thread has panicked, which has been seen.
            let _ = queue.send(tunnel);
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is known of checksums that are left to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Right,
    /// they are not left to others, since it was found out, or since somebody decided so before
    ComputedHere,
}

/// What was heard while waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    SameTunnel,
    OtherTunnel,
    End,
}

/// Something else is to be done than asking.
#[derive(Debug)]
struct Interrupted;

struct Work {
    orders: Receiver<Option<Tunnel>>,
    tunnel: Option<Tunnel>,
    known: Known,
    /// rounds since something changed that found nothing
    rounds: u32,
    /// when the next one is
    due: Option<Instant>,
}

impl Work {
    fn run(&mut self) {
        while self.listen(self.due) != Heard::End {
            match self.known {
                Known::Nothing if self.due.is_some_and(|due| due <= Instant::now()) => self.find_out(),
                Known::ComputedHere => compute_here(),
                Known::Nothing | Known::Right => {}
            }
        }
    }

    fn listen(&mut self, until: Option<Instant>) -> Heard {
        let heard = match until {
            Some(until) => self.orders.recv_timeout(until.saturating_duration_since(Instant::now())),
            None => self.orders.recv().map_err(RecvTimeoutError::from),
        };
        match heard {
            Ok(tunnel) if tunnel == self.tunnel => Heard::SameTunnel,
            Ok(tunnel) => {
                self.change_to(tunnel);
                Heard::OtherTunnel
            }
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    fn change_to(&mut self, tunnel: Option<Tunnel>) {
        let local = |tunnel: &Option<Tunnel>| tunnel.as_ref().map(|tunnel| tunnel.local);
        if self.known == Known::Right && local(&tunnel) != local(&self.tunnel) {
            // The packets may leave by another link.
            self.known = Known::Nothing;
        }
        self.rounds = 0;
        self.due = (self.known == Known::Nothing && tunnel.is_some()).then(Instant::now);
        self.tunnel = tunnel;
    }

    /// One round.
    fn find_out(&mut self) {
        // Somebody wanted it off: an earlier netd that found it out, an old kernel, an administrator.
        if checksum::offloads(VXLAN_LINK).is_ok_and(|offloads| !offloads) {
            return self.know(Known::ComputedHere);
        }
        let mut answered = Vec::new();
        let finding = loop {
            match next(&answered) {
                Step::Ask { offload } => {
                    // Without a device there is no answer either.
                    let _ = checksum::set_offload(VXLAN_LINK, offload);
                    match self.ask() {
                        Ok(answer) => answered.push(answer),
                        Err(Interrupted) => break None,
                    }
                }
                Step::Found(finding) => break Some(finding),
            }
        };
        if finding != Some(Finding::Spoiled) {
            let _ = checksum::set_offload(VXLAN_LINK, true);
        }
        match finding {
            Some(Finding::Right) => {
                tracing::info!(link = VXLAN_LINK, "checksums left to the hardware arrive right at other nodes");
                self.know(Known::Right);
            }
            Some(Finding::Spoiled) => {
                tracing::warn!(
                    link = VXLAN_LINK,
                    "checksums left to the hardware arrive wrong at other nodes; they are computed before from now on"
                );
                self.know(Known::ComputedHere);
                compute_here();
            }
            Some(Finding::Nothing) => {
                self.rounds = self.rounds.saturating_add(1);
                self.due = Some(Instant::now() + pause(self.rounds));
            }
            None => {}
        }
    }

    fn know(&mut self, known: Known) {
        self.known = known;
        self.due = None;
    }

    /// Whether a peer answers.
    fn ask(&mut self) -> Result<bool, Interrupted> {
        let pairs = self.tunnel.as_ref().map(|tunnel| choose(&tunnel.pairs, self.rounds)).unwrap_or_default();
        // What cannot be asked is not answered.
        let questions: Vec<UdpSocket> = pairs.into_iter().filter_map(|(from, to)| open(from, to).ok()).collect();
        for _ in 0..TRIES {
            if questions.iter().any(|question| is_refusal(question.send(b"?"))) {
                return Ok(true);
            }
            self.wait(PATIENCE)?;
            if questions.iter().any(|question| is_refusal(question.recv(&mut [0; 8]))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn wait(&mut self, time: Duration) -> Result<(), Interrupted> {
        let until = Instant::now() + time;
        loop {
            match self.listen(Some(until)) {
                Heard::Nothing => return Ok(()),
                Heard::SameTunnel => {}
                Heard::OtherTunnel | Heard::End => return Err(Interrupted),
            }
        }
    }
}

fn open(from: IpAddr, to: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect((to, PORT))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// "Port unreachable" is told as an error of the next call.
fn is_refusal<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// A device that was made anew does not know.
fn compute_here() {
    if checksum::offloads(VXLAN_LINK).unwrap_or(false) {
        match checksum::set_offload(VXLAN_LINK, false) {
            Ok(()) => tracing::info!(link = VXLAN_LINK, "the device computes checksums itself"),
            Err(error) => {
                tracing::warn!(link = VXLAN_LINK, %error, "the device cannot be told to compute checksums itself");
            }
        }
    }
}
