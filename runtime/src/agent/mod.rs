//! The pod agent: makes the pods of this node run as their objects say, and the objects say how the pods run.
//!
//! One task owns every pod's [`life::Life`]: it takes in news (watch, shims, finished work), lets the pure part decide, and hands
//! the actions to [`effects::Effects`], each in a task of its own that reports back. Nothing here waits for a pod.

mod backoff;
mod capabilities;
mod command;
mod dns;
mod effects;
mod env;
mod events;
mod life;
mod log;
mod resources;
mod sandbox;
mod service_links;
mod shim;
mod status;
mod streams;
mod sweep;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use minipod_image::{ImageRef, Images};
use minipod_kernel::cgroup::{CgroupError, Hierarchies};
use minipod_protocol::shim::{Failure, State};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::node::Directories;
use effects::{Effects, NotStarted, pod_name};
use life::{Action, Event, Life, Want};
use shim::{Record, Said, Shim};
use status::{ImageView, View};

pub(crate) use effects::with_causes;
pub use streams::Streams;
pub(crate) use sweep::{directories, pod_of_cgroup};

/// The shim of a pod's directory, as its last state or the agent's record says.
pub(crate) fn shim_process(directory: &std::path::Path) -> Option<crate::node::lock::Daemon> {
    shim::process(directory)
}

/// What the agent needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// `metadata.name` of the Node
    pub node_name: String,
    /// the node's host name
    pub hostname: String,
    /// addresses of the node, which may come and go
    pub node_ips: watch::Receiver<Vec<IpAddr>>,
    /// where things are kept
    pub directories: Directories,
    /// absolute below each hierarchy's root
    pub cgroup_parent: String,
    /// addresses of the cluster DNS
    pub cluster_dns: Vec<IpAddr>,
    /// the shim's program
    pub shim: PathBuf,
}

/// So long it is not written that a pod is being made: most run by then, and every write costs the processor as much as a step of
/// their start.
const MADE_WITHIN: Duration = Duration::from_millis(50);
/// A write to the API that failed is tried again after this time.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Runs the agent until `stop`. Pods go on when it ends; those that it finds running at its start it takes over.
///
/// # Errors
/// When no cgroup hierarchy is mounted.
pub async fn run(client: Client, images: Images, config: Config, stop: CancellationToken) -> Result<(), CgroupError> {
    let cgroups = Hierarchies::observe()?;
    let (recorder, mut writer) = events::Recorder::start(client.clone(), config.node_name.clone(), stop.clone());
    sweep::sweep(&config, &cgroups).await;
    let (sender, mut inbox) = mpsc::unbounded_channel();
    let mut addresses = config.node_ips.clone();
    let node_ips = addresses.borrow_and_update().clone();
    let effects = Arc::new(Effects::new(client.clone(), images, recorder, config, cgroups));
    let mut agent =
        Agent { effects, sender, pods: BTreeMap::new(), listed: None, synced: false, start: Instant::now(), node_ips };
    agent.adopt();

    // Also pods of other nodes: what an adopted shim runs is known to be gone only when no node has its pod.
    let mut watch = watcher(Api::<Pod>::all(client), watcher::Config::default()).default_backoff().boxed();
    loop {
        let next = agent.advance_all();
        let timer = async move {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => {
                // What was noted is told: the next daemon takes it for told.
                let _ = (&mut writer).await;
                return Ok(());
            }
            news = watch.next() => match news {
                Some(Ok(event)) => agent.observe(event),
                Some(Err(error)) => tracing::warn!(error = with_causes(&error), "watch of pods interrupted"),
                None => return Ok(()),
            },
            Ok(()) = addresses.changed() => agent.move_to(addresses.borrow_and_update().clone()),
            message = inbox.recv() => if let Some(message) = message { agent.receive(message) },
            () = timer => {}
        }
    }
}

struct Agent {
    effects: Arc<Effects>,
    sender: mpsc::UnboundedSender<Message>,
    /// by UID
    pods: BTreeMap<String, Entry>,
    /// UIDs of the list under way
    listed: Option<BTreeSet<String>>,
    /// the first list is complete: a pod without an object has vanished
    synced: bool,
    start: Instant,
    /// addresses of the node now
    node_ips: Vec<IpAddr>,
}

/// A pod of this node.
struct Entry {
    pod: Option<Arc<Pod>>,
    life: Life,
    /// what the containers' images turned out to be
    images: BTreeMap<String, ImageRef>,
    write: Write,
    /// that the pod is being made is not worth a write before
    quiet_until: Duration,
    dirty: bool,
    /// an earlier daemon started its shim
    adopted: bool,
    /// when something is due without any news
    due: Option<Duration>,
}

