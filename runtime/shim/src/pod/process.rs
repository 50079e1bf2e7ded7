//! A process with its standard streams: a container's first one, or an exec'd one.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

use minipod_protocol::shim::TerminalSize;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::setup::set_nonblocking;
use crate::cri_log::{LineWriter, LogFile, Stream};
use crate::lifecycle::Slot;

/// Input that a process has not taken yet, before its sender is made to wait.
const STDIN_QUEUE: usize = 256 << 10;
/// Output that is kept for the first attach to an interactive container.
const BACKLOG: usize = 64 << 10;
/// What a person types to end a terminal's input: `VEOF` as a new terminal has it (termios(3)).
const END_OF_FILE: u8 = 4;
/// The first look whether a typed end of input has been lost comes after this time, each further one after twice the time.
const SOON: Duration = Duration::from_millis(50);
/// But not later than this.
const LATE: Duration = Duration::from_secs(5);
/// A program that has taken the end of input so often goes on for reasons of its own.
const ENDS_TYPED: u32 = 10;
/// Read at once.
pub(super) const CHUNK: usize = 32 << 10;

/// What a process is to the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// a container's first process
    Container(Slot),
    /// a process that was asked for over the socket
    Exec,
}

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) role: Role,
    stdin: Option<OwnedFd>,
    stdin_queue: VecDeque<u8>,
    close_stdin: bool,
    end_of_input: Option<EndOfInput>,
    outputs: Vec<Output>,
    terminal: Option<OwnedFd>,
    log: Option<LogFile>,
    backlog: Option<Vec<(Stream, Vec<u8>)>>,
}

/// The end of a terminal's input, which is only a key: a program that makes the terminal raw before it has read that far reads
/// a zero byte instead (`n_tty_set_termios`), and a second program in the same terminal reads none at all.
#[derive(Debug)]
struct EndOfInput {
    pause: Duration,
    /// when to look next
    at: Duration,
    /// how often it was typed
    typed: u32,
}

#[derive(Debug)]
struct Output {
    stream: Stream,
    descriptor: OwnedFd,
    lines: LineWriter,
}

/// The shim's ends of a process's streams.
#[derive(Debug)]
pub(super) enum Ends {
    /// pipes; no standard input is `/dev/null`
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    /// the controlling end of a terminal
    Terminal(OwnedFd),
}

/// What reading an output gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Bytes(Vec<u8>),
    Nothing,
    End,
}

impl Process {
    pub(super) fn new(pid: i32, role: Role, ends: Ends, log: Option<LogFile>, interactive: bool) -> io::Result<Self> {
        let output = |stream, descriptor: OwnedFd| -> io::Result<Output> {
            set_nonblocking(&descriptor)?;
            Ok(Output { stream, descriptor, lines: LineWriter::new(stream) })
        };
        let (stdin, outputs, terminal) = match ends {
            Ends::Pipes { stdin, stdout, stderr } => {
                (stdin, vec![output(Stream::Stdout, stdout)?, output(Stream::Stderr, stderr)?], None)
            }
            Ends::Terminal(terminal) => {
                let output = output(Stream::Stdout, terminal.try_clone()?)?;
                (Some(terminal.try_clone()?), vec![output], Some(terminal))
            }
        };
        if let Some(stdin) = &stdin {
            set_nonblocking(stdin)?;
        }
        let backlog = interactive.then(Vec::new);
        let (stdin_queue, close_stdin) = (VecDeque::new(), false);
        let end_of_input = None;
        Ok(Self { pid, role, stdin, stdin_queue, close_stdin, end_of_input, outputs, terminal, log, backlog })
    }

