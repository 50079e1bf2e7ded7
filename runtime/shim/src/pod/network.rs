//! The pod's network as netd gives and takes it.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use minipod_protocol::netd::{Attached, Response};
use minipod_protocol::shim::{Failure, Sandbox};
use nix::poll::PollFlags;

use super::{Pod, note};
use crate::etc_files::{compile_files, compile_host_files, write_all};
use crate::netd::{self, Call, Question};

/// Kubernetes' reason for a pod that has no network.
pub(super) const SANDBOX_FAILED: &str = "FailedCreatePodSandBox";

/// One answer is waited for this long.
const ANSWER: Duration = Duration::from_secs(60);
/// The end of a pod waits this long for netd to release its network.
const RELEASE: Duration = Duration::from_secs(5);

/// What the pod has of a network.
#[derive(Debug)]
pub(super) enum Network {
    /// the pod is on the node's network; the files of `/etc` are still to be written
    Host,
    /// netd is asked for it
    Attaching { socket: PathBuf, attempt: Attempt },
    /// the pod has it: the node's, or its own
    Ready { attached: Option<Attached> },
    /// netd is asked to release it, until the deadline. An attach that it may still be working on is let end first, or netd
    /// could make the network after it has released it.
    Releasing {
        socket: PathBuf,
        attach: Option<Attempt>,
        attempt: Attempt,
        until: Duration,
        attached: Option<Attached>,
    },
    /// the pod has ended; `released` by netd or nothing was there to release
    Gone { attached: Option<Attached>, released: bool },
}

/// A question to netd that is asked until it is answered.
#[derive(Debug)]
pub(super) struct Attempt {
    call: Option<Call>,
    /// when the answer is given up, or the next try is due
    at: Duration,
    failures: u32,
}

impl Attempt {
    fn new(now: Duration) -> Self {
        Self { call: None, at: now, failures: 0 }
    }

    /// Goes on; what the answer says, or what went wrong this time. After a failure the next try comes later.
    fn advance<T>(
        &mut self,
        question: Question,
        socket: &Path,
        sandbox: &Sandbox,
        now: Duration,
        read: fn(Response) -> Result<T, String>,
    ) -> Option<Result<T, String>> {
        let away = |error: std::io::Error| {
            format!("netd does not answer on `{}`: {error}; start it with `minipod node start`", socket.display())
        };
        let outcome = match self.answer(question, socket, sandbox, now) {
            Ok(None) => return None,
            Ok(Some(response)) => read(response),
            Err(error) => Err(away(error)),
        };
        self.call = None;
        if outcome.is_err() {
            self.failures = self.failures.saturating_add(1);
            self.at = now + netd::retry_delay(self.failures);
        }
        Some(outcome)
    }

    fn answer(
        &mut self,
        question: Question,
        socket: &Path,
        sandbox: &Sandbox,
        now: Duration,
    ) -> std::io::Result<Option<Response>> {
        let call = match &mut self.call {
            Some(call) => call,
            None if now < self.at => return Ok(None),
            None => {
                self.at = now + ANSWER;
                self.call.insert(netd::ask(socket, question, sandbox)?)
            }
        };
        match call.advance()? {
            None if now >= self.at => Err(std::io::ErrorKind::TimedOut.into()),
            answer => Ok(answer),
        }
    }
}

impl Network {
    /// Asks netd for the pod's network, unless the pod is on the node's.
    pub(super) fn begin(sandbox: &Sandbox, now: Duration) -> Self {
        let Some(socket) = sandbox.netd_socket.clone() else { return Self::Host };
        let mut attempt = Attempt::new(now);
        // what fails now is seen when the call is advanced the next time
        attempt.call = netd::ask(&socket, Question::Attach, sandbox).ok();
        if attempt.call.is_some() {
            attempt.at = now + ANSWER;
        }
        Self::Attaching { socket, attempt }
    }

    /// What netd gave, also after its release.
    pub(super) fn attached(&self) -> Option<&Attached> {
        match self {
            Self::Ready { attached, .. } | Self::Releasing { attached, .. } | Self::Gone { attached, .. } => {
                attached.as_ref()
            }
            Self::Host | Self::Attaching { .. } => None,
        }
    }

