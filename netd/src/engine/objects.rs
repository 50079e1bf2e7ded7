//! What the engine knows of the cluster: the index, and how news from watches and reads enter it in the right order. Pure.

use netd_policy::intent::Intent;
use netd_policy::{Change, Index, Options};

use crate::consistent::{Fresh, Policies};
use crate::versions::{Kind, Versions};
use crate::watch::{News, Object};

/// The cluster as this node sees it.
#[derive(Debug)]
pub(super) struct Objects {
    index: Index,
    versions: Versions,
}

impl Objects {
    /// Nothing is known yet.
    pub(super) fn new(options: Options) -> Self {
        Self { index: Index::new(options), versions: Versions::default() }
    }

    /// Takes note of what a watch delivers. Says whether anything is different now.
    pub(super) fn note(&mut self, news: News) -> bool {
        match news {
            News::List { kind, version, change, policies: _ } => {
                self.versions.list(kind, version);
                self.index.apply(change)
            }
            News::Object(Object { kind, key, version, change }) => {
                self.versions.admit_watched(kind, &key, version) && self.index.apply(change)
            }
        }
    }

    /// Takes note of what an attach read. Says whether anything is different now.
    pub(super) fn merge(&mut self, fresh: Fresh) -> bool {
        let mut changed = fresh.policies.as_ref().is_some_and(|policies| self.remove_gone_policies(policies));
        let policies = fresh.policies.into_iter().flat_map(|policies| policies.all);
        for Object { kind, key, version, change } in fresh.objects.into_iter().chain(policies) {
            if self.versions.admit_read(kind, &key, version) {
                changed |= self.index.apply(change);
            }
        }
        changed
    }

    /// Takes note of what this node did itself.
    pub(super) fn apply(&mut self, change: Change) -> bool {
        self.index.apply(change)
    }

    /// Whether every kind has been listed: before that, what is missing means nothing.
    pub(super) fn complete(&self) -> bool {
        self.versions.complete()
    }

    /// What this node must enforce.
    pub(super) fn intent(&mut self) -> Intent {
        self.index.intent()
    }

    /// The index.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Policies of the namespace that are no more, although their deletion has not come by the watch yet: what only they
    /// allowed must not outlive the attach.
    fn remove_gone_policies(&mut self, read: &Policies) -> bool {
        let gone: Vec<_> = self
            .index
            .cluster()
            .policies
            .keys()
            .filter(|key| key.namespace == read.namespace)
            .filter(|key| !read.all.iter().any(|policy| policy.key == **key))
            .filter(|key| self.versions.is_gone(Kind::NetworkPolicy, key, read.version))
            .cloned()
            .collect();
        let any = !gone.is_empty();
        for key in gone {
            self.index.apply(Change::PolicyRemoved(key));
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use netd_policy::{Change, Listed, Options};

    use super::Objects;
    use crate::consistent::{Fresh, Policies};
    use crate::policy_document::PolicyDocument;
    use crate::versions::Kind;
    use crate::watch::{News, Watched as _};

    fn policy(name: &str, version: u64) -> PolicyDocument {
        PolicyDocument::from(NetworkPolicy {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..NetworkPolicy::default()
        })
    }

    fn listed(policies: &[PolicyDocument], version: u64) -> Objects {
        let mut objects = Objects::new(Options::new("n1"));
        let change = Change::Listed(Listed::Policies(policies.iter().map(PolicyDocument::read).collect()));
        objects.note(News::List { kind: Kind::NetworkPolicy, version, change, policies: Vec::new() });
        objects
    }

    fn fresh(policies: &[PolicyDocument], version: u64) -> Fresh {
        let all = policies.iter().map(|policy| policy.report(false)).collect();
        Fresh { objects: Vec::new(), policies: Some(Policies { namespace: "default".into(), version, all }) }
    }

    fn names(objects: &Objects) -> Vec<&str> {
        objects.index().cluster().policies.keys().map(|key| key.name.as_str()).collect()
    }

    #[test]
    fn an_attach_sees_policies_that_the_watch_has_not_delivered() {
        let mut objects = listed(&[policy("a", 3)], 3);
        assert!(objects.merge(fresh(&[policy("a", 3), policy("b", 5)], 5)));
        assert_eq!(names(&objects), ["a", "b"]);
    }

    #[test]
    fn a_policy_that_was_deleted_a_moment_ago_is_gone_for_an_attach() {
        let mut objects = listed(&[policy("a", 3), policy("b", 4)], 4);
        assert!(objects.merge(fresh(&[policy("a", 3)], 6)));
        assert_eq!(names(&objects), ["a"]);
    }

    #[test]
    fn an_old_read_takes_nothing_back() {
        let mut objects = listed(&[policy("a", 3)], 3);
        assert!(objects.note(News::Object(policy("b", 7).report(false))));
        assert!(!objects.merge(fresh(&[policy("a", 3)], 6)), "the list was read before b was made");
        assert_eq!(names(&objects), ["a", "b"]);
        assert!(objects.note(News::Object(policy("a", 8).report(true))));
        assert!(!objects.merge(fresh(&[policy("a", 3)], 7)), "a was deleted after the list was read");
        assert_eq!(names(&objects), ["b"]);
    }
}
