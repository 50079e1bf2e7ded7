//! What is there at the moment, for a Prometheus server.

use std::collections::BTreeSet;

use minipod_protocol::drops::Reason;
use netd_dataplane::contents::Contents;
use netd_dataplane::denied::Denied as Counted;
use netd_dataplane::signature_tag;
use netd_dataplane::spec::{Reason as Told, SetSpec};
use netd_policy::intent::Intent;
use netd_policy::{Cluster, object};

use super::Engine;
use crate::causes;
use crate::metrics::{Denied, Dropped};

impl Engine {
    /// The metrics in their text format.
    pub(super) fn measure(&mut self) -> String {
        let counted = self.dataplane.kernel().denied();
        let counted = counted.unwrap_or_else(|error| {
            tracing::warn!(%error, causes = ?causes(&error), "denied packets cannot be counted");
            Counted::new()
        });
        let (metrics, cluster) = (&self.metrics, self.objects.index().cluster());
        metrics.enforcing.set(i64::from(!self.is_failing() && self.objects.complete()));
        metrics.pods.set(number(self.attacher.attachments().count()));
        metrics.policies.set(number(cluster.policies.len()));
        if let Some(spec) = self.dataplane.spec() {
            metrics.signatures.set(number(spec.indexes.signatures.len()));
            metrics.chains.set(number(spec.chains.len()));
            metrics.sets.set(number(spec.sets.len()));
            let elements = spec.sets.values().filter_map(SetSpec::elements);
            metrics.elements.set(number(elements.map(Contents::len).sum()));
        }
        metrics.repaired(self.repairs);
        let revoked = self.revoker.counts();
        metrics.connections(revoked.cut, revoked.restored, number(revoked.forbidden));
        for (pod, reason, told) in self.drops.counts() {
            metrics.told(&dropped(pod, reason), told);
        }
        if let Some(intent) = self.dataplane.intent() {
            metrics.denied(denied(cluster, intent, counted));
        }
        metrics.text()
    }
}

/// `pod`: `NAMESPACE/NAME`; empty labels for one that nobody knows any more.
fn dropped(pod: Option<&str>, reason: Reason) -> Dropped {
    let (namespace, pod) = pod.and_then(|pod| pod.split_once('/')).unwrap_or_default();
    Dropped { namespace: namespace.to_owned(), pod: pod.to_owned(), reason: reason.as_str() }
}

/// Counts with the policies that isolate the pods for which the counted rules hold.
fn denied(cluster: &Cluster, intent: &Intent, counted: Counted) -> Vec<(Denied, u64)> {
    let counted = counted.into_iter().filter(|(_, packets)| *packets > 0);
    let named = counted.map(|((signature, told), packets)| {
        let pods = intent.endpoints.values().filter(|endpoint| signature_tag(&endpoint.signature) == signature);
        let isolating: BTreeSet<String> = pods
            .filter_map(|endpoint| cluster.pods.get(&endpoint.pod))
            .flat_map(|pod| isolating(cluster, pod, told))
            .collect();
        let direction = if told == Told::Egress { "egress" } else { "ingress" };
        (Denied { signature, direction, policies: Vec::from_iter(isolating).join(",") }, packets)
    });
    named.collect()
}

fn isolating(cluster: &Cluster, pod: &object::Pod, direction: Told) -> impl Iterator<Item = String> {
    let of_pod = cluster.policies.values().filter(move |policy| {
        let rules = if direction == Told::Egress { &policy.egress } else { &policy.ingress };
        rules.is_some() && policy.key.namespace == pod.key.namespace && policy.subjects.matches(&pod.labels)
    });
    of_pod.map(|policy| policy.key.to_string())
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