    /// The outputs that may still bring something.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (Stream, BorrowedFd<'_>)> {
        self.outputs.iter().map(|output| (output.stream, output.descriptor.as_fd()))
    }

    /// Takes what the output has now. At its end it is closed.
    pub(super) fn read(&mut self, stream: Stream, now: Duration) -> Read {
        let Some(index) = self.outputs.iter().position(|output| output.stream == stream) else { return Read::End };
        let mut buffer = vec![0; CHUNK];
        match nix::unistd::read(&self.outputs[index].descriptor, &mut buffer) {
            Err(Errno::EAGAIN | Errno::EINTR) => Read::Nothing,
            // EIO: nobody holds the terminal any more
            Ok(0) | Err(_) => {
                self.close_output(index, now);
                Read::End
            }
            Ok(length) => {
                buffer.truncate(length);
                self.write_log(index, &buffer, now);
                self.keep(stream, &buffer);
                Read::Bytes(buffer)
            }
        }
    }

    /// Closes the outputs, the last unfinished lines written to the log.
    pub(super) fn close_outputs(&mut self, now: Duration) {
        while !self.outputs.is_empty() {
            self.close_output(0, now);
        }
    }

    fn close_output(&mut self, index: usize, now: Duration) {
        let mut output = self.outputs.remove(index);
        let mut lines = Vec::new();
        output.lines.finish(now, &mut lines);
        self.append_to_log(&lines);
    }

    fn write_log(&mut self, index: usize, bytes: &[u8], now: Duration) {
        if self.log.is_some() {
            let mut lines = Vec::new();
            self.outputs[index].lines.push(bytes, now, &mut lines);
            self.append_to_log(&lines);
        }
    }

    fn append_to_log(&mut self, lines: &[u8]) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(lines)
        {
            super::note(&format!("lines of a container's log are lost: {error}"));
        }
    }

    fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(backlog) = &mut self.backlog else { return };
        backlog.push((stream, bytes.to_vec()));
        while backlog.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > BACKLOG {
            backlog.remove(0);
        }
    }

    /// What was written before the first attach to an interactive container; given once.
    pub(super) fn take_backlog(&mut self) -> Vec<(Stream, Vec<u8>)> {
        self.backlog.take().unwrap_or_default()
    }

    /// Whether more input may be queued.
    pub(super) fn takes_more_stdin(&self) -> bool {
        self.stdin_queue.len() < STDIN_QUEUE
    }

    /// Queues input; an empty piece ends it. A terminal is not closed, which would hang up on what it prints: its input ends as a
    /// person ends it, who types the key again if nothing happens.
    pub(super) fn push_stdin(&mut self, bytes: &[u8], now: Duration) {
        if bytes.is_empty() && self.terminal.is_some() {
            if self.end_of_input.is_none() {
                self.stdin_queue.push_back(END_OF_FILE);
            }
            self.end_of_input = Some(EndOfInput { pause: SOON, at: now + SOON, typed: 1 });
        } else if bytes.is_empty() {
            self.close_stdin = true;
        } else if self.stdin.is_some() && !self.close_stdin {
            self.end_of_input = None;
            self.stdin_queue.extend(bytes);
        }
        self.write_stdin();
    }

    /// The input's descriptor while there is something to write.
    pub(super) fn stdin_to_write(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().filter(|_| !self.stdin_queue.is_empty()).map(AsFd::as_fd)
    }

    /// Writes what the process takes now.
    pub(super) fn write_stdin(&mut self) {
        while let Some(stdin) = &self.stdin
            && !self.stdin_queue.is_empty()
        {
            match nix::unistd::write(stdin, self.stdin_queue.as_slices().0) {
                Ok(length) => drop(self.stdin_queue.drain(..length)),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                // EPIPE: the process has closed its input
                Err(_) => {
                    self.stdin = None;
                    self.stdin_queue.clear();
                }
            }
        }
        if self.close_stdin {
            self.stdin = None;
        }
    }

    /// When to look whether the end of the input has to be typed again.
    pub(super) fn end_of_input_due(&self) -> Option<Duration> {
        self.end_of_input.as_ref().filter(|end| end.typed < ENDS_TYPED).map(|end| end.at)
    }

    /// Types the end of the input again when the program has read everything and still runs.
    pub(super) fn repeat_end_of_input(&mut self, now: Duration) {
        if self.end_of_input_due().is_none_or(|at| at > now) {
            return;
        }
        let (Some(end), Some(terminal)) = (&mut self.end_of_input, &self.terminal) else { return };
        end.pause = (end.pause * 2).min(LATE);
        end.at = now + end.pause;
        if self.stdin_queue.is_empty() && has_read_everything(terminal) {
            end.typed += 1;
            self.stdin_queue.push_back(END_OF_FILE);
            self.write_stdin();
        }
    }

    /// Sets the terminal's size; nothing without a terminal.
    pub(super) fn resize(&self, size: TerminalSize) {
        let Some(terminal) = &self.terminal else { return };
        let size = nix::pty::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        set_terminal_size(terminal, size);
    }
}

/// Whether whoever reads from the terminal would have to wait.
fn has_read_everything(terminal: &OwnedFd) -> bool {
    let Ok(theirs) = open_other_end(terminal) else { return false };
    let mut ready = [PollFd::new(theirs.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut ready, PollTimeout::ZERO), Ok(0))
}

/// The end that the container's programs have; by its descriptor, since its name is of the container's file system.
fn open_other_end(terminal: &OwnedFd) -> nix::Result<OwnedFd> {
    nix::ioctl_write_int_bad!(open_peer, libc::TIOCGPTPEER);
    let flags = libc::O_RDONLY | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    #[expect(unsafe_code, reason = "TIOCGPTPEER has no safe wrapper")]
    // SAFETY: `terminal` is an open descriptor; the call takes flags and gives a new descriptor that nothing else knows.
    unsafe {
        let descriptor = open_peer(terminal.as_raw_fd(), flags)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

fn set_terminal_size(terminal: &OwnedFd, size: nix::pty::Winsize) {
    nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, nix::pty::Winsize);
    #[expect(unsafe_code, reason = "TIOCSWINSZ has no safe wrapper")]
    // SAFETY: `size` is a valid `struct winsize` that the kernel only reads, `terminal` an open descriptor.
    let result = unsafe { set_window_size(terminal.as_raw_fd(), &raw const size) };
    // a terminal that has just ended has no size
    let _ = result;
}
