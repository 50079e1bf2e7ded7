//! The one input path: a Kubernetes client's watches, each kind in its own task, turned into [`News`] for the engine.
//!
//! A watch that breaks is resumed or listed anew with back-off; the engine sees either the missed events or a complete list.
//! What is known stays in force in between.

mod follow;
mod kinds;
mod progress;

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, Resource};
use netd_policy::object::ObjectKey;
use netd_policy::{Change, Listed};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::policy_document::PolicyDocument;
use crate::versions::Kind;
use follow::follow;
pub use progress::{Behind, Progress};

/// What a watch delivers.
#[derive(Debug)]
pub enum News {
    /// a complete list: the beginning, and after a gap that could not be bridged
    List {
        /// of which kind
        kind: Kind,
        /// the resource version of the list
        version: u64,
        /// the list
        change: Change,
        /// of policies: each with its resource version
        policies: Vec<(ObjectKey, u64)>,
    },
    /// one object
    Object(Object),
}

impl News {
    /// Of which kind of object it tells.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::List { kind, .. } => *kind,
            Self::Object(object) => object.kind,
        }
    }
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

/// Starts the watches. `tell` is called from tokio's threads and must not block; it answers whether anybody still listens. The
/// progress says how far each of them has come.
pub fn start(client: &Client, tell: impl Fn(News) -> bool + Clone + Send + 'static) -> (JoinSet<()>, Progress) {
    let mut tasks = JoinSet::new();
    let progress = Progress::default();
    tasks.spawn(follow(Api::<Pod>::all(client.clone()), tell.clone(), progress.clone()));
    tasks.spawn(follow(Api::<Namespace>::all(client.clone()), tell.clone(), progress.clone()));
    tasks.spawn(follow(Api::<PolicyDocument>::all(client.clone()), tell.clone(), progress.clone()));
    tasks.spawn(follow(Api::<Service>::all(client.clone()), tell.clone(), progress.clone()));
    tasks.spawn(follow(Api::<EndpointSlice>::all(client.clone()), tell.clone(), progress.clone()));
    tasks.spawn(follow(Api::<Node>::all(client.clone()), tell, progress.clone()));
    (tasks, progress)
}

/// Each policy of a list with its resource version; nothing for other kinds, of which nobody asks when they came into force.
fn policy_versions<K: Watched>(all: &[K]) -> Vec<(ObjectKey, u64)> {
    let all = if K::KIND == Kind::NetworkPolicy { all } else { &[] };
    all.iter().map(|object| (key(object), version(object))).collect()
}

fn key<K: Resource>(object: &K) -> ObjectKey {
    let meta = object.meta();
    ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().map_or(0, revision)
}

/// Resource versions are the store's revisions: comparable numbers, with etcd, with our store and by Kubernetes' own contract
/// (KEP-5504). One that is no number counts as the oldest.
pub(crate) fn revision(resource_version: &str) -> u64 {
    resource_version.parse().unwrap_or(0)
}