    pub(super) fn is_released(&self) -> bool {
        matches!(self, Self::Gone { released: true, .. })
    }

    fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Attaching { attempt, .. }
            | Self::Releasing { attach: Some(attempt), .. }
            | Self::Releasing { attach: None, attempt, .. } => Some(attempt),
            _ => None,
        }
    }

    pub(super) fn wanted(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let call = self.attempt()?.call.as_ref()?;
        let write = if call.wants_to_write() { PollFlags::POLLOUT } else { PollFlags::empty() };
        Some((call.as_fd(), PollFlags::POLLIN | write))
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let at = self.attempt().map(|attempt| attempt.at);
        let until = match self {
            Self::Releasing { until, .. } => Some(*until),
            // nothing to wait for
            Self::Host | Self::Gone { .. } => Some(Duration::ZERO),
            _ => None,
        };
        at.into_iter().chain(until).min()
    }

    /// The pod has ended: whatever netd may hold for it is to be released.
    pub(super) fn release(&mut self, sandbox: &Sandbox, now: Duration) {
        let attached = self.attached().cloned();
        let attach = match std::mem::replace(self, Self::Host) {
            Self::Attaching { attempt, .. } if attempt.call.is_some() => Some(attempt),
            _ => None,
        };
        *self = match &sandbox.netd_socket {
            None => Self::Gone { attached, released: true },
            Some(socket) => Self::Releasing {
                socket: socket.clone(),
                attach,
                attempt: Attempt::new(now),
                until: now + RELEASE,
                attached,
            },
        };
    }
}

impl Pod {
    /// Goes on with the network as far as possible now.
    pub(super) fn advance_network(&mut self) {
        let now = self.epoch.elapsed();
        match &mut self.network {
            Network::Host => {
                self.network = Network::Ready { attached: None };
                self.network_is_ready();
            }
            Network::Attaching { socket, attempt } => {
                match attempt.advance(Question::Attach, socket, &self.sandbox, now, netd::attached) {
                    None => {}
                    Some(Ok(attached)) => {
                        self.network = Network::Ready { attached: Some(attached) };
                        self.network_is_ready();
                    }
                    Some(Err(message)) => {
                        self.failure = Some(Failure { reason: SANDBOX_FAILED.into(), message });
                    }
                }
            }
            Network::Releasing { socket, attach: waited_for @ Some(_), until, attached, .. } => {
                let attempt = waited_for.as_mut();
                let outcome = attempt
                    .and_then(|attempt| attempt.advance(Question::Attach, socket, &self.sandbox, now, netd::attached));
                if outcome.is_some() {
                    *waited_for = None;
                } else if now >= *until {
                    self.network = Network::Gone { attached: attached.take(), released: false };
                    self.finished = true;
                }
            }
            Network::Releasing { socket, attach: None, attempt, until, attached } => {
                let outcome = attempt.advance(Question::Detach, socket, &self.sandbox, now, netd::detached);
                let released = matches!(outcome, Some(Ok(())));
                if let Some(Err(message)) = outcome {
                    note(&format!("cannot release the pod's network: {message}"));
                }
                if released || now >= *until {
                    self.network = Network::Gone { attached: attached.take(), released };
                    self.finished = true;
                }
            }
            Network::Gone { .. } => self.finished = true,
            Network::Ready { .. } => {}
        }
    }

    fn network_is_ready(&mut self) {
        match self.write_etc_files() {
            Ok(()) => {
                self.failure = None;
                self.life.network_ready();
            }
            Err(error) => {
                let message = format!("{error:#}");
                note(&message);
                self.failure = Some(Failure { reason: SANDBOX_FAILED.into(), message });
            }
        }
    }

    fn write_etc_files(&self) -> anyhow::Result<()> {
        let files = if let Some(attached) = self.network.attached() {
            let addresses: Vec<_> = attached.addresses.iter().map(|address| address.address).collect();
            compile_files(&self.sandbox, &addresses, &attached.dns)
        } else {
            let node = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
            compile_host_files(&self.sandbox, &node("/etc/hosts"), &node("/etc/resolv.conf"))
        };
        write_all(&self.directory.join("etc"), &files).context("cannot write the pod's /etc files")
    }
}
