//! The end of a namespace: its pods go first, so that their policies stay as long as they run; then everything else; then the
//! namespace itself. What kinds there are is asked of the server.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client, Error};

/// The finalizer that Kubernetes puts on every namespace.
const FINALIZER: &str = "kubernetes";

/// How far a namespace has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// something is still there
    Waiting,
    /// nothing is left
    Finished,
}

/// Takes a namespace that is going one step further.
pub(crate) async fn advance(client: &Client, name: &str) -> Result<Progress, Error> {
    let kinds = namespaced_kinds(client).await?;
    let (pods, others): (Vec<_>, Vec<_>) =
        kinds.into_iter().partition(|kind| kind.group.is_empty() && kind.plural == "pods");
    for kinds in [pods, others] {
        let mut left = 0;
        for kind in &kinds {
            left += empty(client, name, kind).await?;
        }
        if left > 0 {
            return Ok(Progress::Waiting);
        }
    }
    finalize(client, name).await?;
    Ok(Progress::Finished)
}

async fn namespaced_kinds(client: &Client) -> Result<Vec<ApiResource>, Error> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let all = discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources);
    Ok(all
        .filter(|(_, capabilities)| {
            capabilities.scope == Scope::Namespaced
                && capabilities.supports_operation(verbs::LIST)
                && capabilities.supports_operation(verbs::DELETE_COLLECTION)
        })
        .map(|(kind, _)| kind)
        .collect())
}

/// Deletes all objects of a kind; answers how many were there.
async fn empty(client: &Client, namespace: &str, kind: &ApiResource) -> Result<usize, Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, kind);
    let objects = api.list(&ListParams::default()).await?.items;
    if objects.iter().any(|object| object.metadata.deletion_timestamp.is_none()) {
        api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        return Ok(api.list(&ListParams::default()).await?.items.len());
    }
    Ok(objects.len())
}

async fn finalize(client: &Client, name: &str) -> Result<(), Error> {
    let api: Api<Namespace> = Api::all(client.clone());
    let Some(mut namespace) = api.get_opt(name).await? else { return Ok(()) };
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    api.replace_subresource("finalize", name, &PostParams::default(), &namespace).await?;
    Ok(())
}
