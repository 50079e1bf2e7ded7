//! What the engine is told, and the handle by which it is told.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::mpsc;
use std::time::Instant;

use minipod_kernel::netlink::LoggedPacket;
use minipod_protocol::judge::{FirstPacket, Judgement, OwnNode};
use minipod_protocol::netd::{Attach, Attached, Check, Code, Error, PolicyState, Sandbox};
use tokio::sync::oneshot;

use crate::consistent::Fresh;
use crate::drops::Watched;
use crate::watch::News;

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// One thing for the engine to do.
#[derive(Debug)]
pub enum Command {
    /// take note of objects
    News {
        /// what a watch delivered
        news: Box<News>,
        /// when
        heard: Instant,
    },
    /// attach a sandbox
    Attach {
        /// what was asked
        request: Box<Attach>,
        /// what was read for it
        fresh: Box<Fresh>,
        /// answered when the policy is in force
        reply: Reply<Attached>,
    },
    /// release a sandbox's interface
    Detach {
        /// which
        sandbox: Sandbox,
        /// answered when nothing passes for it any more
        reply: Reply<()>,
    },
    /// compare an attachment with the kernel
    Check {
        /// what was asked
        request: Box<Check>,
        /// answered with what differs
        reply: Reply<()>,
    },
    /// release all but these
    Gc {
        /// attachments to keep
        valid: Vec<Sandbox>,
        /// answered when the others are released
        reply: Reply<()>,
    },
    /// others changed links, addresses or routes: look whether what is ours is still there
    NetworkChanged,
    /// whether an attach would work
    Status(Reply<()>),
    /// what netd knows and does
    Report(Reply<serde_json::Value>),
    /// since when policies are in force
    Policies(Reply<Vec<PolicyState>>),
    /// what becomes of packets
    Judge {
        /// the packets
        packets: Vec<FirstPacket>,
        /// answered with a judgement for each, and with where the kernel is not as it should be
        reply: Reply<(Vec<Judgement>, Vec<String>)>,
    },
    /// packets of which the kernel told
    Logged(Vec<LoggedPacket>),
    /// what a Prometheus server is told
    Metrics(Reply<String>),
    /// dropped packets
    Drops(Reply<Watched>),
    /// the addresses of this node's pods, and what else is here
    Here(Reply<(BTreeSet<IpAddr>, OwnNode)>),
    /// end the engine's thread; the kernel keeps enforcing
    Stop,
}

/// The engine, for those who ask it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine(mpsc::Sender<Command>);

impl Engine {
    /// The handle and the queue that it fills.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }

    /// Tells it something that has no answer; `false` when it has ended.
    #[must_use]
    pub fn tell(&self, command: Command) -> bool {
        self.0.send(command).is_ok()
    }

    /// Asks it and waits for the answer.
    ///
    /// # Errors
    /// The engine's own answer; [`Code::NotAvailable`] when it has ended.
    pub async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let ended =
            || Error { code: Code::NotAvailable, message: "netd is stopping; try again".into(), details: Vec::new() };
        if !self.tell(command(reply)) {
            return Err(ended());
        }
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}
