//! `image rm`. An image that a pod runs from keeps its last name.

use std::collections::BTreeSet;
use std::fs;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use minipod_image::{Digest, Images};

use super::super::client::ConnectError;
use super::super::context::Context;
use super::super::{failure, out};

pub(super) async fn run(context: &Context, images: &Images, names: &[String]) -> anyhow::Result<()> {
    let in_use = in_use(context).await?;
    let mut errors = Vec::new();
    for name in names {
        match images.remove(name, &in_use) {
            Ok(removed) => {
                let untagged = removed.names.iter().map(|name| format!("untagged {name}\n"));
                let deleted = removed.image.iter().map(|id| format!("deleted {id}\n"));
                out::print(&untagged.chain(deleted).collect::<Vec<_>>().concat())?;
            }
            Err(error) => errors.push(error.into()),
        }
    }
    failure::all(errors)
}

/// The images that pods run from. Only the daemon knows them; pods outlive it, so that without it there must be none.
async fn in_use(context: &Context) -> anyhow::Result<BTreeSet<Digest>> {
    match context.client().await {
        Ok(client) => {
            let pods = Api::<Pod>::all(client).list(&ListParams::default()).await?;
            Ok(pods.items.iter().flat_map(image_ids).collect())
        }
        Err(error @ ConnectError::NoDaemon { .. }) => {
            let pods = fs::read_dir(context.directories.pods()).map_or(0, Iterator::count);
            anyhow::ensure!(pods == 0, "{pods} pods run without their daemon, and only it knows their images: {error}");
            Ok(BTreeSet::new())
        }
        Err(error) => Err(error.into()),
    }
}

/// `imageID` of all containers, as far as they are IDs of this store.
fn image_ids(pod: &Pod) -> Vec<Digest> {
    let status = pod.status.iter();
    let all =
        status.flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()));
    all.filter_map(|container| container.image_id.rsplit("//").next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use minipod_image::Digest;
    use serde_json::json;

    use super::image_ids;

    #[test]
    fn images_of_init_containers_are_in_use_too() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let container = |id: String| json!({"name": "a", "ready": true, "restartCount": 0, "image": "", "imageID": id});
        let pod = serde_json::from_value(json!({"status": {
            "containerStatuses": [container(a.to_string()), container(String::new())],
            "initContainerStatuses": [container(format!("minipod://{b}"))],
        }}))
        .expect("a pod");
        assert_eq!(image_ids(&pod), [a, b]);
    }
}
