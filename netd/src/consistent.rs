//! What an attach waits for or reads so that the pod's policy is final (datapath, "When is a policy final for a new pod?"). Where the
//! API server tells its watches at once how far they have come, they are waited for. Elsewhere the Pod, its Namespace and the namespace's
//! policies are read straight from the API server.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use minipod_model::PodKey;
use minipod_protocol::netd::{Code, Error, PodRef};
use netd_policy::Cluster;

use crate::policy_document::PolicyDocument;
use crate::watch::{Object, Progress, Watched, revision};

/// Namespace of containers that no API object describes.
pub(crate) const NAMESPACE_OF_CONTAINERS: &str = "default";
/// How long an attach waits for the watches. They are a few milliseconds behind.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was read; nothing where the watches have told everything.
#[derive(Debug, Default)]
pub struct Fresh {
    /// the Pod, if there is one, and its Namespace
    pub objects: Vec<Object>,
    /// the policies of the namespace
    pub policies: Option<Policies>,
}

/// All policies of a namespace.
#[derive(Debug)]
pub struct Policies {
    /// the namespace
    pub namespace: String,
    /// the resource version of the list
    pub version: u64,
    /// the policies
    pub all: Vec<Object>,
}

/// Where an attach reads from.
#[derive(Clone)]
pub struct Source {
    /// the API server
    pub client: Client,
    /// how far its watches have come; `None` where it does not tell them at once
    pub progress: Option<Progress>,
}

impl Source {
    /// Reads what concerns the pod, or a container that is no pod. Where the API server tells its watches at once how far they have
    /// come, they have told everything that had been acknowledged when this was called once it returns.
    ///
    /// # Errors
    /// [`Code::TryAgainLater`] when the API server does not answer, and when a watch does not come as far.
    pub async fn read(&self, pod: Option<&PodRef>) -> Result<Fresh, Error> {
        let namespace = pod.map_or(NAMESPACE_OF_CONTAINERS, |pod| &pod.namespace);
        let unreachable = |error: kube::Error| Error {
            code: Code::TryAgainLater,
            message: format!("cannot read {} from the API server", name_of(pod)),
            details: vec![error.to_string()],
        };
        let Some(progress) = &self.progress else {
            return self.objects(pod, namespace).await.map_err(unreachable);
        };
        let revision = self.revision(namespace).await.map_err(unreachable)?;
        progress.reaches(revision, PATIENCE).await.map_err(|behind| Error {
            code: Code::TryAgainLater,
            message: format!("cannot attach {}: {behind}; try again", name_of(pod)),
            details: Vec::new(),
        })?;
        Ok(Fresh::default())
    }

    async fn objects(&self, pod: Option<&PodRef>, name: &str) -> kube::Result<Fresh> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let policies: Api<PolicyDocument> = Api::namespaced(self.client.clone(), name);
        let get_pod = async {
            match pod {
                Some(pod) => Api::<Pod>::namespaced(self.client.clone(), &pod.namespace).get_opt(&pod.name).await,
                None => Ok(None),
            }
        };
        // Without a resource version a read is the newest there is ("most recent" in the API's terms).
        let everything = ListParams::default();
        let (pod, namespace, policies) =
            tokio::try_join!(get_pod, namespaces.get_opt(name), policies.list(&everything))?;
        let (pod, namespace) = (pod.map(|pod| pod.report(false)), namespace.map(|namespace| namespace.report(false)));
        let policies = Policies {
            namespace: name.to_owned(),
            version: policies.metadata.resource_version.as_deref().map_or(0, revision),
            all: policies.items.iter().map(|policy| policy.report(false)).collect(),
        };
        Ok(Fresh { objects: pod.into_iter().chain(namespace).collect(), policies: Some(policies) })
    }

    /// The newest revision of the store. That of the shortest list there is: any will do.
    async fn revision(&self, namespace: &str) -> kube::Result<u64> {
        let this_one = ListParams::default().fields(&format!("metadata.name={namespace}"));
        let list = Api::<Namespace>::all(self.client.clone()).list(&this_one).await?;
        Ok(list.metadata.resource_version.as_deref().map_or(0, revision))
    }
}