/// How the pod's status is getting to the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Idle,
    Underway,
    NotBefore(Duration),
}

struct Message {
    uid: String,
    what: What,
}

enum What {
    Life(Event),
    Image(String, Box<Result<(ImageRef, ImageView), Failure>>),
    StopFailed,
    Written(Box<Result<Pod, kube::Error>>),
}

impl Agent {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Takes note of the node's addresses, which pods on its network have too.
    fn move_to(&mut self, node_ips: Vec<IpAddr>) {
        self.node_ips = node_ips;
        for entry in self.pods.values_mut() {
            entry.dirty = true;
        }
    }

    /// Takes over what an earlier daemon left running.
    fn adopt(&mut self) {
        for uid in sweep::directories(&self.effects.config.directories.pods()) {
            let directory = self.effects.directory(&uid);
            let record = shim::read_record(&directory);
            let sandbox = shim::read_sandbox(&directory);
            let policy = sandbox.as_ref().map(|s| s.restart_policy);
            let containers = sandbox.iter().flat_map(|s| s.init_containers.iter().chain(&s.containers));
            let names: Vec<String> = containers.map(|container| container.name.clone()).collect();
            let policy = policy.unwrap_or(minipod_protocol::shim::RestartPolicy::Always);
            let life = Life::adopted(&names, policy, record.run, record.past.clone());
            self.pods.insert(uid.clone(), Entry { adopted: true, ..Entry::new(None, life) });
            let sender = self.sender.clone();
            tokio::spawn(async move {
                match Shim::find(&directory, &uid).await {
                    Ok(shim) => {
                        tracing::info!(uid, "pod adopted");
                        listen(&sender, &uid, shim).await;
                    }
                    Err(last) => {
                        tracing::warn!(uid, "the pod's shim is gone");
                        tell(&sender, &uid, Event::ShimEnded(last));
                    }
                }
            });
        }
    }

