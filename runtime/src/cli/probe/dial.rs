//! Dials from inside of pods' networks.
//!
//! A thread for each pod enters its network and ends with it; the threads that it starts are in the same one. All of them together are
//! bounded, and so is the time that each takes.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use minipod_kernel::netns::NetNsError;
use minipod_model::Protocol;

use super::question::Question;
use super::source::Source;

/// Who answers does so within this time.
const PATIENCE: Duration = Duration::from_secs(1);
/// From so many pods at once,
const PODS: usize = 8;
/// and so many connections from each.
const EACH: usize = 16;

/// What came of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// connected, or answered by a datagram
    Answered,
    /// a reset, or ICMP "port unreachable": it was there, and nobody listens; or a service had no endpoint
    Refused,
    /// nothing came back in time
    Silence,
    /// it could not even be sent, or somebody on the way refused it
    Failed(String),
}

/// The outcome of each question, in their order.
pub(super) fn all(sources: &[Source], questions: &[Question]) -> Result<Vec<Outcome>, NetNsError> {
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(vec![None; questions.len()]);
    let failed: Mutex<Option<NetNsError>> = Mutex::new(None);
    let of_source = |source: &Source| {
        let own = questions.iter().enumerate().filter(|(_, question)| question.from == source.pod);
        let own: Vec<(usize, &Question)> = own.collect();
        let entered = source.netns.run(|| {
            each(EACH, &own, |(index, question)| {
                let outcome = dial(question.protocol, question.address);
                outcomes.lock().unwrap_or_else(PoisonError::into_inner)[*index] = Some(outcome);
            });
        });
        if let Err(error) = entered {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    };
    each(PODS, sources, of_source);
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let lost = || Outcome::Failed("not tried".to_owned());
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(lost)).collect())
}

/// Works on all items, on so many threads at once.
fn each<T: Sync>(threads: usize, items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

fn dial(protocol: Protocol, to: SocketAddr) -> Outcome {
    let outcome = match protocol {
        Protocol::Udp => datagram(to),
        Protocol::Tcp | Protocol::Sctp => TcpStream::connect_timeout(&to, PATIENCE).map(drop),
    };
    match outcome {
        Ok(()) => Outcome::Answered,
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Silence,
            _ => Outcome::Failed(error.to_string()),
        },
    }
}

/// An empty datagram, and what comes back.
fn datagram(to: SocketAddr) -> std::io::Result<()> {
    let any = if to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(&[])?;
    socket.recv(&mut [0; 1]).map(drop)
}
