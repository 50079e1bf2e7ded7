//! Which pairs of pods would reach each other otherwise than they do, by the reference evaluator. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use minipod_model::{IpFamily, PodKey};
use netd_policy::evaluate::{Verdict, verdict};
use netd_policy::object::{Pod, Policy};
use netd_policy::{Cluster, Packet};
use serde::Serialize;

use super::super::verdict::because;
use super::ports::{Cuts, Ports};

/// What changes between two pods.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) from: PodKey,
    pub(super) to: PodKey,
    /// all ports, in parts
    pub(super) all: Vec<Ports>,
    pub(super) changes: Vec<PairChange>,
}

/// What changes in the same way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PairChange {
    /// none: in each that both have
    pub(super) family: Option<IpFamily>,
    pub(super) ports: Vec<Ports>,
    pub(super) turn: Turn,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) before: State,
    pub(super) after: State,
    /// who decides afterwards
    pub(super) because: String,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Allowed,
    Denied,
    /// one of the two pods is not there
    Absent,
}

/// Every pair that differs, by name.
pub(super) fn between(before: &Cluster, after: &Cluster) -> Vec<Pair> {
    let pods: Vec<&Pod> = after.pods.values().filter(|pod| has_network(pod)).collect();
    let touched = touched(before, after);
    let cuts: Vec<[Cuts; 2]> = pods.iter().map(|pod| cuts([before, after], pod)).collect();
    let mut pairs = Vec::new();
    for (from, [leaving, _]) in pods.iter().zip(&cuts) {
        for (to, [_, entering]) in pods.iter().zip(&cuts) {
            let is_same = from.key == to.key;
            if !is_same && [from, to].iter().any(|pod| pod.addresses.iter().any(|address| touched.contains(address))) {
                let mut cuts = leaving.clone();
                cuts.add_all(entering);
                cuts.add_names(&to.ports);
                pairs.extend(pair([before, after], from, to, cuts.parts()));
            }
        }
    }
    pairs
}

fn has_network(pod: &Pod) -> bool {
    !pod.host_network && !pod.finished && !pod.addresses.is_empty()
}

/// Addresses of pods of which other policies may hold, or which others may select: nothing changes between any two others.
fn touched(before: &Cluster, after: &Cluster) -> BTreeSet<IpAddr> {
    let namespaces = differing(&before.namespaces, &after.namespaces);
    let policies = differing(&before.policies, &after.policies);
    let policies: Vec<&Policy> = [before, after]
        .iter()
        .flat_map(|cluster| policies.iter().filter_map(|key| cluster.policies.get(*key)))
        .collect();
    let is_touched = |pod: &Pod| {
        before.pods.get(&pod.key) != after.pods.get(&pod.key)
            || namespaces.contains(&pod.key.namespace)
            || policies.iter().any(|policy| is_subject(policy, pod))
    };
    let pods = [before, after].into_iter().flat_map(|cluster| cluster.pods.values());
    pods.filter(|pod| is_touched(pod)).flat_map(|pod| pod.addresses.iter().copied()).collect()
}

fn differing<'a, K: Ord, V: PartialEq>(before: &'a BTreeMap<K, V>, after: &'a BTreeMap<K, V>) -> BTreeSet<&'a K> {
    before.keys().chain(after.keys()).filter(|key| before.get(key) != after.get(key)).collect()
}

fn is_subject(policy: &Policy, pod: &Pod) -> bool {
    policy.key.namespace == pod.key.namespace && policy.subjects.matches(&pod.labels)
}

/// Where policies of a pod cut the ports, before or after: of what leaves it, and of what enters it.
fn cuts(clusters: [&Cluster; 2], pod: &Pod) -> [Cuts; 2] {
    let [mut leaving, mut entering] = [Cuts::default(), Cuts::default()];
    for cluster in clusters {
        let Some(pod) = cluster.pods.get(&pod.key) else { continue };
        for policy in cluster.policies.values().filter(|policy| is_subject(policy, pod)) {
            leaving.add_rules(policy.egress.as_deref().unwrap_or_default());
            entering.add_rules(policy.ingress.as_deref().unwrap_or_default());
        }
    }
    [leaving, entering]
}

fn pair([before, after]: [&Cluster; 2], from: &Pod, to: &Pod, all: Vec<Ports>) -> Option<Pair> {
    let is_there = before.pods.contains_key(&from.key) && before.pods.contains_key(&to.key);
    let turn = |packet: &Packet| {
        let then = verdict(after, packet);
        let turn = Turn {
            before: if is_there { State::of(&verdict(before, packet)) } else { State::Absent },
            after: State::of(&then),
            because: because(&then),
        };
        (turn.before != turn.after).then_some(turn)
    };
    let mut families: Vec<(IpFamily, BTreeMap<Turn, Vec<Ports>>)> = Vec::new();
    for family in IpFamily::ALL {
        let address = |pod: &Pod| pod.addresses.iter().copied().find(|address| IpFamily::of(*address) == family);
        let (Some(source), Some(destination)) = (address(from), address(to)) else { continue };
        let mut turns: BTreeMap<Turn, Vec<Ports>> = BTreeMap::new();
        for ports in &all {
            if let Some(turn) = turn(&Packet { source, destination, transport: ports.transport() }) {
                turns.entry(turn).or_default().push(*ports);
            }
        }
        families.push((family, turns));
    }
    let same = families.windows(2).all(|two| two[0].1 == two[1].1);
    families.truncate(if same { 1 } else { families.len() });
    let changes: Vec<PairChange> = families
        .into_iter()
        .flat_map(|(family, turns)| {
            let family = (!same).then_some(family);
            turns.into_iter().map(move |(turn, ports)| PairChange { family, ports, turn })
        })
        .collect();
    (!changes.is_empty()).then(|| Pair { from: from.key.clone(), to: to.key.clone(), all, changes })
}

impl State {
    fn of(verdict: &Verdict) -> Self {
        if verdict.is_allowed() { Self::Allowed } else { Self::Denied }
    }
}
