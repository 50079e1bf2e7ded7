//! The engine: one thread that owns what is known and what is enforced, and does one batch of commands at a time.
//!
//! A batch is all that has been asked while the one before was carried out, so that a hundred pods created at once are one change of
//! rules. In each batch: take note of objects, choose names and addresses of new attachments, take released ones out of the intent;
//! then make the kernel agree, once; then make and delete links and answer. So a link is made when its gate and policy are in force,
//! and deleted when nothing passes for it any more.

mod attachments;
mod judge;
mod measure;
mod nodes;
mod objects;
mod policies;
mod report;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use minipod_protocol::netd::{Code, Error};
use netd_dataplane::facts::PodToNode;
use netd_dataplane::{Dataplane, DataplaneError, NodeFacts};
use netd_policy::{Change, Listed};
use tokio::sync::watch;

use crate::attach::Attacher;
use crate::causes;
use crate::clock::Clock;
use crate::command::Command;
use crate::dns::Records;
use crate::drops::{Drops, named};
use crate::hostnet::HostNet;
use crate::kernel::NodeKernel;
use crate::metrics::{Kind, Metrics};
use crate::nodes::Vxlan;
use crate::offload::Prober;
use crate::options::Routing;
use crate::revoke::{InForce, Revoker};
use attachments::Answers;
use nodes::Others;
use objects::Objects;
use policies::Policies;

/// How often the kernel is compared with what it should be, when nothing else makes the engine look.
const LOOK: Duration = Duration::from_secs(5);
/// How often the kernel is asked whether somebody changed rules, one cheap question; only then they are read.
const GLANCE: Duration = Duration::from_secs(1);
/// Of the time, reading rules that others keep changing may take one part in so many,
const SHARE: u32 = 20;
/// but they are looked at after so long at the latest: within two seconds they are right again.
const GLANCE_AT_LATEST: Duration = Duration::from_millis(1500);
/// How soon a change or a repair that failed is tried again.
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
    pub dataplane: Dataplane<NodeKernel>,
    /// links and addresses
    pub attacher: Attacher,
    /// routes and settings of the node
    pub host: HostNet,
    /// how pods of other nodes are reached
    pub routing: Routing,
    /// the cluster DNS, if this node answers for it
    pub publish: Option<Publish>,
    /// cuts live connections
    pub revoker: Revoker,
    /// finds out whether the VXLAN device may leave checksums to others
    pub prober: Prober,
    /// why nobody listens to what the kernel tells of dropped packets
    pub deaf: Option<Error>,
    /// time since boot
    pub clock: Clock,
}

/// The engine.
pub struct Engine {
    objects: Objects,
    policies: Policies,
    /// how many changes of what is known are in force, and how long the last one took from when its batch began
    changes: (u64, Duration),
    facts: NodeFacts,
    dataplane: Dataplane<NodeKernel>,
    attacher: Attacher,
    host: HostNet,
    others: Others,
    publish: Option<Publish>,
    /// the cluster DNS answers with older names
    unpublished: bool,
    /// names may be different from those that it was told last
    renamed: bool,
    revoker: Revoker,
    prober: Prober,
    clock: Clock,
    /// something is different from what the kernel was told last
    stale: bool,
    enforcement: watch::Sender<Enforcement>,
    drops: Drops,
    metrics: Metrics,
    /// why dropped packets are not told
    deaf: Option<Error>,
    /// how often rules or sets were repaired that somebody else had changed
    repairs: u64,
    /// when the kernel is compared with what it should be, at the latest
    next_look: Instant,
    /// when the kernel is asked whether somebody changed rules
    next_glance: Instant,
    /// when what failed is tried again
    next_retry: Instant,
}

/// Whether the kernel does what it should; attaches make sense while it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforcement {
    /// not every kind of object has been listed yet
    Awaited,
    /// what is known is in force
    InForce,
    /// the kernel or a program refused the newest state, or a repair: why
    Failing(String),
}

