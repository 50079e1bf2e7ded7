//! Single questions: what becomes of one connection or datagram, where a matrix of what passes does not say enough.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use integration::lab::Place;
use integration::packets::target::Protocol;

use crate::case::port;

/// The cluster DNS, in a question.
pub(crate) const DNS: &str = "dns";
/// A refusal comes before the first retransmission, and so does an answer.
const AT_ONCE: Duration = Duration::from_millis(900);
/// `kubernetes.default.svc.cluster.local`, type A (RFC 1035, section 4).
const LOOKUP: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01";

/// `FROM -> TO`.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Pair {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once(" -> ").ok_or_else(|| format!("`{text}`: write FROM -> TO"))?;
        Ok(Self { from: from.trim().to_owned(), to: to.trim().to_owned() })
    }
}

/// `FROM as WHOM -> TO`, where `WHOM` has a row or is an address.
#[derive(Debug, Clone)]
pub(crate) struct Spoof {
    pub(crate) from: String,
    pub(crate) claimed: String,
    pub(crate) to: String,
}

impl Spoof {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: write FROM as WHOM -> TO");
        let pair = Pair::read(text).map_err(|_| wrong())?;
        let (from, claimed) = pair.from.split_once(" as ").ok_or_else(wrong)?;
        Ok(Self { from: from.to_owned(), claimed: claimed.to_owned(), to: pair.to })
    }
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    /// a reset, or "port unreachable" of somebody who does not serve
    Refused,
    /// an ICMP error that says that it may not be
    Prohibited,
    Silent,
}

/// `FROM -> TO PORT/PROTOCOL: OUTCOME`; the outcome is that of both families.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) outcome: Outcome,
}

impl Question {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: write FROM -> TO PORT/PROTOCOL: answered, refused, prohibited or silent");
        let (question, outcome) = text.rsplit_once(": ").ok_or_else(wrong)?;
        let outcome = match outcome {
            "answered" => Outcome::Answered,
            "refused" => Outcome::Refused,
            "prohibited" => Outcome::Prohibited,
            "silent" => Outcome::Silent,
            _ => return Err(wrong()),
        };
        let pair = Pair::read(question)?;
        let (to, at) = pair.to.rsplit_once(' ').ok_or_else(wrong)?;
        let (port, protocol) = port(at).ok_or_else(wrong)?;
        if protocol == Protocol::Sctp {
            return Err(format!("`{text}`: only TCP and UDP are asked singly"));
        }
        Ok(Self { from: pair.from, to: to.to_owned(), port, protocol, outcome })
    }

    /// Asks it.
    pub(crate) fn ask(&self, from: &Place, to: IpAddr) -> Outcome {
        let source = if from.is_bound { from.address(to.is_ipv6()) } else { unspecified(to) };
        let to = SocketAddr::new(to, self.port);
        let text = if self.to == DNS { LOOKUP } else { b"?" };
        let answer = from.run(|| match self.protocol {
            Protocol::Tcp => TcpStream::connect_timeout(&to, AT_ONCE).map(drop),
            _ => datagram(source, to, text),
        });
        match answer.map_err(|error| error.kind()) {
            Ok(()) => Outcome::Answered,
            Err(ErrorKind::ConnectionRefused) => Outcome::Refused,
            Err(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::PermissionDenied) => {
                Outcome::Prohibited
            }
            Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) => Outcome::Silent,
            Err(kind) => unreachable!("{self:?}: {kind}"),
        }
    }
}

fn datagram(source: IpAddr, to: SocketAddr, text: &[u8]) -> Result<(), Error> {
    let socket = UdpSocket::bind((source, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(AT_ONCE))?;
    socket.send(text)?;
    socket.recv(&mut [0; 512]).map(drop)
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

#[test]
fn a_question_is_read_from_its_line_or_refused_with_how_to_write_it() {
    let question = Question::read("x/a -> dns 53/UDP: silent").expect("a question");
    assert_eq!((question.from.as_str(), question.to.as_str(), question.port), ("x/a", DNS, 53));
    assert_eq!((question.protocol, question.outcome), (Protocol::Udp, Outcome::Silent));
    for line in ["x/a -> x/b 80/TCP", "x/a -> x/b 80/TCP: open", "x/a -> x/b: silent", "x/a x/b 80/TCP: silent"] {
        assert!(Question::read(line).expect_err(line).contains("write FROM -> TO"), "{line}");
    }
}
