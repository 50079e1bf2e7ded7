//! Which policies select which pods of this node, and the signature that follows. A pod looks only at policies that can select it, a policy
//! only at pods of its namespace, and pods that the same policies select share what is compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minipod_model::{Labels, Selector};

use super::anchors::Anchors;
use super::describe::{Subject, SubjectKey};
use crate::cluster::Cluster;
use crate::compile::{self, Compiled, PeerScope};
use crate::intent::{GroupId, PairsId, Signature, SignatureId};
use crate::object::{ObjectKey, Policy, port_number};

/// All that a signature follows from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// no labels are known
    Sealed,
    /// the policies that select a pod, each as it was at one time, and the pod's numbers for the names that their ingress rules use
    Policies(Vec<(ObjectKey, u64)>, Vec<Option<u16>>),
}

/// A cause that some pods have.
#[derive(Debug, Clone)]
struct Known {
    id: SignatureId,
    users: usize,
    groups: Vec<GroupId>,
    pairs: Vec<PairsId>,
}

/// A subject as it was seen last.
#[derive(Debug, Clone)]
struct Held {
    namespace: String,
    cause: Arc<Cause>,
    id: SignatureId,
}

impl Held {
    fn has_policy(&self, key: &ObjectKey) -> bool {
        match &*self.cause {
            Cause::Sealed => false,
            Cause::Policies(policies, _) => policies.binary_search_by(|(policy, _)| policy.cmp(key)).is_ok(),
        }
    }
}

/// What changes for whoever keeps signatures and peers: everything that is new comes before anything goes.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// compiled anew; their groups and pairs have one user more each
    pub(super) compiled: Vec<Compiled>,
    /// groups and pairs that have one user less
    pub(super) groups: Vec<GroupId>,
    pub(super) pairs: Vec<PairsId>,
    /// signatures that are new
    pub(super) made: BTreeMap<SignatureId, Arc<Signature>>,
    /// signatures that nobody has any more
    pub(super) gone: BTreeSet<SignatureId>,
}

/// All subjects and the policies that may select them.
#[derive(Debug, Clone, Default)]
pub(super) struct Signatures {
    subjects: BTreeMap<SubjectKey, Held>,
    by_namespace: BTreeMap<String, BTreeSet<SubjectKey>>,
    /// policies as they are filed, with a number that no other state of the policy has
    policies: BTreeMap<ObjectKey, (Selector, u64)>,
    anchors: Anchors<ObjectKey>,
    changes: u64,
    causes: BTreeMap<Arc<Cause>, Known>,
    /// how many causes lead to a signature
    counts: BTreeMap<SignatureId, usize>,
}

impl Signatures {
    /// The signature of a subject.
    pub(super) fn of(&self, key: &SubjectKey) -> Option<&SignatureId> {
        self.subjects.get(key).map(|held| &held.id)
    }

    /// Files a policy as it is now.
    pub(super) fn file(&mut self, key: &ObjectKey, policy: Option<&Policy>) {
        let scope = PeerScope::Named(key.namespace.clone());
        if let Some((selector, _)) = self.policies.remove(key) {
            self.anchors.remove(&scope, &selector, key);
        }
        if let Some(policy) = policy {
            self.changes += 1;
            self.anchors.file(&scope, &policy.subjects, key);
            self.policies.insert(key.clone(), (policy.subjects.clone(), self.changes));
        }
    }

    /// Subjects that a policy selected when they were looked at last.
    pub(super) fn selected_by(&self, key: &ObjectKey) -> impl Iterator<Item = &SubjectKey> {
        self.in_namespace(&key.namespace).filter(|subject| self.subjects[*subject].has_policy(key))
    }

    /// Subjects of a namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &SubjectKey> {
        self.by_namespace.get(namespace).into_iter().flatten()
    }

    /// Looks at a subject anew; `None`: it is none any more.
    pub(super) fn look(
        &mut self,
        cluster: &Cluster,
        key: &SubjectKey,
        now: Option<&Subject<'_>>,
        difference: &mut Difference,
    ) {
        let before = self.subjects.remove(key);
        if let Some(subject) = now {
            let held = self.hold(cluster, subject, difference);
            self.by_namespace.entry(held.namespace.clone()).or_default().insert(key.clone());
            self.subjects.insert(key.clone(), held);
        }
        let Some(before) = before else { return };
        if now.is_none_or(|subject| subject.namespace != before.namespace)
            && let Some(keys) = self.by_namespace.get_mut(&before.namespace)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_namespace.remove(&before.namespace);
            }
        }
        self.release(&before.cause, difference);
    }

    fn hold(&mut self, cluster: &Cluster, subject: &Subject<'_>, difference: &mut Difference) -> Held {
        let selecting = subject.labels.map(|labels| self.selecting(cluster, subject.namespace, labels));
        let cause = Arc::new(match &selecting {
            None => Cause::Sealed,
            Some(selecting) => self.cause(subject, selecting),
        });
        let id = if let Some(known) = self.causes.get_mut(&cause) {
            known.users += 1;
            known.id.clone()
        } else {
            let compiled = match &selecting {
                None => compile::sealed(),
                Some(selecting) => compile::signature(subject.namespace, subject.ports, selecting),
            };
            self.keep(&cause, compiled, difference)
        };
        Held { namespace: subject.namespace.to_owned(), cause, id }
    }

    fn selecting<'a>(&self, cluster: &'a Cluster, namespace: &str, labels: &Labels) -> Vec<&'a Policy> {
        let candidates = self.anchors.find(namespace, &Labels::new(), labels).into_iter();
        let policies = candidates.filter_map(|key| cluster.policies.get(&key));
        policies.filter(|policy| policy.subjects.matches(labels)).collect()
    }

    fn cause(&self, subject: &Subject<'_>, selecting: &[&Policy]) -> Cause {
        let names = selecting.iter().flat_map(|policy| policy.ingress.iter().flatten()).flat_map(compile::named_ports);
        let numbers = names.map(|(name, protocol)| port_number(subject.ports, name, protocol)).collect();
        let state = |policy: &&Policy| self.policies.get(&policy.key).map_or(0, |(_, state)| *state);
        Cause::Policies(selecting.iter().map(|policy| (policy.key.clone(), state(policy))).collect(), numbers)
    }

    fn keep(&mut self, cause: &Arc<Cause>, compiled: Compiled, difference: &mut Difference) -> SignatureId {
        let id = compiled.id.clone();
        let known = Known {
            id: id.clone(),
            users: 1,
            groups: compiled.groups.keys().cloned().collect(),
            pairs: compiled.pairs.keys().cloned().collect(),
        };
        self.causes.insert(Arc::clone(cause), known);
        let count = self.counts.entry(id.clone()).or_default();
        *count += 1;
        if *count == 1 && !difference.gone.remove(&id) {
            difference.made.insert(id.clone(), Arc::new(compiled.signature.clone()));
        }
        difference.compiled.push(compiled);
        id
    }

    fn release(&mut self, cause: &Arc<Cause>, difference: &mut Difference) {
        let Some(known) = self.causes.get_mut(cause) else { return };
        known.users -= 1;
        if known.users > 0 {
            return;
        }
        let Some(known) = self.causes.remove(cause) else { return };
        difference.groups.extend(known.groups);
        difference.pairs.extend(known.pairs);
        let Some(count) = self.counts.get_mut(&known.id) else { return };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&known.id);
            if difference.made.remove(&known.id).is_none() {
                difference.gone.insert(known.id);
            }
        }
    }
}