    /// Takes in what the API says.
    fn observe(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed = Some(BTreeSet::new()),
            watcher::Event::InitApply(pod) => {
                if let Some(listed) = &mut self.listed {
                    listed.extend(pod.uid());
                }
                self.observe_pod(pod);
            }
            watcher::Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                for (_, entry) in self.pods.iter_mut().filter(|(uid, _)| !listed.contains(*uid)) {
                    entry.pod = None;
                }
                if !self.synced {
                    let logs = self.effects.config.directories.logs();
                    let known = self.pods.keys().chain(&listed).cloned().collect();
                    tokio::task::spawn_blocking(move || sweep::remove_unknown(&logs, &known));
                }
                self.synced = true;
                for entry in self.pods.values_mut() {
                    entry.dirty = true;
                }
            }
            watcher::Event::Apply(pod) => self.observe_pod(pod),
            watcher::Event::Delete(pod) => {
                if let Some(entry) = pod.uid().and_then(|uid| self.pods.get_mut(&uid)) {
                    entry.pod = None;
                    entry.dirty = true;
                }
            }
        }
    }

    fn observe_pod(&mut self, pod: Pod) {
        let Some(uid) = pod.uid() else { return };
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        if node != self.effects.config.node_name {
            if self.pods.remove(&uid).is_some() {
                tracing::warn!(pod = %pod_name(&pod), node, "a pod of another node runs here; it is left alone");
            }
            return;
        }
        let logs = self.effects.config.directories.logs().join(&uid);
        let quiet_until = self.now() + MADE_WITHIN;
        let new = || {
            let life = Life::new(&pod, log::count_runs(&logs), Timestamp::now());
            Entry { quiet_until, ..Entry::new(None, life) }
        };
        let entry = self.pods.entry(uid).or_insert_with(new);
        if entry.pod.as_ref().is_none_or(|known| version(known) <= version(&pod)) {
            entry.pod = Some(Arc::new(pod));
            entry.dirty = true;
        }
    }

    /// Takes in what a task reports.
    fn receive(&mut self, Message { uid, what }: Message) {
        let (now, wall) = (self.now(), Timestamp::now());
        let Some(entry) = self.pods.get_mut(&uid) else { return };
        entry.dirty = true;
        match what {
            What::Life(event) => {
                let old = entry.life.state();
                if let (Event::State(new), Some(pod)) = (&event, &entry.pod)
                    // What an adopted shim says first has been told by the daemon before.
                    && (old.is_some() || !entry.adopted)
                {
                    tell::state_changed(&self.effects.recorder, pod, old, new);
                }
                if matches!(event, Event::ShimEnded(_)) {
                    entry.adopted = false;
                }
                entry.life.apply(event, now, wall);
            }
            What::Image(container, result) => match *result {
                Ok((reference, image)) => {
                    entry.images.insert(container.clone(), reference);
                    entry.life.apply(Event::ImageReady { container, image }, now, wall);
                }
                Err(failure) => entry.life.apply(Event::ImageFailed { container, failure }, now, wall),
            },
            What::StopFailed => entry.life.stop_failed(now),
            What::Written(result) => match *result {
                Ok(pod) => {
                    entry.write = Write::Idle;
                    if entry.pod.as_ref().is_some_and(|known| version(known) < version(&pod)) {
                        entry.pod = Some(Arc::new(pod));
                    }
                }
                Err(error) => {
                    // The object may be gone or another one by now: the watch says so.
                    tracing::debug!(uid, error = with_causes(&error), "status not written");
                    entry.write = Write::NotBefore(now + WRITE_AGAIN);
                }
            },
        }
    }

    /// Lets every pod with news or something due decide; when the next is due.
    fn advance_all(&mut self) -> Option<Instant> {
        let now = self.now();
        let due: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, entry)| entry.dirty || entry.due.is_some_and(|at| at <= now))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            self.advance(&uid, now);
        }
        self.pods.retain(|_, entry| !entry.life.is_gone());
        self.pods.values().filter_map(|entry| entry.due).min().map(|at| self.start + at)
    }

    fn advance(&mut self, uid: &str, now: Duration) {
        let synced = self.synced;
        let Some(entry) = self.pods.get_mut(uid) else { return };
        entry.dirty = false;
        entry.due = None;
        if entry.pod.is_none() && !synced {
            return;
        }
        let want = life::want(entry.pod.as_deref());
        loop {
            let changes = entry.changes(&self.node_ips, want);
            let settled = changes.is_empty() && entry.write == Write::Idle;
            let actions = entry.life.decide(want, settled, now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                perform(&self.effects, &self.sender, uid, entry, action);
            }
        }
        self.write_status(uid, want, now);
    }

    fn write_status(&mut self, uid: &str, want: Want, now: Duration) {
        let Some(entry) = self.pods.get_mut(uid) else { return };
        let changes = entry.changes(&self.node_ips, want);
        let quiet_until =
            if want == Want::Run && entry.life.is_being_made() { entry.quiet_until } else { Duration::ZERO };
        let not_before = match entry.write {
            Write::Idle | Write::Underway => quiet_until,
            Write::NotBefore(at) => at.max(quiet_until),
        };
        let may_write = entry.write != Write::Underway && not_before <= now;
        let waits = (entry.write != Write::Underway).then_some(not_before);
        if changes.is_empty() && may_write {
            entry.write = Write::Idle;
        }
        // What is past is done or waits for news, not for time.
        entry.due = entry.life.deadline(want).into_iter().chain(waits).filter(|at| *at > now).min();
        let Some(pod) = entry.pod.clone().filter(|_| may_write && !changes.is_empty()) else { return };
        entry.write = Write::Underway;
        let (effects, sender, uid) = (Arc::clone(&self.effects), self.sender.clone(), uid.to_owned());
        tokio::spawn(async move {
            let result = effects.patch_status(&pod, changes).await;
            let _ = sender.send(Message { uid, what: What::Written(Box::new(result)) });
        });
    }
}

impl Entry {
    fn new(pod: Option<Arc<Pod>>, life: Life) -> Self {
        Self {
            pod,
            life,
            images: BTreeMap::new(),
            write: Write::Idle,
            quiet_until: Duration::ZERO,
            dirty: true,
            adopted: false,
            due: None,
        }
    }

    /// What the pod's status must change to say how it is.
    fn changes(&self, host_ips: &[IpAddr], want: Want) -> serde_json::Map<String, serde_json::Value> {
        let Some(pod) = &self.pod else { return serde_json::Map::new() };
        let old = pod.status.as_ref();
        let terminal = old.and_then(|s| s.phase.as_deref()).is_some_and(|p| matches!(p, "Succeeded" | "Failed"));
        if (terminal && self.life.state().is_none()) || self.life.is_adopting() {
            return serde_json::Map::new();
        }
        let failure = self.life.failure();
        let (past, images) = (self.life.past(), self.life.image_views());
        let view = View {
            host_ips,
            state: self.life.state(),
            lost: self.life.is_lost(),
            past,
            images: &images,
            failure: failure.map(|(failure, _)| failure),
            failed_container: failure.and_then(|(_, container)| container),
            ended: self.life.has_ended(want),
        };
        effects::status_changes(old, &status::compile_status(pod, &view, Timestamp::now()))
    }
}

