//! A blocking netlink socket: sends one or many requests in one system call and gathers their acknowledgements.
//!
//! Ownership: bound for life to the network namespace of the thread that opened it. One request at a time (`&mut self`).

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::SocketAddr;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SetSockOpt as _, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::message::{
    HEADER_LEN, Message, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, Received, align, attribute, messages, text_of, u32_at,
};

/// Large enough for a refused message of the largest size that comes back whole.
const BUFFER: usize = 160 * 1024;
/// Acknowledgements of one send must fit into the socket's receive buffer.
const MESSAGES_PER_SEND: usize = 64;
const BYTES_PER_SEND: usize = 128 * 1024;
/// The kernel answers before `send` returns; a longer silence is a defect and must not hang its caller for ever.
const PATIENCE_SECONDS: i64 = 30;
const DUMP_ATTEMPTS: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLMSGERR_ATTR_MSG`
const ATTR_MSG: u16 = 1;
/// The refused message is cut off in the answer.
const NLM_F_CAPPED: u16 = 0x100;
/// The answer has extended attributes.
const NLM_F_ACK_TLVS: u16 = 0x200;

/// The socket itself did not work; nothing is known about what the kernel did.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// Opening or configuring it.
    #[error("cannot open a netlink socket; this needs root or CAP_NET_ADMIN")]
    Open(#[source] io::Error),
    /// Sending.
    #[error("cannot send to netlink")]
    Send(#[source] io::Error),
    /// Receiving.
    #[error("cannot receive from netlink")]
    Receive(#[source] io::Error),
    /// The kernel refused to list.
    #[error("netlink refuses to list")]
    Dump(#[source] Failure),
    /// The list changed under the dump each time it was tried.
    #[error("the kernel's list changed during each of {DUMP_ATTEMPTS} attempts to read it")]
    Interrupted,
}

/// The kernel's refusal of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// the error number, positive; ipset has its own above 4096
    pub errno: i32,
    /// the kernel's own words, where it has any
    pub message: Option<String>,
    /// what came back of the refused request, header included
    pub(crate) request: Vec<u8>,
}

impl Failure {
    /// The error number as `nix` knows it.
    #[must_use]
    pub fn errno(&self) -> Errno {
        Errno::from_raw(self.errno)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{} ({message})", io::Error::from_raw_os_error(self.errno)),
            None => write!(f, "{}", io::Error::from_raw_os_error(self.errno)),
        }
    }
}

impl std::error::Error for Failure {}

/// See the module.
pub(crate) struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("fd", &self.inner.as_raw_fd()).finish_non_exhaustive()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

impl Socket {
    /// Opens a socket in the current thread's network namespace.
    pub(crate) fn open(protocol: isize) -> Result<Self, NetlinkError> {
        Self::configure(protocol).map_err(NetlinkError::Open)
    }

    fn configure(protocol: isize) -> io::Result<Self> {
        let mut inner = netlink_sys::Socket::new(protocol)?;
        inner.bind_auto()?;
        inner.connect(&SocketAddr::new(0, 0))?;
        inner.set_cap_ack(true)?;
        inner.set_ext_ack(true)?;
        sockopt::ReceiveTimeout.set(&inner, &TimeVal::seconds(PATIENCE_SECONDS))?;
        Ok(Self { inner, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Sends all `requests` in as few system calls as possible. The kernel works through them in order and goes on after a
    /// refusal; the answers are in the order of the requests.
    pub(crate) fn transact(&mut self, requests: &mut [Message]) -> Result<Vec<Result<(), Failure>>, NetlinkError> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest
                .iter()
                .take(MESSAGES_PER_SEND)
                .take_while(|message| {
                    bytes += align(message.len());
                    bytes <= BYTES_PER_SEND
                })
                .count()
                .max(1);
            let (now, later) = rest.split_at_mut(fitting);
            self.send_batch(now, &mut outcomes)?;
            rest = later;
        }
        Ok(outcomes)
    }

    /// One request, acknowledged.
    pub(crate) fn execute(&mut self, request: Message) -> Result<Result<(), Failure>, NetlinkError> {
        Ok(self.transact(&mut [request])?.pop().unwrap_or(Ok(())))
    }

    /// Sends a request that lists and hands each answer to `each`, again from the start (after `reset`) where the list changed
    /// meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        request: &Message,
        mut each: impl FnMut(&mut Vec<T>, Received<'_>),
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.next_sequence();
            let mut request = request.clone();
            self.send(request.seal(sequence, NLM_F_DUMP))?;
            let mut found = Vec::new();
            if self.read_dump(sequence, |received| each(&mut found, received))? {
                return Ok(found);
            }
        }
        Err(NetlinkError::Interrupted)
    }

    /// One request with one answer before its acknowledgement.
    pub(crate) fn query<T>(
        &mut self,
        mut request: Message,
        mut read: impl FnMut(Received<'_>) -> Option<T>,
    ) -> Result<Result<Option<T>, Failure>, NetlinkError> {
        let sequence = self.next_sequence();
        self.send(request.seal(sequence, NLM_F_ACK))?;
        let mut found = None;
        loop {
            let length = self.receive()?;
            for received in messages(&self.buffer[..length]).filter(|m| m.sequence == sequence) {
                match received.kind {
                    NLMSG_ERROR => return Ok(outcome(received).map(|()| found)),
                    _ => found = found.or_else(|| read(received)),
                }
            }
        }
    }

    /// From now on nothing is waited for.
    pub(crate) fn listen(&self) -> Result<(), NetlinkError> {
        self.inner.set_non_blocking(true).map_err(NetlinkError::Open)
    }

    /// What the kernel has sent by itself; `WouldBlock` where that is nothing.
    pub(crate) fn heard(&mut self) -> io::Result<&[u8]> {
        let length = nix::sys::socket::recv(self.inner.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
        Ok(&self.buffer[..length])
    }

    fn send_batch(
        &mut self,
        requests: &mut [Message],
        outcomes: &mut Vec<Result<(), Failure>>,
    ) -> Result<(), NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(requests.iter().map(|m| align(m.len())).sum());
        for request in requests.iter_mut() {
            let sequence = self.next_sequence();
            datagram.extend_from_slice(request.seal(sequence, NLM_F_ACK));
            datagram.resize(align(datagram.len()), 0);
        }
        self.send(&datagram)?;
        let mut answers: Vec<Option<Result<(), Failure>>> = vec![None; requests.len()];
        let mut missing = requests.len();
        while missing > 0 {
            let length = self.receive()?;
            for received in messages(&self.buffer[..length]).filter(|m| m.kind == NLMSG_ERROR) {
                let index = received.sequence.wrapping_sub(first) as usize;
                if let Some(slot @ None) = answers.get_mut(index) {
                    *slot = Some(outcome(received));
                    missing -= 1;
                }
            }
        }
        outcomes.extend(answers.into_iter().flatten());
        Ok(())
    }

    /// Whether the dump is consistent.
    fn read_dump(&mut self, sequence: u32, mut each: impl FnMut(Received<'_>)) -> Result<bool, NetlinkError> {
        let mut consistent = true;
        loop {
            let length = self.receive()?;
            for received in messages(&self.buffer[..length]).filter(|m| m.sequence == sequence) {
                consistent &= received.flags & NLM_F_DUMP_INTR == 0;
                match received.kind {
                    NLMSG_DONE => {
                        // A failed dump ends with its error number in place of a zero.
                        let code = u32_at(received.payload, 0).unwrap_or(0).cast_signed();
                        return match code {
                            0.. => Ok(consistent),
                            _ => Err(NetlinkError::Dump(Failure { errno: -code, message: None, request: Vec::new() })),
                        };
                    }
                    NLMSG_ERROR => return outcome(received).map(|()| consistent).map_err(NetlinkError::Dump),
                    _ => each(received),
                }
            }
        }
    }

    fn send(&self, datagram: &[u8]) -> Result<(), NetlinkError> {
        loop {
            match self.inner.send(datagram, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NetlinkError::Send(error)),
            }
        }
    }

    fn receive(&mut self) -> Result<usize, NetlinkError> {
        loop {
            match nix::sys::socket::recv(self.inner.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => return Ok(length),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(NetlinkError::Receive(error.into())),
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

/// Reads `struct nlmsgerr` and its extended attributes.
fn outcome(received: Received<'_>) -> Result<(), Failure> {
    let payload = received.payload;
    let code = u32_at(payload, 0).unwrap_or(0).cast_signed();
    if code == 0 {
        return Ok(());
    }
    let request = payload.get(4..).unwrap_or_default();
    let length = u32_at(request, 0).map_or(HEADER_LEN, |length| length as usize);
    let echoed = if received.flags & NLM_F_CAPPED == 0 { length } else { HEADER_LEN };
    let message = (received.flags & NLM_F_ACK_TLVS != 0)
        .then(|| request.get(align(echoed)..))
        .flatten()
        .and_then(|extended| attribute(extended, ATTR_MSG))
        .and_then(text_of)
        .map(str::to_owned);
    let request = request.get(..echoed.min(request.len())).unwrap_or_default().to_vec();
    Err(Failure { errno: -code, message, request })
}
