//! Since when each policy is in force as it is now, and how long that took. Pure but for the clock that the caller reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use minipod_protocol::netd::PolicyState;
use netd_policy::Change;
use netd_policy::object::ObjectKey;

use super::Engine;
use crate::versions::Kind;
use crate::watch::{News, Object};

/// One policy's way into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// its resource version
    pub(super) version: u64,
    /// from when it was accepted to when it was in force; `None`: it is not yet
    pub(super) took: Option<Duration>,
}

/// A version that is not in force yet, and when it was accepted.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    version: u64,
    since: Instant,
}

/// All policies that are known.
#[derive(Debug, Default)]
pub(super) struct Policies {
    waiting: BTreeMap<ObjectKey, Waiting>,
    in_force: BTreeMap<ObjectKey, (u64, Duration)>,
}

impl Policies {
    /// Takes note of what a watch delivered: `heard` is as close to the moment of acceptance as netd gets.
    pub(super) fn note(&mut self, news: &News, heard: Instant) {
        match news {
            News::List { kind: Kind::NetworkPolicy, policies, .. } => {
                let there: BTreeSet<&ObjectKey> = policies.iter().map(|(key, _)| key).collect();
                self.waiting.retain(|key, _| there.contains(key));
                self.in_force.retain(|key, _| there.contains(key));
                for (key, version) in policies {
                    self.accepted(key.clone(), *version, heard);
                }
            }
            News::Object(Object { kind: Kind::NetworkPolicy, change: Change::PolicyRemoved(key), .. }) => {
                self.removed(key);
            }
            News::Object(Object { kind: Kind::NetworkPolicy, key, version, .. }) => {
                self.accepted(key.clone(), *version, heard);
            }
            News::List { .. } | News::Object(_) => {}
        }
    }

    /// A policy was made or changed: accepted at `since`.
    fn accepted(&mut self, key: ObjectKey, version: u64, since: Instant) {
        let is_known = |known: u64| known >= version;
        let is_old = self.waiting.get(&key).is_some_and(|waiting| is_known(waiting.version))
            || self.in_force.get(&key).is_some_and(|(known, _)| is_known(*known));
        if !is_old {
            self.waiting.insert(key, Waiting { version, since });
        }
    }

    /// A policy is gone.
    fn removed(&mut self, key: &ObjectKey) {
        self.waiting.remove(key);
        self.in_force.remove(key);
    }

    /// Everything that was accepted is in force.
    pub(super) fn enforced(&mut self, now: Instant) {
        for (key, Waiting { version, since }) in std::mem::take(&mut self.waiting) {
            self.in_force.insert(key, (version, now.saturating_duration_since(since)));
        }
    }

    /// Of one policy.
    pub(super) fn of(&self, key: &ObjectKey) -> Option<Progress> {
        let waiting = self.waiting.get(key).map(|waiting| Progress { version: waiting.version, took: None });
        let in_force =
            || self.in_force.get(key).map(|(version, took)| Progress { version: *version, took: Some(*took) });
        waiting.or_else(in_force)
    }
}

impl Engine {
    /// Every policy that is known: whether it is in force as it is now, how long that took, and what of it was not understood.
    pub(super) fn policy_states(&self) -> Vec<PolicyState> {
        let known = self.objects.index().cluster().policies.values();
        let state = known.map(|policy| {
            let progress = self.policies.of(&policy.key);
            PolicyState {
                namespace: policy.key.namespace.clone(),
                name: policy.key.name.clone(),
                version: progress.map_or(0, |progress| progress.version),
                milliseconds: progress.and_then(|progress| progress.took).map(|took| took.as_secs_f64() * 1000.0),
                problems: policy.problems.iter().map(ToString::to_string).collect(),
            }
        });
        state.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use netd_policy::object::ObjectKey;

    use super::{Policies, Progress};

    #[test]
    fn a_policy_is_in_force_with_the_next_success_and_its_time_counts_from_its_acceptance() {
        let (mut policies, key, begin) = (Policies::default(), ObjectKey::new("default", "a"), Instant::now());
        let after = |ms| begin + Duration::from_millis(ms);
        policies.accepted(key.clone(), 7, begin);
        assert_eq!(policies.of(&key), Some(Progress { version: 7, took: None }));
        policies.enforced(after(20));
        let in_force = Progress { version: 7, took: Some(Duration::from_millis(20)) };
        assert_eq!(policies.of(&key), Some(in_force));
        policies.accepted(key.clone(), 7, after(30));
        assert_eq!(policies.of(&key), Some(in_force), "told again, it is the same");
        policies.accepted(key.clone(), 9, after(30));
        assert_eq!(policies.of(&key), Some(Progress { version: 9, took: None }));
        policies.removed(&key);
        policies.enforced(after(40));
        assert_eq!(policies.of(&key), None);
    }
}