/// The store's revision at which the object was written.
fn version(pod: &Pod) -> u64 {
    pod.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn tell(sender: &mpsc::UnboundedSender<Message>, uid: &str, event: Event) {
    // Nobody listens any more once the daemon is ending.
    let _ = sender.send(Message { uid: uid.to_owned(), what: What::Life(event) });
}

/// Passes on what a shim says until it ends.
async fn listen(sender: &mpsc::UnboundedSender<Message>, uid: &str, mut shim: Shim) {
    tell(sender, uid, Event::Started);
    loop {
        match shim.next().await {
            Said::State(state) => tell(sender, uid, Event::State(state)),
            Said::Ended(last) => {
                tell(sender, uid, Event::ShimEnded(last));
                return;
            }
        }
    }
}

/// Begins an action; its end is reported to the inbox.
fn perform(effects: &Arc<Effects>, sender: &mpsc::UnboundedSender<Message>, uid: &str, entry: &Entry, action: Action) {
    let (effects, sender, uid) = (Arc::clone(effects), sender.clone(), uid.to_owned());
    let pod = entry.pod.clone();
    match action {
        Action::EnsureImage { container } => {
            let Some(pod) = pod else { return };
            tokio::spawn(async move {
                let result = Box::new(effects.ensure_image(&pod, &container).await);
                let _ = sender.send(Message { uid, what: What::Image(container, result) });
            });
        }
        Action::Start => {
            let Some(pod) = pod else { return };
            let record = Record { run: entry.life.run(), past: entry.life.past().clone(), process: None };
            let images = entry.images.clone();
            effects.expect_moves();
            tokio::spawn(async move {
                tracing::info!(pod = %pod_name(&pod), run = record.run, "starting pod");
                match effects.start(&pod, images, record).await {
                    Ok(shim) => listen(&sender, &uid, shim).await,
                    Err(NotStarted { failure, container }) => {
                        tell(&sender, &uid, Event::StartFailed { failure, container });
                    }
                }
            });
        }
        Action::Stop { grace_seconds } => {
            if let Some(pod) = &pod {
                tell::stopping(&effects.recorder, pod, entry.life.state());
            }
            tokio::spawn(async move {
                tracing::info!(uid, grace_seconds, "stopping pod");
                if let Err(error) = effects.stop(&uid, grace_seconds).await {
                    tracing::warn!(uid, error = with_causes(&error), "pod not stopped");
                    let _ = sender.send(Message { uid, what: What::StopFailed });
                }
            });
        }
        Action::Kill => {
            tokio::spawn(async move {
                tracing::warn!(uid, "the pod's shim does not carry out the stop; it is killed");
                if let Err(error) = effects.kill(&uid).await {
                    tracing::warn!(uid, error = with_causes(&error), "the pod's shim is not killed; trying again");
                }
            });
        }
        Action::Clean => {
            tokio::spawn(async move {
                let event = match effects.clean(&uid).await {
                    Ok(()) => Event::Cleaned,
                    Err(error) => {
                        tracing::warn!(uid, error = with_causes(&error), "pod not cleaned up; trying again");
                        Event::CleanFailed
                    }
                };
                tell(&sender, &uid, event);
            });
        }
        Action::Forget => {
            tokio::spawn(async move { report(&uid, effects.forget(&uid).await) });
        }
        Action::DeleteObject => {
            let Some(pod) = pod else { return };
            tokio::spawn(async move {
                report(&uid, effects.remove(&uid).await);
                let event = match effects.delete_object(&pod).await {
                    Ok(()) => Event::Deleted,
                    Err(error) => {
                        tracing::warn!(pod = %pod_name(&pod), error = with_causes(&error), "pod not deleted; trying again");
                        Event::DeleteFailed
                    }
                };
                tell(&sender, &uid, event);
            });
        }
        Action::Remove => {
            tokio::spawn(async move { report(&uid, effects.remove(&uid).await) });
        }
    }
}

fn report(uid: &str, result: Result<(), effects::CleanError>) {
    if let Err(error) = result {
        tracing::warn!(uid, error = with_causes(&error), "files of the pod are left; the next start removes them");
    }
}

/// The containers of a state, init containers first.
fn all_containers(state: &State) -> impl Iterator<Item = &minipod_protocol::shim::ContainerState> {
    state.init_containers.iter().chain(&state.containers)
}
