//! The engine: one thread that owns what is known and what is enforced, and does one batch of commands at a time.
//!
//! A batch is all that has been asked while the one before was carried out, so that a hundred pods created at once are one change of
//! rules. In each batch: take note of objects, choose names and addresses of new attachments, take released ones out of the intent;
//! then make the kernel agree, once; then make and delete links and answer. So a link is made when its gate and policy are in force,
//! and deleted when nothing passes for it any more.

mod attachments;
mod objects;
mod report;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use minipod_protocol::netd::{Code, Error};
use netd_dataplane::{Dataplane, DataplaneError, LinuxKernel, NodeFacts};
use netd_policy::{Change, Listed};
use tokio::sync::watch;

use crate::attach::Attacher;
use crate::clock::Clock;
use crate::command::Command;
use crate::dns::Records;
use crate::hostnet::HostNet;
use attachments::Answers;
use objects::Objects;

/// How often the kernel is compared with what it should be, when nothing else makes the engine look.
const LOOK: Duration = Duration::from_secs(5);
/// How soon a change that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// Commands in one batch at most: the first of them waits for the last.
const BATCH: usize = 256;

/// Called with the names and addresses that the cluster DNS answers with.
pub type Publish = Box<dyn Fn(Records) + Send>;

/// Everything the engine owns.
pub struct Parts {
    /// the policy index's settings
    pub policy: netd_policy::Options,
    /// the node, for the rules
    pub facts: NodeFacts,
    /// rules and sets
    pub dataplane: Dataplane<LinuxKernel>,
    /// links and addresses
    pub attacher: Attacher,
    /// routes and settings of the node
    pub host: HostNet,
    /// the cluster DNS, if this node answers for it
    pub publish: Option<Publish>,
    /// time since boot
    pub clock: Clock,
}

/// The engine.
pub struct Engine {
    objects: Objects,
    facts: NodeFacts,
    dataplane: Dataplane<LinuxKernel>,
    attacher: Attacher,
    host: HostNet,
    publish: Option<Publish>,
    /// the cluster DNS answers with older names
    unpublished: bool,
    clock: Clock,
    /// something is different from what the kernel was told last
    stale: bool,
    /// the last failure to make the kernel agree, until it agrees
    failure: Option<String>,
    /// when the kernel is compared with what it should be, at the latest
    next_look: Instant,
    first: watch::Sender<First>,
}

/// How the first attempt to enforce what is known went; attaches make sense once it has worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// not every kind of object has been listed yet
    Awaited,
    /// it is in force
    InForce,
    /// the kernel or a program refused it: why
    Refused(String),
}

