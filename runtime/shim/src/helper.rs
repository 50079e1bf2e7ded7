//! A short-lived fork of this process that does one piece of work and tells a number or why there is none.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe2, read};

/// Longer messages are cut: a pipe takes so much without a reader.
const LONGEST_MESSAGE: usize = 4096;

/// A helper at work. It is waited for when it is dropped: it never works on behind its owner's back.
#[derive(Debug)]
pub(crate) struct Helper {
    /// until it was waited for
    pid: Option<Pid>,
    outcome: OwnedFd,
}

impl Helper {
    /// Starts a process that does the work. Only sound in a single-threaded process, which the shim is.
    pub(crate) fn start(
        work: impl FnOnce() -> Result<i32, Box<dyn std::error::Error + Send + Sync>>,
    ) -> io::Result<Self> {
        let (outcome, told) = pipe2(OFlag::O_CLOEXEC)?;
        #[expect(unsafe_code, reason = "fork(2) is unsafe where other threads may hold locks")]
        // SAFETY: this process has one thread, so the child finds every lock free.
        let forked = unsafe { fork() }?;
        match forked {
            ForkResult::Parent { child } => Ok(Self { pid: Some(child), outcome }),
            ForkResult::Child => {
                let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("the helper panicked".into()));
                // nobody is left to hear that nobody listens
                let _ = File::from(told).write_all(&message(done));
                exit_at_once()
            }
        }
    }

    /// Waits for its end and takes what it told.
    pub(crate) fn finish(mut self) -> io::Result<i32> {
        self.wait();
        // The new process may hold the pipe's other end, so there need not be an end to read to; all that comes is there now.
        let mut ready = [PollFd::new(self.outcome.as_fd(), PollFlags::POLLIN)];
        poll(&mut ready, PollTimeout::ZERO)?;
        if !ready[0].any().unwrap_or(false) {
            return Err(io::Error::other("the helper ended without a word"));
        }
        let mut told = vec![0; LONGEST_MESSAGE];
        let length = read(&self.outcome, &mut told)?;
        match std::str::from_utf8(&told[..length]).unwrap_or_default().split_once(' ') {
            Some(("made", number)) => number.parse().map_err(io::Error::other),
            Some((_, why)) => Err(io::Error::other(why.to_owned())),
            None => Err(io::Error::other("the helper ended without a word")),
        }
    }

    fn wait(&mut self) {
        let Some(pid) = self.pid.take() else { return };
        while let Err(Errno::EINTR) = waitpid(pid, None) {}
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.wait();
    }
}

fn message(done: Result<i32, Box<dyn std::error::Error + Send + Sync>>) -> Vec<u8> {
    let text = match done {
        Ok(number) => format!("made {number}"),
        Err(error) => {
            let mut text = format!("failed {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(": ");
                text.push_str(&error.to_string());
                cause = error.source();
            }
            text
        }
    };
    let end = (0..=text.len().min(LONGEST_MESSAGE)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.as_bytes()[..end].to_vec()
}

/// Without what a process does at its end for those who started it: buffers and temporary files are the shim's.
fn exit_at_once() -> ! {
    #[expect(unsafe_code, reason = "_exit(2) has no safe wrapper")]
    // SAFETY: it takes a number and does not return.
    unsafe {
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_failure_is_told_with_its_causes_and_cut_to_what_fits() {
        assert_eq!(message(Ok(7)), b"made 7");
        let refused = std::io::Error::other(std::io::Error::other("because"));
        assert_eq!(message(Err(Box::new(refused))), b"failed because");
        assert_eq!(message(Err("\u{e9}".repeat(4096).into())).len(), super::LONGEST_MESSAGE - 1);
    }
}
