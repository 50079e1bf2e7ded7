//! Questions about names outside the cluster, passed on to the resolvers of the node. A question goes on as it came, by the protocol by
//! which it came, so that sizes, flags and options stay between the client and the resolver. Nothing is cached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::resolv_conf::nameservers;

/// How long one resolver may take for an answer.
const ONE_ANSWER: Duration = Duration::from_secs(2);
/// How long all resolvers together may take: less than the 5 s after which a client asks again (resolv.conf(5), `timeout`).
const ALL_ANSWERS: Duration = Duration::from_millis(4500);
/// How often every resolver is asked.
const ROUNDS: usize = 2;
/// Questions under way at once; each holds a socket.
const AT_ONCE: usize = 512;
/// As many resolvers as resolv.conf(5) uses.
const MOST_RESOLVERS: usize = 3;

/// Where the node's resolvers are found.
#[derive(Debug)]
pub enum Upstreams {
    /// these
    Fixed(Vec<SocketAddr>),
    /// those in a `resolv.conf`, read again when the file changes
    ResolvConf {
        /// the file
        path: PathBuf,
        /// addresses never asked: those on which the cluster DNS itself answers
        except: Vec<IpAddr>,
    },
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// there is nobody to ask
    #[error("the node has no resolver to forward to; add a `nameserver` line to its resolv.conf")]
    NoResolver,
    /// nobody answered in time
    #[error("none of the node's resolvers answered: {tried:?}")]
    NoAnswer {
        /// who was asked
        tried: Vec<SocketAddr>,
    },
    /// too much is under way
    #[error("{AT_ONCE} questions are being forwarded already")]
    Busy,
}

/// How a question came and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// a datagram
    Udp,
    /// a stream
    Tcp,
}

/// Asks the node's resolvers.
#[derive(Debug)]
pub struct Forwarder {
    upstreams: Upstreams,
    /// the file's time of change and what it said
    read: Mutex<Option<(SystemTime, Vec<SocketAddr>)>>,
    slots: Semaphore,
    /// patience with one resolver, and with all of them
    pub(super) patience: (Duration, Duration),
}

impl Forwarder {
    /// Forwards to these.
    #[must_use]
    pub fn new(upstreams: Upstreams) -> Self {
        Self { upstreams, read: Mutex::new(None), slots: Semaphore::new(AT_ONCE), patience: (ONE_ANSWER, ALL_ANSWERS) }
    }

    /// The answer to `question`, a whole message as it stands on the wire: the first that is not a failure, from the resolvers in their
    /// order. A failure (SERVFAIL, REFUSED) is the answer only if all fail.
    ///
    /// # Errors
    /// Nobody to ask, no answer in time, or too many questions under way.
    pub async fn ask(&self, question: &[u8], via: Via) -> Result<Message, ForwardError> {
        let _slot = self.slots.try_acquire().map_err(|_| ForwardError::Busy)?;
        let resolvers = self.resolvers();
        if resolvers.is_empty() {
            return Err(ForwardError::NoResolver);
        }
        let (one, all) = self.patience;
        let deadline = Instant::now() + all;
        let mut failure = None;
        for resolver in (0..ROUNDS).flat_map(|_| &resolvers) {
            match timeout_at(deadline, timeout(one, exchange(*resolver, question, via))).await {
                Ok(Ok(Ok(answer))) if is_failure(&answer) => failure = Some(answer),
                Ok(Ok(Ok(answer))) => return Ok(answer),
                Ok(Ok(Err(error))) => {
                    tracing::debug!(%resolver, %error, "resolver cannot be asked");
                }
                Ok(Err(_)) => tracing::debug!(%resolver, "resolver does not answer"),
                Err(_) => break,
            }
        }
        failure.ok_or(ForwardError::NoAnswer { tried: resolvers })
    }

    /// Who is asked, in order.
    pub(super) fn resolvers(&self) -> Vec<SocketAddr> {
        let (path, except) = match &self.upstreams {
            Upstreams::Fixed(resolvers) => return resolvers.clone(),
            Upstreams::ResolvConf { path, except } => (path, except),
        };
        let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
        let Ok(changed) = changed else { return Vec::new() };
        // What a panicking reader left is replaced below or was whole: the pair is written at once.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, resolvers)) = read.as_ref().filter(|(known, _)| *known == changed) {
            return resolvers.clone();
        }
        let text = fs::read_to_string(path).unwrap_or_default();
        let usable = nameservers(&text).into_iter().filter(|ip| !except.contains(ip) && !ip.is_unspecified());
        let resolvers: Vec<SocketAddr> = usable.take(MOST_RESOLVERS).map(|ip| SocketAddr::new(ip, 53)).collect();
        *read = Some((changed, resolvers.clone()));
        resolvers
    }
}

fn is_failure(answer: &Message) -> bool {
    matches!(answer.metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp)
}

async fn exchange(resolver: SocketAddr, question: &[u8], via: Via) -> io::Result<Message> {
    let asked = Message::from_vec(question).map_err(io::Error::other)?;
    match via {
        Via::Udp => by_udp(resolver, question, &asked).await,
        Via::Tcp => by_tcp(resolver, question, &asked).await,
    }
}

/// A socket of its own for every question: its port is as hard to guess as the kernel's choice (RFC 5452 section 4.5).
async fn by_udp(resolver: SocketAddr, question: &[u8], asked: &Message) -> io::Result<Message> {
    let any: IpAddr = if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match Message::from_vec(&buffer[..length]) {
            Ok(answer) if answers(&answer, asked) => return Ok(answer),
            // Not for us: the answer may still come.
            Ok(_) | Err(_) => {}
        }
    }
}

async fn by_tcp(resolver: SocketAddr, question: &[u8], asked: &Message) -> io::Result<Message> {
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(resolver).await?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await?;
    let answer = Message::from_vec(&buffer).map_err(io::Error::other)?;
    if answers(&answer, asked) { Ok(answer) } else { Err(io::Error::other("the answer belongs to another question")) }
}

/// Whether the message answers the question (RFC 5452 section 9.1).
fn answers(answer: &Message, asked: &Message) -> bool {
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == asked.metadata.id
        && answer.queries == asked.queries
}
