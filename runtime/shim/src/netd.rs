//! A question to netd that never blocks the shim: a socket and what has arrived on it so far.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use minipod_protocol::line;
use minipod_protocol::netd::{Attach, Attached, Envelope, PodRef, Request, Response, Sandbox as Interface, VERSION};
use minipod_protocol::shim::Sandbox;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::os::fd::AsRawFd;

/// The pod's interface.
const IFNAME: &str = "eth0";

/// A question under way.
#[derive(Debug)]
pub(crate) struct Call {
    stream: UnixStream,
    unsent: Vec<u8>,
    received: Vec<u8>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// make the pod's interface
    Attach,
    /// release it
    Detach,
}

/// Asks netd.
pub(crate) fn ask(socket_path: &Path, question: Question, sandbox: &Sandbox) -> io::Result<Call> {
    let interface = Interface { container_id: sandbox.uid.clone(), ifname: IFNAME.into() };
    let request = match question {
        Question::Detach => Request::Detach(interface),
        Question::Attach => Request::Attach(Attach {
            sandbox: interface,
            netns: format!("/proc/{}/ns/net", std::process::id()).into(),
            pod: Some(PodRef {
                namespace: sandbox.namespace.clone(),
                name: sandbox.name.clone(),
                uid: Some(sandbox.uid.clone()),
            }),
            labels: std::collections::BTreeMap::new(),
            addresses: Vec::new(),
            mac: None,
        }),
    };
    let stream = open(socket_path)?;
    let mut call =
        Call { stream, unsent: line::encode(&Envelope { version: VERSION, request })?, received: Vec::new() };
    call.send()?;
    Ok(call)
}

/// The address that netd gave, or what it said instead.
pub(crate) fn attached(response: Response) -> Result<Attached, String> {
    match response {
        Response::Attached(attached) => Ok(attached),
        Response::Error(error) => Err(error.to_string()),
        _ => Err("netd gave another answer than to an attach".into()),
    }
}

/// Whether netd has released the interface, or what it said instead.
pub(crate) fn detached(response: Response) -> Result<(), String> {
    match response {
        Response::Done => Ok(()),
        Response::Error(error) => Err(error.to_string()),
        _ => Err("netd gave another answer than to a detach".into()),
    }
}

/// The delay before the next try after `failures` of them: 200 ms doubling to 10 s.
pub(crate) fn retry_delay(failures: u32) -> Duration {
    Duration::from_millis(200).saturating_mul(1 << failures.saturating_sub(1).min(10)).min(Duration::from_secs(10))
}

impl Call {
    /// Goes on with what the socket allows now; the answer once it is there.
    pub(crate) fn advance(&mut self) -> io::Result<Option<Response>> {
        self.send()?;
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.received.len() as u64 > line::MAX_LINE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                return line::decode(&self.received[..end]).map(Some);
            }
        }
    }

    /// Whether something is still to be sent.
    pub(crate) fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Call {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Connects without waiting: a netd whose queue is full counts as one that is away.
fn open(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let descriptor: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(descriptor))
}

#[cfg(test)]
mod tests {
    use super::retry_delay;

    #[test]
    fn retries_slow_down_to_ten_seconds() {
        let delays: Vec<_> = [1, 2, 3, 6, 7, 100].map(|failures| retry_delay(failures).as_millis()).to_vec();
        assert_eq!(delays, [200, 400, 800, 6400, 10_000, 10_000]);
    }
}