impl Engine {
    /// The engine, and whether the kernel does what it should.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, watch::Receiver<Enforcement>) {
        let Parts { policy, facts, dataplane, attacher, host, routing, publish, revoker, prober, deaf, clock } = parts;
        let (enforcement, told) = watch::channel(Enforcement::Awaited);
        let now = Instant::now();
        let mut objects = Objects::new(policy);
        let known = attacher.attachments().map(attachments::as_object).collect();
        objects.apply(Change::Listed(Listed::Attachments(known)));
        let engine = Self {
            objects,
            policies: Policies::default(),
            changes: (0, Duration::ZERO),
            facts,
            dataplane,
            attacher,
            host,
            others: Others::new(routing),
            publish,
            unpublished: false,
            renamed: true,
            revoker,
            prober,
            clock,
            stale: true,
            enforcement,
            drops: Drops::default(),
            metrics: Metrics::default(),
            deaf,
            repairs: 0,
            next_look: now + LOOK,
            next_glance: now + GLANCE,
            next_retry: now,
        };
        (engine, told)
    }

    /// Carries out commands until [`Command::Stop`] or until nobody is left who could give one. The kernel keeps enforcing.
    pub fn run(mut self, commands: &Receiver<Command>) {
        loop {
            let next = self.next_look.min(self.next_glance);
            let until = if self.is_failing() { next.min(self.next_retry) } else { next };
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
            let now = Instant::now();
            if self.is_failing() && now >= self.next_retry {
                self.try_again();
            }
            if now >= self.next_look {
                self.look();
            } else if now >= self.next_glance {
                self.glance();
            }
            self.publish_names();
        }
    }

    /// One batch; `false` when it says to stop.
    fn carry_out(&mut self, batch: Vec<Command>) -> bool {
        let begin = Instant::now();
        let mut answers = Answers::default();
        let (mut go_on, mut look) = (true, false);
        for command in batch {
            match command {
                Command::News { news, heard } => {
                    self.policies.note(&news, heard);
                    // Policies have no names that anybody asks for.
                    let is_named = news.kind() != crate::versions::Kind::NetworkPolicy;
                    let is_news = self.objects.note(*news);
                    self.stale |= is_news;
                    self.renamed |= is_news && is_named;
                }
                Command::Attach { request, fresh, reply } => self.begin_attach(&request, *fresh, reply, &mut answers),
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
                Command::Logged(packets) => {
                    let (cluster, now) = (self.objects.index().cluster(), Timestamp::now());
                    let named: Vec<_> = packets.iter().filter_map(|packet| named(cluster, packet, now)).collect();
                    for dropped in named {
                        self.drops.note(dropped);
                    }
                }
                Command::Metrics(reply) => {
                    let _ = reply.send(Ok(self.measure()));
                }
                Command::Drops(reply) => {
                    let _ = reply.send(match &self.deaf {
                        Some(error) => Err(error.clone()),
                        None => Ok(self.drops.watch()),
                    });
                }
                Command::Policies(reply) => {
                    let _ = reply.send(Ok(self.policy_states()));
                }
                Command::Judge { packets, reply } => {
                    let _ = reply.send(self.judge(&packets));
                }
                Command::Here(reply) => {
                    let _ = reply.send(self.here());
                }
                Command::Stop => go_on = false,
            }
        }
        // Rules first, then what leads to other nodes.
        look |= self.nodes_differ() && self.follow_nodes();
        let is_change = self.stale && self.objects.complete();
        let enforced = self.enforce();
        if is_change && enforced.is_ok() {
            self.changes = (self.changes.0 + 1, begin.elapsed());
        }
        self.finish(answers, &enforced);
        // Nobody need wait for the removal of what nothing needs any more.
        self.dataplane.tidy();
        if look {
            self.look_at_network();
        }
        go_on
    }

    /// What was noted of objects may be news.
    fn take_note(&mut self, is_news: bool) {
        self.stale |= is_news;
        self.renamed |= is_news;
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
        if !self.objects.complete() {
            return Ok(());
        }
        if !self.stale {
            self.policies.enforced(Instant::now());
            return Ok(());
        }
        let intent = self.objects.intent();
        let begin = Instant::now();
        let result = self.dataplane.put_in_force(&intent, &self.facts);
        let took = begin.elapsed();
        self.unpublished |= std::mem::take(&mut self.renamed);
        match result {
            Ok(changes) => {
                self.stale = false;
                self.metrics.changed(Kind::of(&changes), took);
                self.policies.enforced(Instant::now());
                self.note_success();
                self.revoker.in_force(InForce {
                    intent,
                    tightens: changes.tightens,
                    pod_to_node: self.facts.pod_to_node == PodToNode::Allow,
                    bit: self.facts.marks.revoked(),
                });
                if !changes.is_empty() {
                    tracing::info!(?changes, "rules and sets changed");
                }
                Ok(())
            }
            Err(error) => Err(self.note_failure(&error)),
        }
    }

    fn note_success(&mut self) {
        if *self.enforcement.borrow() == Enforcement::InForce {
            return;
        }
        if let Enforcement::Failing(_) = self.enforcement.send_replace(Enforcement::InForce) {
            tracing::info!("the kernel enforces the newest state again");
        }
        // For what others changed in the meantime.
        self.next_look = Instant::now();
    }

    fn note_failure(&mut self, error: &DataplaneError) -> Error {
        let details = causes(error);
        let failure = details.iter().fold(error.to_string(), |text, cause| text + ": " + cause);
        let failing = Enforcement::Failing(failure);
        let before = self.enforcement.borrow().clone();
        if before != failing {
            // The first one is told by whoever starts the engine.
            if before != Enforcement::Awaited {
                tracing::error!(%error, causes = ?details, "the kernel does not enforce the newest state; trying again");
            }
            self.enforcement.send_replace(failing);
        }
        self.next_retry = Instant::now() + RETRY;
        Error { code: Code::Io, message: error.to_string(), details }
    }

    /// Why the kernel does not do what it should.
    fn failure(&self) -> Option<String> {
        match &*self.enforcement.borrow() {
            Enforcement::Failing(failure) => Some(failure.clone()),
            Enforcement::Awaited | Enforcement::InForce => None,
        }
    }

    fn is_failing(&self) -> bool {
        matches!(*self.enforcement.borrow(), Enforcement::Failing(_))
    }

    /// The failure has been logged; whoever waited has been told.
    fn try_again(&mut self) {
        if self.stale && self.objects.complete() {
            let _ = self.enforce();
        } else {
            self.look_at_rules();
        }
    }

    fn status(&self) -> Result<(), Error> {
        let refuse = |code, message: String| Err(Error { code, message, details: Vec::new() });
        if let Some(failure) = self.failure() {
            return refuse(
                Code::LimitedConnectivity,
                format!("the kernel does not enforce the newest state: {failure}"),
            );
        }
        if let Some(failure) = self.revoker.counts().failure {
            return refuse(
                Code::LimitedConnectivity,
                format!("connections that are forbidden now cannot be cut: {failure}"),
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
        self.look_at_rules();
        self.next_look = Instant::now() + LOOK;
    }

    /// Reads rules and sets only if somebody changed rules.
    fn glance(&mut self) {
        self.next_glance = Instant::now() + GLANCE;
        if self.dataplane.kernel().may_have_changed() {
            self.look_at_rules();
        }
    }

    fn look_at_rules(&mut self) {
        let begin = Instant::now();
        match self.dataplane.repair() {
            Ok(changes) => {
                if !changes.is_empty() {
                    self.repairs += 1;
                    tracing::warn!(?changes, "somebody else changed our rules or sets; repaired");
                    self.revoker.was_open();
                }
                // Otherwise what was repaired is an older state.
                if !self.stale {
                    self.note_success();
                }
            }
            Err(error) => {
                self.note_failure(&error);
            }
        }
        let end = Instant::now();
        self.next_glance = end + ((end - begin) * SHARE).clamp(GLANCE, GLANCE_AT_LATEST);
    }

    /// Looks at links, routes and addresses.
    fn look_at_network(&mut self) {
        self.restore_vanished();
        match self.attacher.repair_links() {
            Ok(repaired) if repaired.is_empty() => {}
            Ok(repaired) => tracing::warn!(?repaired, "somebody else switched pods' interfaces off; switched on again"),
            Err(error) => tracing::warn!(error = %error, causes = ?causes(&error), "interfaces cannot be repaired"),
        }
        let is_news = self.lead_to_nodes();
        match self.host.ensure(&self.attacher.pod_routes()) {
            Ok(repaired) if repaired.is_empty() => {}
            Ok(repaired) => {
                if let Some(mtu) = repaired.mtu {
                    self.attacher.set_mtu(mtu);
                }
                if is_news {
                    tracing::info!(changes = ?repaired, "routes to other nodes changed");
                } else {
                    tracing::warn!(?repaired, "routes, addresses or the MTU were not as they must be; repaired");
                }
            }
            Err(error) => tracing::warn!(error = %error, causes = ?causes(&error), "routes cannot be repaired"),
        }
        self.prober.follow(self.host.vxlan().map(Vxlan::tunnel));
        self.forget_vxlan();
    }

    /// Makes links anew that others deleted, and releases the interfaces of sandboxes that are gone without a word. Before gate and
    /// policy are in force nothing is made.
    fn restore_vanished(&mut self) {
        let vanished = match self.attacher.vanished() {
            Ok(vanished) if vanished.is_empty() => return,
            Ok(vanished) => vanished,
            Err(error) => return tracing::warn!(error = %error, "links cannot be listed"),
        };
        if *self.enforcement.borrow() != Enforcement::InForce {
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