impl Engine {
    /// The engine, and how its first attempt to enforce something goes.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, watch::Receiver<First>) {
        let Parts { policy, facts, dataplane, attacher, host, publish, clock } = parts;
        let (first, attempted) = watch::channel(First::Awaited);
        let mut objects = Objects::new(policy);
        let known = attacher.attachments().map(attachments::as_object).collect();
        objects.apply(Change::Listed(Listed::Attachments(known)));
        let engine = Self {
            objects,
            facts,
            dataplane,
            attacher,
            host,
            publish,
            unpublished: false,
            clock,
            stale: true,
            failure: None,
            next_look: Instant::now() + LOOK,
            first,
        };
        (engine, attempted)
    }

    /// Carries out commands until [`Command::Stop`] or until nobody is left who could give one. The kernel keeps enforcing.
    pub fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let until = if self.failure.is_some() { Instant::now() + RETRY } else { self.next_look };
            match commands.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(commands.try_iter().take(BATCH - 1));
                    if !self.carry_out(batch) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.failure.is_some() {
                // The failure has been logged; whoever waited has been told.
                let _ = self.enforce();
            }
            if Instant::now() >= self.next_look {
                self.look();
                self.next_look = Instant::now() + LOOK;
            }
            self.publish_names();
        }
    }

    /// One batch; `false` when it says to stop.
    fn carry_out(&mut self, batch: Vec<Command>) -> bool {
        let mut answers = Answers::default();
        let (mut go_on, mut look) = (true, false);
        for command in batch {
            match command {
                Command::News(news) => self.stale |= self.objects.note(*news),
                Command::Attach { request, fresh, reply } => self.begin_attach(&request, fresh, reply, &mut answers),
                Command::Detach { sandbox, reply } => self.begin_detach(sandbox, Some(reply), &mut answers),
                Command::Gc { valid, reply } => self.begin_gc(&valid, reply, &mut answers),
                Command::Check { request, reply } => {
                    let _ = reply.send(self.attacher.check(&request).map_err(|error| attachments::refusal(&error)));
                }
                Command::NetworkChanged => look = true,
                Command::Status(reply) => {
                    let _ = reply.send(self.status());
                }
                Command::Report(reply) => {
                    let _ = reply.send(Ok(self.report()));
                }
                Command::Stop => go_on = false,
            }
        }
        let enforced = self.enforce();
        self.finish(answers, &enforced);
        if look {
            self.look_at_network();
        }
        go_on
    }

    /// Tells the cluster DNS what has changed; after the answers, which need not wait for it.
    fn publish_names(&mut self) {
        if std::mem::take(&mut self.unpublished)
            && let Some(publish) = &self.publish
        {
            publish(Records::of(self.objects.index().cluster()));
        }
    }

    /// Makes the kernel agree with what is known. Nothing is written before every kind has been listed: what is missing would
    /// mean nothing.
    fn enforce(&mut self) -> Result<(), Error> {
        if !self.stale || !self.objects.complete() {
            return Ok(());
        }
        let result = self.dataplane.apply(&self.objects.intent(), &self.facts);
        self.unpublished = true;
        match result {
            Ok(changes) => {
                self.stale = false;
                self.failure = None;
                if self.first.send_replace(First::InForce) != First::InForce {
                    // What others changed while no daemon ran.
                    self.next_look = Instant::now();
                }
                if !changes.is_empty() {
                    tracing::info!(?changes, "rules and sets changed");
                }
                Ok(())
            }
            Err(error) => Err(self.note_failure(&error)),
        }
    }

    fn note_failure(&mut self, error: &DataplaneError) -> Error {
        let details = causes(error);
        let failure = details.iter().fold(error.to_string(), |text, cause| text + ": " + cause);
        let is_first = self.first.send_if_modified(|first| {
            let is_first = *first == First::Awaited;
            if is_first {
                *first = First::Refused(failure.clone());
            }
            is_first
        });
        // The first one is told by whoever starts the engine.
        if !is_first && self.failure.as_ref() != Some(&failure) {
            tracing::error!(error = %failure, "the kernel does not enforce the newest state; trying again");
        }
        self.failure = Some(failure);
        Error { code: Code::Io, message: error.to_string(), details }
    }

    fn status(&self) -> Result<(), Error> {
        let refuse = |code, message: String| Err(Error { code, message, details: Vec::new() });
        if let Some(failure) = &self.failure {
            return refuse(
                Code::LimitedConnectivity,
                format!("the kernel does not enforce the newest state: {failure}"),
            );
        }
        if !self.objects.complete() {
            return refuse(Code::NotAvailable, "not every kind of object has been listed yet; try again".into());
        }
        Ok(())
    }

    /// Looks for what others changed, wherever nobody tells of changes, too.
    fn look(&mut self) {
        self.look_at_network();
        match self.dataplane.repair() {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => tracing::warn!(?changes, "somebody else changed our rules or sets; repaired"),
            Err(error) => {
                self.note_failure(&error);
            }
        }
    }

    /// Looks at links, routes, routing rules and addresses.
    fn look_at_network(&mut self) {
        self.restore_vanished();
        match self.attacher.repair_links() {
            Ok(repaired) if repaired.is_empty() => {}
            Ok(repaired) => tracing::warn!(?repaired, "somebody else switched pods' interfaces off; switched on again"),
            Err(error) => tracing::warn!(error = %error, causes = ?causes(&error), "interfaces cannot be repaired"),
        }
        match self.host.ensure(&self.attacher.pod_routes()) {
            Ok(repaired) if repaired.is_empty() => {}
            Ok(repaired) => {
                if let Some(mtu) = repaired.mtu {
                    self.attacher.set_mtu(mtu);
                }
                tracing::warn!(?repaired, "routes, addresses or the MTU were not as they must be; repaired");
            }
            Err(error) => tracing::warn!(error = %error, causes = ?causes(&error), "routes cannot be repaired"),
        }
    }

    /// Makes links anew that others deleted, and releases the interfaces of sandboxes that are gone without a word. Before gate and
    /// policy are in force nothing is made.
    fn restore_vanished(&mut self) {
        let vanished = match self.attacher.vanished() {
            Ok(vanished) if vanished.is_empty() => return,
            Ok(vanished) => vanished,
            Err(error) => return tracing::warn!(error = %error, "links cannot be listed"),
        };
        if *self.first.borrow() != First::InForce {
            return;
        }
        let mut answers = Answers::default();
        for sandbox in vanished {
            let container_id = &sandbox.container_id;
            match self.attacher.restore(&sandbox) {
                Ok(true) => tracing::warn!(%container_id, "somebody else deleted a pod's interface; made it anew"),
                Ok(false) => {
                    tracing::info!(%container_id, "the sandbox is gone; its interface is released");
                    self.begin_detach(sandbox, None, &mut answers);
                }
                Err(error) => {
                    let causes = causes(&error);
                    tracing::warn!(%container_id, %error, ?causes, "a pod's interface is gone and cannot be made anew; trying again");
                }
            }
        }
        let enforced = self.enforce();
        self.finish(answers, &enforced);
    }
}

/// What caused an error, outermost first.
fn causes(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string).collect()
}
