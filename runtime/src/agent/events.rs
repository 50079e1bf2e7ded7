//! Events on pods, for people: `Pulling`, `Pulled`, `Created`, `Started`, `BackOff`, `Killing` and their kind. The same event
//! again raises the count of the first. An event that cannot be written is lost, and nothing waits for it.
//!
//! Events are written a moment later, for every write costs the processor as much as a step of a pod's start: the story of a start
//! is not to slow it down.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use minipod_model::hash::short_hash;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Events that wait to be written; more are dropped.
const QUEUE: usize = 1024;
/// How long an event waits for others, and for the pods' starts that they tell of.
const GATHERED_FOR: Duration = Duration::from_millis(100);

/// Whether an event is bad news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// nothing is wrong
    Normal,
    /// something is
    Warning,
}

impl Tone {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Takes events and writes them in the background. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    queue: mpsc::Sender<Event>,
    node: String,
}

impl Recorder {
    /// Starts the background task; at the stop it writes what waits, and ends.
    pub(super) fn start(client: Client, node: String, stop: CancellationToken) -> (Self, JoinHandle<()>) {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let task = tokio::spawn(async move {
            let mut gathered = Vec::new();
            while stop.run_until_cancelled(waiting.recv_many(&mut gathered, QUEUE)).await.is_some_and(|count| count > 0)
            {
                stop.run_until_cancelled(tokio::time::sleep(GATHERED_FOR)).await;
                for event in gathered.drain(..) {
                    write(&client, event).await;
                }
            }
            while let Ok(event) = waiting.try_recv() {
                write(&client, event).await;
            }
        });
        (Self { queue, node }, task)
    }

    /// Notes something about a pod, or about one of its containers.
    pub(super) fn note(&self, pod: &Pod, container: Option<&str>, tone: Tone, reason: &str, message: &str) {
        let event = compile_event(pod, container, tone, reason, message, &self.node, Timestamp::now());
        if self.queue.try_send(event).is_err() {
            tracing::debug!(reason, message, "event dropped: the queue is full");
        }
    }
}

/// The event's object. Its name is a hash of what it says, so that the same event again finds the first.
fn compile_event(
    pod: &Pod,
    container: Option<&str>,
    tone: Tone,
    reason: &str,
    message: &str,
    node: &str,
    now: Timestamp,
) -> Event {
    let uid = pod.uid().unwrap_or_default();
    let field_path = container.map(|name| {
        let inits = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
        let is_init = inits.into_iter().flatten().any(|container| container.name == name);
        format!("spec.{}{{{name}}}", if is_init { "initContainers" } else { "containers" })
    });
    let hash =
        short_hash([uid.as_str(), field_path.as_deref().unwrap_or_default(), tone.as_str(), reason, message], 16);
    let time = Timestamp::from_second(now.as_second()).ok().map(Time);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{hash}", pod.name_any())),
            namespace: pod.namespace(),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            field_path,
            ..ObjectReference::default()
        },
        type_: Some(tone.as_str().to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.chars().take(1024).collect()),
        source: Some(EventSource { component: Some("minipod".to_owned()), host: Some(node.to_owned()) }),
        reporting_component: Some("minipod".to_owned()),
        reporting_instance: Some(node.to_owned()),
        count: Some(1),
        first_timestamp: time.clone(),
        last_timestamp: time,
        ..Event::default()
    }
}

async fn write(client: &Client, event: Event) {
    let namespace = event.metadata.namespace.clone().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let written = match api.create(&PostParams::default(), &event).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => count_again(&api, &event).await,
        other => other.map(|_| ()),
    };
    if let Err(error) = written {
        tracing::debug!(%error, reason = event.reason, "event not written");
    }
}

async fn count_again(api: &Api<Event>, event: &Event) -> Result<(), kube::Error> {
    let name = event.name_any();
    let count = api.get(&name).await?.count.unwrap_or(1).saturating_add(1);
    let patch = json!({"count": count, "lastTimestamp": event.last_timestamp});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::{Tone, compile_event};

    #[test]
    fn the_same_news_has_the_same_name_and_other_news_another() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]},
        }))
        .expect("a pod");
        let at = |second| Timestamp::from_second(second).expect("a time");
        let event = |container, message, second| {
            compile_event(&pod, container, Tone::Normal, "Pulled", message, "n1", at(second))
        };
        let first = event(Some("a"), "x", 1);
        assert_eq!(first.metadata.name, event(Some("a"), "x", 9).metadata.name);
        assert_ne!(first.metadata.name, event(Some("a"), "y", 1).metadata.name);
        assert_ne!(first.metadata.name, event(Some("i"), "x", 1).metadata.name);
        assert_eq!(first.involved_object.field_path.as_deref(), Some("spec.containers{a}"));
        let init = event(Some("i"), "x", 1);
        assert_eq!(init.involved_object.field_path.as_deref(), Some("spec.initContainers{i}"));
    }
}
