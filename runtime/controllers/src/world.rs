//! The index of all that the controllers know, with one writer; turns events into work.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::runtime::watcher::Event;
use minipod_model::PodKey;

use crate::endpoints::{self, SERVICE_LABEL, SliceChange};
use crate::facts::{NodeFacts, PodFacts, ServiceFacts};
use crate::orphans;
use crate::placement::{self, Placement};
use crate::table::Table;

/// Namespace and name.
pub(crate) type Key = (String, String);

/// Something to decide anew.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// the endpoint slices of a service
    Endpoints(Key),
    /// the node of a pod
    Placement(PodKey),
    /// a pod that is going and has a node
    Orphan(PodKey),
    /// a namespace that is going
    Namespace(String),
}

/// What a watch says.
#[expect(clippy::large_enum_variant, reason = "taken in at once, never kept")]
pub(crate) enum Input {
    Pod(Event<Pod>),
    Service(Event<Service>),
    Slice(Event<EndpointSlice>),
    Namespace(Event<Namespace>),
    Node(Event<Node>),
}

pub(crate) struct World {
    pods: Table<PodKey, PodFacts>,
    services: Table<Key, ServiceFacts>,
    /// slices of ours
    slices: Table<Key, EndpointSlice>,
    /// namespaces that are going
    terminating: Table<String, String>,
    nodes: Table<String, NodeFacts>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            pods: Table::new(),
            services: Table::new(),
            slices: Table::new(),
            terminating: Table::new(),
            nodes: Table::new(),
        }
    }

    /// Whether every kind was listed once.
    pub(crate) fn is_complete(&self) -> bool {
        self.pods.is_complete()
            && self.services.is_complete()
            && self.slices.is_complete()
            && self.terminating.is_complete()
            && self.nodes.is_complete()
    }

    /// Takes an event in; answers what has to be decided anew.
    pub(crate) fn apply(&mut self, input: Input) -> BTreeSet<Work> {
        let mut work = BTreeSet::new();
        match input {
            Input::Pod(event) => {
                let changes =
                    self.pods.apply(event, |pod| PodFacts::of(pod).map(|facts| (facts.key.clone(), Some(facts))));
                for (before, after) in changes {
                    self.pod_changed(before.as_ref(), after.as_ref(), &mut work);
                }
            }
            Input::Service(event) => {
                let changes = self.services.apply(event, |service| {
                    Some(((service.namespace()?, service.metadata.name.clone()?), ServiceFacts::of(service)))
                });
                for (before, after) in changes.into_iter().filter(|(before, after)| before != after) {
                    if let Some(service) = after.or(before) {
                        work.insert(Work::Endpoints((service.namespace, service.name)));
                    }
                }
            }
            Input::Slice(event) => {
                let changes = self.slices.apply(event, |slice| {
                    Some(((slice.namespace()?, slice.metadata.name.clone()?), Some(slice.clone())))
                });
                for slice in changes.into_iter().flat_map(|(before, after)| before.into_iter().chain(after)) {
                    if let (Some(namespace), Some(service)) = (slice.namespace(), slice.labels().get(SERVICE_LABEL)) {
                        work.insert(Work::Endpoints((namespace, service.clone())));
                    }
                }
            }
            Input::Namespace(event) => {
                let changes = self.terminating.apply(event, |namespace| {
                    let name = namespace.metadata.name.clone()?;
                    let going = namespace.metadata.deletion_timestamp.is_some();
                    Some((name.clone(), going.then_some(name)))
                });
                work.extend(changes.into_iter().filter_map(|(_, after)| after).map(Work::Namespace));
            }
            Input::Node(event) => {
                let changes =
                    self.nodes.apply(event, |node| NodeFacts::of(node).map(|facts| (facts.name.clone(), Some(facts))));
                if changes.iter().any(|(before, after)| before != after) {
                    let waiting = self.pods.values().filter(|pod| self.has_no_node(pod) && !pod.finished);
                    work.extend(waiting.map(|pod| Work::Placement(pod.key.clone())));
                    let going = self.pods.values().filter(|pod| pod.terminating && pod.node.is_some());
                    work.extend(going.map(|pod| Work::Orphan(pod.key.clone())));
                }
            }
        }
        work
    }

    fn pod_changed(&self, before: Option<&PodFacts>, after: Option<&PodFacts>, work: &mut BTreeSet<Work>) {
        if let (Some(before), Some(after)) = (before, after)
            && before.same_but_version(after)
        {
            return;
        }
        let Some(pod) = after.or(before) else { return };
        let selects = |service: &&ServiceFacts| {
            service.namespace == pod.key.namespace
                && [before, after].into_iter().flatten().any(|pod| service.selector.matches(&pod.labels))
        };
        let services = self.services.values().filter(selects);
        work.extend(services.map(|service| Work::Endpoints((service.namespace.clone(), service.name.clone()))));
        if after.is_some_and(|pod| self.has_no_node(pod)) {
            work.insert(Work::Placement(pod.key.clone()));
        }
        if after.is_some_and(|pod| pod.terminating && pod.node.is_some()) {
            work.insert(Work::Orphan(pod.key.clone()));
        }
        if after.is_none() && self.terminating.get(&pod.key.namespace).is_some() {
            work.insert(Work::Namespace(pod.key.namespace.clone()));
        }
    }

    /// Whether the pod has no node, or one that is not there.
    fn has_no_node(&self, pod: &PodFacts) -> bool {
        pod.node.as_ref().is_none_or(|node| self.nodes.get(node).is_none())
    }

    /// The writes that take a service's slices to what they should be.
    pub(crate) fn slice_changes(&self, (namespace, name): &Key) -> Vec<SliceChange> {
        if self.terminating.get(namespace).is_some() {
            // What is left goes with the namespace.
            return Vec::new();
        }
        let desired = self
            .services
            .get(&(namespace.clone(), name.clone()))
            .map(|service| endpoints::desired_slices(service, self.pods.values()))
            .unwrap_or_default();
        let existing = self.slices.values().filter(|slice| {
            slice.metadata.namespace.as_ref() == Some(namespace) && slice.labels().get(SERVICE_LABEL) == Some(name)
        });
        endpoints::changes(desired, existing)
    }

    /// Where a pod should run, with what is known of it.
    pub(crate) fn placement(&self, key: &PodKey, preferred: &str) -> Option<(&PodFacts, Placement)> {
        let pod = self.pods.get(key)?;
        placement::place(pod, self.nodes.values(), preferred).map(|placement| (pod, placement))
    }

    /// The pod, if no node is there to end it.
    pub(crate) fn orphan(&self, key: &PodKey, own: &str) -> Option<&PodFacts> {
        self.pods.get(key).filter(|pod| orphans::is_orphan(pod, self.nodes.values(), own))
    }

    /// Whether a namespace is going.
    pub(crate) fn is_terminating(&self, namespace: &str) -> bool {
        self.terminating.get(&namespace.to_owned()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::{Input, Work, World};

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    fn pod(version: &str, app: &str) -> Input {
        Input::Pod(Event::Apply(read(json!({
            "metadata": {"name": "p", "namespace": "default", "resourceVersion": version, "labels": {"app": app}},
            "spec": {"nodeName": "n", "containers": []},
        }))))
    }

    fn service(name: &str, app: &str) -> Input {
        Input::Service(Event::Apply(read(json!({
            "metadata": {"name": name, "namespace": "default"}, "spec": {"selector": {"app": app}},
        }))))
    }

    fn endpoints(names: &[&str]) -> BTreeSet<Work> {
        names.iter().map(|name| Work::Endpoints(("default".to_owned(), (*name).to_owned()))).collect()
    }

    #[test]
    fn a_pod_wakes_the_services_that_select_it_before_or_after() {
        let mut world = World::new();
        world.apply(Input::Node(Event::Apply(read(json!({"metadata": {"name": "n"}})))));
        assert_eq!(world.apply(service("a", "a")), endpoints(&["a"]));
        assert_eq!(world.apply(service("b", "b")), endpoints(&["b"]));
        assert_eq!(world.apply(pod("1", "a")), endpoints(&["a"]));
        assert_eq!(world.apply(pod("2", "b")), endpoints(&["a", "b"]));
        assert_eq!(world.apply(pod("3", "b")), endpoints(&[]));
        assert_eq!(world.apply(service("b", "b")), endpoints(&[]));
    }

    #[test]
    fn nothing_is_complete_before_every_kind_is_listed() {
        let mut world = World::new();
        let mut done = Vec::new();
        for input in [
            Input::Pod(Event::InitDone),
            Input::Service(Event::InitDone),
            Input::Slice(Event::InitDone),
            Input::Namespace(Event::InitDone),
            Input::Node(Event::InitDone),
        ] {
            world.apply(input);
            done.push(world.is_complete());
        }
        assert_eq!(done, [false, false, false, false, true]);
    }
}
