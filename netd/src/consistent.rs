//! What an attach waits for and reads so that the pod's policy is final (datapath, "When is a policy final for a new pod?"): the
//! Pod, its Namespace and the namespace's policies, straight from the API server, at the same time; then, where the API server
//! tells its watches at once how far they have come, everything else that it had acknowledged by then.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
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
    /// all policies of the namespace
    pub policies: Vec<Object>,
    /// the namespace of the policies
    pub namespace: String,
    /// the resource version of the list of policies
    pub policies_version: u64,
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
    /// Reads what concerns the pod, or a container that is no pod. When it returns, the watches have told everything that had
    /// been acknowledged when it was called.
    ///
    /// # Errors
    /// [`Code::TryAgainLater`] when the API server does not answer, does not know the pod, or knows another of that name: the
    /// caller's pod may have been created a moment ago; and when a watch does not come as far.
    pub async fn read(&self, pod: Option<&PodRef>) -> Result<Fresh, Error> {
        let fresh = read(&self.client, pod).await?;
        if let Some(progress) = &self.progress {
            progress.reaches(fresh.policies_version, PATIENCE).await.map_err(|behind| Error {
                code: Code::TryAgainLater,
                message: format!("cannot attach {}: {behind}; try again", name_of(pod)),
                details: Vec::new(),
            })?;
        }
        Ok(fresh)
    }
}

async fn read(client: &Client, pod: Option<&PodRef>) -> Result<Fresh, Error> {
    let name = pod.map_or(NAMESPACE_OF_CONTAINERS, |pod| &pod.namespace);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let policies: Api<PolicyDocument> = Api::namespaced(client.clone(), name);
    let get_pod = async {
        match pod {
            Some(pod) => Api::<Pod>::namespaced(client.clone(), &pod.namespace).get_opt(&pod.name).await,
            None => Ok(None),
        }
    };
    // Without a resource version a read is the newest there is ("most recent" in the API's terms).
    let everything = ListParams::default();
    let (found, namespace, list) = tokio::join!(get_pod, namespaces.get_opt(name), policies.list(&everything));
    let unreachable = |error: kube::Error| Error {
        code: Code::TryAgainLater,
        message: format!("cannot read {} from the API server", name_of(pod)),
        details: vec![error.to_string()],
    };
    let found = found.map_err(unreachable)?;
    if let Some(pod) = pod {
        check(pod, found.as_ref())?;
    }
    let namespace = namespace.map_err(unreachable)?.ok_or_else(|| unknown(pod, "its namespace is not there"))?;
    let list = list.map_err(unreachable)?;
    Ok(Fresh {
        objects: found.iter().map(|pod| pod.report(false)).chain([namespace.report(false)]).collect(),
        policies: list.items.iter().map(|policy| policy.report(false)).collect(),
        namespace: name.to_owned(),
        policies_version: list.metadata.resource_version.as_deref().map_or(0, revision),
    })
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
