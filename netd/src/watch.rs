//! The one input path: a Kubernetes client's watches, each kind in its own task, turned into [`News`] for the engine.
//!
//! A watch that breaks is resumed or listed anew with back-off by `kube`; the engine sees either the missed events or a
//! complete list. What is known stays in force in between.

use std::fmt::Debug;
use std::pin::pin;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use netd_policy::object::{self, ObjectKey};
use netd_policy::{Change, Listed};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::policy_document::PolicyDocument;
use crate::versions::Kind;

/// What a watch delivers.
#[derive(Debug)]
pub enum News {
    /// a complete list: the beginning, and after a gap that could not be bridged
    List {
        /// of which kind
        kind: Kind,
        /// the highest resource version on it
        newest: u64,
        /// the list
        change: Change,
    },
    /// one object
    Object(Object),
}

/// A report about one object.
#[derive(Debug)]
pub struct Object {
    /// its kind
    pub kind: Kind,
    /// its name; the namespace is empty for what has none
    pub key: ObjectKey,
    /// its resource version
    pub version: u64,
    /// what it says
    pub change: Change,
}

/// An API object that netd watches.
pub trait Watched: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static {
    /// Its kind.
    const KIND: Kind;
    /// What the object as it is now says.
    fn present(&self) -> Change;
    /// What its deletion says.
    fn gone(&self) -> Change;
    /// What a complete list says.
    fn listed(all: &[Self]) -> Listed;

    /// A report about the object, there or `gone`.
    fn report(&self, gone: bool) -> Object {
        Object {
            kind: Self::KIND,
            key: key(self),
            version: version(self),
            change: if gone { self.gone() } else { self.present() },
        }
    }
}

/// Starts the watches. `tell` is called from tokio's threads and must not block; it answers whether anybody still listens.
pub fn start(client: &Client, tell: impl Fn(News) -> bool + Clone + Send + 'static) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(watch(Api::<Pod>::all(client.clone()), tell.clone()));
    tasks.spawn(watch(Api::<Namespace>::all(client.clone()), tell.clone()));
    tasks.spawn(watch(Api::<PolicyDocument>::all(client.clone()), tell.clone()));
    tasks.spawn(watch(Api::<Service>::all(client.clone()), tell.clone()));
    tasks.spawn(watch(Api::<EndpointSlice>::all(client.clone()), tell.clone()));
    tasks.spawn(watch(Api::<Node>::all(client.clone()), tell));
    tasks
}

async fn watch<K: Watched>(api: Api<K>, tell: impl Fn(News) -> bool + Send) {
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut list: Vec<K> = Vec::new();
    while let Some(event) = events.next().await {
        let news = match event {
            Ok(Event::Init) => {
                list.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                list.push(object);
                continue;
            }
            Ok(Event::InitDone) => {
                let newest = list.iter().map(version).max().unwrap_or(0);
                let change = Change::Listed(K::listed(&list));
                list = Vec::new();
                News::List { kind: K::KIND, newest, change }
            }
            Ok(Event::Apply(object)) => News::Object(object.report(false)),
            Ok(Event::Delete(object)) => News::Object(object.report(true)),
            Err(error) => {
                tracing::warn!(kind = ?K::KIND, error = %error, "watch interrupted; what is known stays in force");
                continue;
            }
        };
        if !tell(news) {
            return;
        }
    }
}

fn key<K: Resource>(object: &K) -> ObjectKey {
    let meta = object.meta();
    ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Resource versions are the store's revisions: comparable numbers, with etcd, with our store and by Kubernetes' own contract
/// (KEP-5504). One that is no number counts as the oldest.
fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Watched for Pod {
    const KIND: Kind = Kind::Pod;

    fn present(&self) -> Change {
        Change::Pod(object::Pod::read(self))
    }

    fn gone(&self) -> Change {
        let key = key(self);
        Change::PodRemoved(minipod_model::PodKey::new(key.namespace, key.name), self.metadata.uid.clone())
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Pods(all.iter().map(object::Pod::read).collect())
    }
}

impl Watched for Namespace {
    const KIND: Kind = Kind::Namespace;

    fn present(&self) -> Change {
        Change::Namespace(object::Namespace::read(self))
    }

    fn gone(&self) -> Change {
        Change::NamespaceRemoved(key(self).name)
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Namespaces(all.iter().map(object::Namespace::read).collect())
    }
}

impl Watched for PolicyDocument {
    const KIND: Kind = Kind::NetworkPolicy;

    fn present(&self) -> Change {
        Change::Policy(self.read())
    }

    fn gone(&self) -> Change {
        Change::PolicyRemoved(key(self))
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Policies(all.iter().map(Self::read).collect())
    }
}

impl Watched for Service {
    const KIND: Kind = Kind::Service;

    fn present(&self) -> Change {
        Change::Service(object::Service::read(self))
    }

    fn gone(&self) -> Change {
        Change::ServiceRemoved(key(self))
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Services(all.iter().map(object::Service::read).collect())
    }
}

impl Watched for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;

    fn present(&self) -> Change {
        Change::Slice(object::EndpointSlice::read(self))
    }

    fn gone(&self) -> Change {
        Change::SliceRemoved(key(self))
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Slices(all.iter().map(object::EndpointSlice::read).collect())
    }
}

impl Watched for Node {
    const KIND: Kind = Kind::Node;

    fn present(&self) -> Change {
        Change::Node(object::Node::read(self))
    }

    fn gone(&self) -> Change {
        Change::NodeRemoved(key(self).name)
    }

    fn listed(all: &[Self]) -> Listed {
        Listed::Nodes(all.iter().map(object::Node::read).collect())
    }
}
