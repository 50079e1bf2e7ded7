//! What an attach reads so that the pod's policy is final (datapath, "When is a policy final for a new pod?"): the Pod, its
//! Namespace and the namespace's policies, straight from the API server, at the same time.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use minipod_protocol::netd::{Code, Error, PodRef};

use crate::policy_document::PolicyDocument;
use crate::watch::{Object, Watched};

/// What was read.
#[derive(Debug)]
pub struct Fresh {
    /// the Pod and its Namespace
    pub objects: Vec<Object>,
    /// all policies of the namespace
    pub policies: Vec<Object>,
    /// the namespace of the policies
    pub namespace: String,
    /// the resource version of the list of policies
    pub policies_version: u64,
}

/// Reads what concerns the pod.
///
/// # Errors
/// [`Code::TryAgainLater`] when the API server does not answer, does not know the pod, or knows another of that name: the
/// caller's pod may have been created a moment ago.
pub async fn read(client: &Client, pod: &PodRef) -> Result<Fresh, Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let policies: Api<PolicyDocument> = Api::namespaced(client.clone(), &pod.namespace);
    // Without a resource version a read is the newest there is ("most recent" in the API's terms).
    let everything = ListParams::default();
    let (found, namespace, list) =
        tokio::join!(pods.get_opt(&pod.name), namespaces.get_opt(&pod.namespace), policies.list(&everything));
    let unreachable = |error: kube::Error| Error {
        code: Code::TryAgainLater,
        message: format!("cannot read pod `{}/{}` from the API server", pod.namespace, pod.name),
        details: vec![error.to_string()],
    };
    let found = found.map_err(unreachable)?.ok_or_else(|| unknown(pod, "the API server does not know it"))?;
    check_uid(pod, &found)?;
    let namespace = namespace.map_err(unreachable)?.ok_or_else(|| unknown(pod, "its namespace is not there"))?;
    let list = list.map_err(unreachable)?;
    let version = list.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(Fresh {
        objects: vec![found.report(false), namespace.report(false)],
        policies: list.items.iter().map(|policy| policy.report(false)).collect(),
        namespace: pod.namespace.clone(),
        policies_version: version,
    })
}

/// Static pods carry the UID that their runtime knows in an annotation.
fn check_uid(pod: &PodRef, found: &Pod) -> Result<(), Error> {
    let Some(expected) = &pod.uid else {
        return Ok(());
    };
    let static_uid = found.metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/config.hash"));
    if found.metadata.uid.as_ref() == Some(expected) || static_uid == Some(expected) {
        return Ok(());
    }
    Err(unknown(pod, &format!("the pod of that name has another UID than `{expected}`")))
}

fn unknown(pod: &PodRef, problem: &str) -> Error {
    Error {
        code: Code::TryAgainLater,
        message: format!(
            "cannot attach pod `{}/{}`: {problem}; try again when it has been created",
            pod.namespace, pod.name
        ),
        details: Vec::new(),
    }
}
