//! The loop: watches in, decisions, writes out. One at a time, so that every decision is made on what the one before has done
//! as far as it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::stream::{self, BoxStream, SelectAll};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Error, Resource};
use minipod_model::PodKey;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::endpoints::{MANAGED_BY, MANAGED_BY_LABEL, SliceChange};
use crate::events;
use crate::facts::PodFacts;
use crate::namespaces::{self, Progress};
use crate::placement::Placement;
use crate::world::{Input, Key, Work, World};

/// Events taken in before anything is decided.
const BATCH: usize = 256;
/// The first wait before work that failed is tried again; doubles to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// How often old events are looked for.
const EVENT_ROUND: Duration = Duration::from_secs(600);

/// Runs all controllers of a cluster on the node `node_name` until `stop`. Where the API server is away, it waits for it.
pub async fn run(client: Client, node_name: String, stop: CancellationToken) {
    let mut runner = Runner { client, node_name, world: World::new(), due: BTreeMap::new() };
    tokio::select! {
        () = runner.run() => {}
        () = stop.cancelled() => {}
    }
}

struct Runner {
    client: Client,
    node_name: String,
    world: World,
    /// what is to be decided, since or from when, and how long it waited last
    due: BTreeMap<Work, (Instant, Duration)>,
}

impl Runner {
    async fn run(&mut self) {
        let mut inputs = watches(&self.client).ready_chunks(BATCH);
        let mut event_round = interval(EVENT_ROUND);
        event_round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = self.due.values().map(|(at, _)| *at).min().filter(|_| self.world.is_complete());
            tokio::select! {
                inputs = inputs.next() => match inputs {
                    Some(inputs) => self.take(inputs),
                    // Watches begin anew for ever.
                    None => return,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.work().await,
                _ = event_round.tick() => self.remove_old_events().await,
            }
        }
    }

    fn take(&mut self, inputs: Vec<Input>) {
        let work: BTreeSet<_> = inputs.into_iter().flat_map(|input| self.world.apply(input)).collect();
        let now = Instant::now();
        for work in work {
            self.due.insert(work, (now, Duration::ZERO));
        }
    }

    /// Does all that is due.
    async fn work(&mut self) {
        let now = Instant::now();
        let ready: Vec<_> =
            self.due.iter().filter(|(_, (at, _))| *at <= now).map(|(w, (_, waited))| (w.clone(), *waited)).collect();
        for (work, waited) in ready {
            self.due.remove(&work);
            let again = match self.decide(&work).await {
                Ok(again) => again,
                Err(error) => {
                    // A conflict means that the view is outdated: the event that mends it may have come already.
                    tracing::debug!(?work, %error, "a controller's write failed; it is decided anew");
                    true
                }
            };
            if again {
                let wait = (waited * 2).clamp(FIRST, LONGEST);
                self.due.insert(work, (Instant::now() + wait, wait));
            }
        }
    }

    /// Decides and writes; answers whether to look again.
    async fn decide(&self, work: &Work) -> Result<bool, Error> {
        match work {
            Work::Endpoints(service) => self.write_slices(service).await.map(|()| false),
            Work::Placement(pod) => self.place(pod).await.map(|()| false),
            Work::Orphan(pod) => self.remove_orphan(pod).await.map(|()| false),
            Work::Namespace(name) if self.world.is_terminating(name) => {
                let progress = namespaces::advance(&self.client, name).await?;
                if progress == Progress::Finished {
                    tracing::info!(namespace = name, "removed a namespace with its content");
                }
                Ok(progress == Progress::Waiting)
            }
            Work::Namespace(_) => Ok(false),
        }
    }

    async fn write_slices(&self, service: &Key) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &service.0);
        for change in self.world.slice_changes(service) {
            match change {
                SliceChange::Create(slice) => drop(api.create(&PostParams::default(), &slice).await?),
                SliceChange::Replace(slice) => drop(api.replace(name(&*slice), &PostParams::default(), &slice).await?),
                SliceChange::Delete(slice) => {
                    let condition = Preconditions {
                        uid: slice.metadata.uid.clone(),
                        resource_version: slice.metadata.resource_version.clone(),
                    };
                    let params = DeleteParams::default().preconditions(condition);
                    unless_gone(api.delete(name(&*slice), &params).await)?;
                }
            }
        }
        Ok(())
    }

    async fn place(&self, key: &PodKey) -> Result<(), Error> {
        let Some((pod, placement)) = self.world.placement(key, &self.node_name) else { return Ok(()) };
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = match placement {
            Placement::Bind(node) => {
                let binding = binding(pod, &node);
                let answer: Result<Value, _> =
                    api.create_subresource("binding", &key.name, &PostParams::default(), &binding).await;
                answer.map(drop)
            }
            Placement::Wait(message) => {
                let status = unschedulable(pod, &message);
                let written =
                    api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(status)).await.map(drop);
                if written.is_ok() {
                    self.tell(&events::failed_scheduling(pod, &message, Timestamp::now())).await;
                }
                written
            }
        };
        unless_gone(written)
    }

    /// Writes an event, for people. One that cannot be written is lost, and one that is there already said the same.
    async fn tell(&self, event: &Event) {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if let Err(error) = api.create(&PostParams::default(), event).await {
            tracing::debug!(%error, reason = event.reason, "event not written");
        }
    }

    async fn remove_orphan(&self, key: &PodKey) -> Result<(), Error> {
        let Some(pod) = self.world.orphan(key, &self.node_name) else { return Ok(()) };
        let condition = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
        let params = DeleteParams::default().grace_period(0).preconditions(condition);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        unless_gone(api.delete(&key.name, &params).await)?;
        tracing::info!(namespace = key.namespace, pod = key.name, node = pod.node, "removed a pod whose node is gone");
        Ok(())
    }

    async fn remove_old_events(&self) {
        let all: Api<Event> = Api::all(self.client.clone());
        let now = Timestamp::now();
        let removed = async {
            for event in all.list(&ListParams::default()).await?.items {
                if events::is_old(&event, now) {
                    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
                    let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
                    unless_gone(api.delete(name(&event), &DeleteParams::default()).await)?;
                }
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = removed.await {
            tracing::debug!(%error, "old events stay until the next round");
        }
    }
}

fn watches(client: &Client) -> SelectAll<BoxStream<'static, Input>> {
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    stream::select_all([
        watch(client, watcher::Config::default(), Input::Pod),
        watch(client, watcher::Config::default(), Input::Service),
        watch(client, ours, Input::Slice),
        watch(client, watcher::Config::default(), Input::Namespace),
        watch(client, watcher::Config::default(), Input::Node),
    ])
}

/// A watch of all objects of a kind; after an error it waits and begins anew.
fn watch<K>(
    client: &Client,
    config: watcher::Config,
    input: fn(watcher::Event<K>) -> Input,
) -> BoxStream<'static, Input>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let stream = watcher(Api::<K>::all(client.clone()), config).default_backoff();
    stream
        .inspect_err(|error| tracing::debug!(kind = %K::kind(&()), %error, "a controller's watch begins anew"))
        .filter_map(move |event| std::future::ready(event.ok().map(input)))
        .boxed()
}

fn name(object: &impl Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>) -> &str {
    object.metadata().name.as_deref().unwrap_or_default()
}

/// What is gone needs no write any more.
fn unless_gone<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop),
    }
}

fn binding(pod: &PodFacts, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    })
}

fn unschedulable(pod: &PodFacts, message: &str) -> Value {
    let at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    json!({
        "metadata": {"uid": pod.uid, "resourceVersion": pod.resource_version},
        "status": {"conditions": [{
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": at,
        }]},
    })
}