fn name_of(pod: Option<&PodRef>) -> String {
    match pod {
        Some(pod) => format!("pod `{}/{}`", pod.namespace, pod.name),
        None => format!("a container of namespace `{NAMESPACE_OF_CONTAINERS}`"),
    }
}

/// Whether what the caller attaches is in the cluster as it is known after the read.
///
/// # Errors
/// [`Code::TryAgainLater`] when it is not, or a pod with another UID: the caller's pod may have been created a moment ago.
pub(crate) fn check(pod: Option<&PodRef>, cluster: &Cluster) -> Result<(), Error> {
    if let Some(pod) = pod {
        let known = cluster.pods.get(&PodKey::new(&pod.namespace, &pod.name));
        let known = known.ok_or_else(|| unknown(Some(pod), "the API server does not know it"))?;
        // Static pods carry the UID that their runtime knows in an annotation.
        let is_same = |expected: &String| *expected == known.uid || Some(expected) == known.static_uid.as_ref();
        if let Some(expected) = pod.uid.as_ref().filter(|expected| !is_same(expected)) {
            return Err(unknown(Some(pod), &format!("the pod of that name has another UID than `{expected}`")));
        }
    }
    let namespace = pod.map_or(NAMESPACE_OF_CONTAINERS, |pod| &pod.namespace);
    if cluster.namespaces.contains_key(namespace) {
        return Ok(());
    }
    Err(unknown(pod, "its namespace is not there"))
}

fn unknown(pod: Option<&PodRef>, problem: &str) -> Error {
    Error {
        code: Code::TryAgainLater,
        message: format!("cannot attach {}: {problem}; try again when it has been created", name_of(pod)),
        details: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use minipod_model::{Labels, PodKey};
    use minipod_protocol::netd::PodRef;
    use netd_policy::object::{Namespace, Pod};
    use netd_policy::{Change, Index, Options};

    use super::check;

    /// Namespace `default` with pod `web` of UID `1`, which its runtime knows as `s`.
    fn cluster() -> Index {
        let mut index = Index::new(Options::new("n1"));
        index.apply(Change::Namespace(Namespace { name: "default".into(), labels: Labels::new() }));
        index.apply(Change::Pod(Pod {
            key: PodKey::new("default", "web"),
            uid: "1".into(),
            static_uid: Some("s".into()),
            labels: Labels::new(),
            node: Some("n1".into()),
            host_network: false,
            finished: false,
            addresses: Vec::new(),
            ports: Vec::new(),
        }));
        index
    }

    fn verdict(index: &Index, pod: Option<(&str, &str, Option<&str>)>) -> Result<(), String> {
        let pod = pod.map(|(namespace, name, uid)| PodRef {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.map(str::to_owned),
        });
        check(pod.as_ref(), index.cluster()).map_err(|error| error.message)
    }

    #[test]
    fn only_a_pod_that_is_known_and_the_one_that_is_meant_is_attached() {
        let index = cluster();
        for uid in [None, Some("1"), Some("s")] {
            assert_eq!(verdict(&index, Some(("default", "web", uid))), Ok(()));
        }
        let other = "cannot attach pod `default/web`: the pod of that name has another UID than `2`; try again when it has been created";
        assert_eq!(verdict(&index, Some(("default", "web", Some("2")))), Err(other.to_owned()));
        let unknown =
            "cannot attach pod `default/db`: the API server does not know it; try again when it has been created";
        assert_eq!(verdict(&index, Some(("default", "db", None))), Err(unknown.to_owned()));
    }

    #[test]
    fn without_its_namespace_nothing_is_attached() {
        let mut index = cluster();
        assert_eq!(verdict(&index, None), Ok(()));
        index.apply(Change::NamespaceRemoved("default".into()));
        let problem = "its namespace is not there; try again when it has been created";
        let container = format!("cannot attach a container of namespace `default`: {problem}");
        assert_eq!(verdict(&index, None), Err(container));
        assert_eq!(
            verdict(&index, Some(("default", "web", None))),
            Err(format!("cannot attach pod `default/web`: {problem}"))
        );
    }
}
