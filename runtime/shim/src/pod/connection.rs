//! One connection to the shim's socket: what has arrived, what is still to be sent, what it is for.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use minipod_protocol::frame::{self, Channel};
use minipod_protocol::line;
use nix::poll::PollFlags;

use super::Key;

/// Output that a reader has not taken yet, before the process is made to wait.
const CONGESTED: usize = 256 << 10;
/// States that a watcher has not taken yet, before it is given up.
const WATCHER_LIMIT: usize = 1 << 20;
/// A container waits this long for somebody attached who takes nothing, and goes on without them.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const FRAME_HEAD: usize = 5;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// its request has not arrived yet
    Asking,
    /// it is told every state
    Watching,
    /// it carries a process's streams
    Streaming {
        process: Key,
        /// whether what it sends is the process's input
        stdin: bool,
    },
    /// closed when everything is sent
    Closing,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// the other side sends nothing any more
    heard_all: bool,
    /// when the other side last took something, or there was nothing for it
    progress: Instant,
    pub(super) mode: Mode,
}

/// The connection is of no use any more.
#[derive(Debug)]
pub(super) struct Broken;

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            unsent: Vec::new(),
            heard_all: false,
            progress: Instant::now(),
            mode: Mode::Asking,
        })
    }

    /// The process whose streams it carries.
    pub(super) fn process(&self) -> Option<Key> {
        match self.mode {
            Mode::Streaming { process, .. } => Some(process),
            _ => None,
        }
    }

    pub(super) fn is_congested(&self) -> bool {
        self.unsent.len() > CONGESTED
    }

    /// Whether the other side has taken nothing for so long that a container must not wait for it any more.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_congested() && self.progress.elapsed() > PATIENCE
    }

    pub(super) fn is_done(&self) -> bool {
        self.mode == Mode::Closing && self.unsent.is_empty()
    }

    pub(super) fn wanted(&self, accepts_more: bool) -> PollFlags {
        let mut flags = PollFlags::empty();
        if accepts_more && !self.heard_all && self.mode != Mode::Closing {
            flags |= PollFlags::POLLIN;
        }
        if !self.unsent.is_empty() {
            flags |= PollFlags::POLLOUT;
        }
        flags
    }

    /// Takes what has arrived. `true` when the other side has just ended its half.
    pub(super) fn receive(&mut self) -> Result<bool, Broken> {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                let first = !self.heard_all;
                self.heard_all = true;
                Ok(first)
            }
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                if self.received.len() as u64 > line::MAX_LINE { Err(Broken) } else { Ok(false) }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(false),
            Err(_) => Err(Broken),
        }
    }

    /// The first line, if all of it has arrived.
    pub(super) fn take_line(&mut self) -> Option<Vec<u8>> {
        let end = self.received.iter().position(|byte| *byte == b'\n')?;
        let rest = self.received.split_off(end + 1);
        Some(std::mem::replace(&mut self.received, rest))
    }

    /// The next frame, if all of it has arrived.
    pub(super) fn take_frame(&mut self) -> Result<Option<(Channel, Vec<u8>)>, Broken> {
        let Some(head) = self.received.first_chunk::<FRAME_HEAD>() else { return Ok(None) };
        let (channel, length) = frame::parse_head(*head).map_err(|_| Broken)?;
        if self.received.len() < FRAME_HEAD + length {
            return Ok(None);
        }
        let rest = self.received.split_off(FRAME_HEAD + length);
        let mut frame = std::mem::replace(&mut self.received, rest);
        Ok(Some((channel, frame.split_off(FRAME_HEAD))))
    }

    /// Sends a line, now or as soon as the other side takes it.
    pub(super) fn send_line<T: serde::Serialize>(&mut self, message: &T) -> Result<(), Broken> {
        self.unsent.extend_from_slice(&line::encode(message).map_err(|_| Broken)?);
        if self.mode == Mode::Watching && self.unsent.len() > WATCHER_LIMIT {
            return Err(Broken);
        }
        self.send()
    }

    /// Sends a frame, or several for a long payload.
    pub(super) fn send_frame(&mut self, channel: Channel, payload: &[u8]) -> Result<(), Broken> {
        for piece in payload.chunks(frame::MAX_PAYLOAD) {
            frame::write(&mut self.unsent, channel, piece).map_err(|_| Broken)?;
        }
        self.send()
    }

    /// Sends what the other side takes now.
    pub(super) fn send(&mut self) -> Result<(), Broken> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(length) => {
                    self.unsent.drain(..length);
                    self.progress = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken),
            }
        }
        self.progress = Instant::now();
        Ok(())
    }

    /// Sends the rest, waiting for the other side for a moment; for the end of the shim.
    pub(super) fn flush(&mut self) {
        let moment = Some(Duration::from_millis(200));
        let waiting = self.stream.set_nonblocking(false).and_then(|()| self.stream.set_write_timeout(moment));
        if waiting.is_ok() {
            // who does not read now does not want it
            drop(self.stream.write_all(&self.unsent));
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
