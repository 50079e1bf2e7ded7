//! What an attach waits for and reads so that the pod's policy is final (datapath, "When is a policy final for a new pod?"): the
//! Pod and its Namespace, straight from the API server. Where that tells its watches at once how far they have come, they are waited
//! for; elsewhere the namespace's policies are read, too.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::ListParams;
use kube::{Api, Client};
use minipod_protocol::netd::{Code, Error, PodRef};

use crate::policy_document::PolicyDocument;
use crate::watch::{Object, Progress, Watched, revision};

/// Namespace of containers that no API object describes.
pub(crate) const NAMESPACE_OF_CONTAINERS: &str = "default";
/// How long an attach waits for the watches. They are a few milliseconds behind.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was read.
#[derive(Debug)]
pub struct Fresh {
    /// the Pod, if there is one, and its Namespace
    pub objects: Vec<Object>,
    /// the policies of the namespace; `None`: the watches have told them
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

/// The newest there is.
struct Newest {
    pod: Option<Pod>,
    namespace: Option<Namespace>,
    policies: Option<Vec<PolicyDocument>>,
    /// of the store, no older than what else is here
    revision: u64,
}

impl Source {
    /// Reads what concerns the pod, or a container that is no pod. Where the API server tells its watches at once how far they have
    /// come, they have told everything that had been acknowledged when this was called once it returns.
    ///
    /// # Errors
    /// [`Code::TryAgainLater`] when the API server does not answer, does not know the pod, or knows another of that name: the
    /// caller's pod may have been created a moment ago; and when a watch does not come as far.
    pub async fn read(&self, pod: Option<&PodRef>) -> Result<Fresh, Error> {
        let name = pod.map_or(NAMESPACE_OF_CONTAINERS, |pod| &pod.namespace);
        let newest = match self.progress {
            Some(_) => self.without_policies(pod, name).await,
            None => self.with_policies(pod, name).await,
        };
        let Newest { pod: found, namespace, policies, revision } = newest.map_err(|error| Error {
            code: Code::TryAgainLater,
            message: format!("cannot read {} from the API server", name_of(pod)),
            details: vec![error.to_string()],
        })?;
        if let Some(pod) = pod {
            check(pod, found.as_ref())?;
        }
        let namespace = namespace.ok_or_else(|| unknown(pod, "its namespace is not there"))?;
        if let Some(progress) = &self.progress {
            progress.reaches(revision, PATIENCE).await.map_err(|behind| Error {
                code: Code::TryAgainLater,
                message: format!("cannot attach {}: {behind}; try again", name_of(pod)),
                details: Vec::new(),
            })?;
        }
        let policies = policies.map(|all| Policies {
            namespace: name.to_owned(),
            version: revision,
            all: all.iter().map(|policy| policy.report(false)).collect(),
        });
        Ok(Fresh {
            objects: found.iter().map(|pod| pod.report(false)).chain([namespace.report(false)]).collect(),
            policies,
        })
    }

    /// For an API server whose watches may be far behind.
    async fn with_policies(&self, pod: Option<&PodRef>, namespace: &str) -> kube::Result<Newest> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let policies: Api<PolicyDocument> = Api::namespaced(self.client.clone(), namespace);
        // Without a resource version a read is the newest there is ("most recent" in the API's terms).
        let everything = ListParams::default();
        let (pod, namespace, list) =
            tokio::try_join!(self.pod(pod), namespaces.get_opt(namespace), policies.list(&everything))?;
        Ok(Newest { pod, namespace, revision: revision_of(&list.metadata), policies: Some(list.items) })
    }

    /// For one whose watches tell the policies in a moment: to read those takes the longer the more there are. The revision is that of
    /// a list of one namespace.
    async fn without_policies(&self, pod: Option<&PodRef>, namespace: &str) -> kube::Result<Newest> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let this_one = ListParams::default().fields(&format!("metadata.name={namespace}"));
        let (pod, list) = tokio::try_join!(self.pod(pod), namespaces.list(&this_one))?;
        Ok(Newest {
            pod,
            revision: revision_of(&list.metadata),
            namespace: list.items.into_iter().next(),
            policies: None,
        })
    }

    async fn pod(&self, pod: Option<&PodRef>) -> kube::Result<Option<Pod>> {
        match pod {
            Some(pod) => Api::<Pod>::namespaced(self.client.clone(), &pod.namespace).get_opt(&pod.name).await,
            None => Ok(None),
        }
    }
}

fn revision_of(list: &ListMeta) -> u64 {
    list.resource_version.as_deref().map_or(0, revision)
}

fn name_of(pod: Option<&PodRef>) -> String {
    match pod {
        Some(pod) => format!("pod `{}/{}`", pod.namespace, pod.name),
        None => format!("a container of namespace `{NAMESPACE_OF_CONTAINERS}`"),
    }
}

/// Static pods carry the UID that their runtime knows in an annotation.
fn check(pod: &PodRef, found: Option<&Pod>) -> Result<(), Error> {
    let found = found.ok_or_else(|| unknown(Some(pod), "the API server does not know it"))?;
    let Some(expected) = &pod.uid else {
        return Ok(());
    };
    let static_uid = found.metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/config.hash"));
    if found.metadata.uid.as_ref() == Some(expected) || static_uid == Some(expected) {
        return Ok(());
    }
    Err(unknown(Some(pod), &format!("the pod of that name has another UID than `{expected}`")))
}

fn unknown(pod: Option<&PodRef>, problem: &str) -> Error {
    Error {
        code: Code::TryAgainLater,
        message: format!("cannot attach {}: {problem}; try again when it has been created", name_of(pod)),
        details: Vec::new(),
    }
}
