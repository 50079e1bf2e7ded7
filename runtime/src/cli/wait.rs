//! Waiting for an object to come to a state, with a deadline.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::wait::{Condition, await_condition};

/// The time is up; whoever waited knows what for.
#[derive(Debug, thiserror::Error)]
#[error("timed out waiting for the condition after {}s", .0.as_secs())]
pub(crate) struct TimedOut(Duration);

/// Waits until the pod meets `condition`; `None` is a pod that has gone.
///
/// # Errors
/// [`TimedOut`], or what the server said.
pub(crate) async fn pod(
    api: &Api<Pod>,
    name: &str,
    deadline: Option<Duration>,
    condition: impl Condition<Pod>,
) -> anyhow::Result<Option<Pod>> {
    let waiting = await_condition(api.clone(), name, condition);
    let pod = match deadline {
        None => waiting.await,
        Some(deadline) => tokio::time::timeout(deadline, waiting).await.map_err(|_| TimedOut(deadline))?,
    };
    Ok(pod?)
}

/// Waits until the object has gone, or another one has its name.
///
/// # Errors
/// The deadline, or the server.
pub(crate) async fn gone(
    api: Api<DynamicObject>,
    name: &str,
    uid: Option<String>,
    deadline: Option<Duration>,
) -> anyhow::Result<()> {
    let condition = move |object: Option<&DynamicObject>| object.is_none_or(|object| object.metadata.uid != uid);
    until(api, name, name, deadline, condition).await
}

/// Waits until the object meets `condition`; `what` is said when the time is up.
///
/// # Errors
/// The deadline, or the server.
pub(crate) async fn until(
    api: Api<DynamicObject>,
    what: &str,
    name: &str,
    deadline: Option<Duration>,
    condition: impl Condition<DynamicObject>,
) -> anyhow::Result<()> {
    let waiting = await_condition(api, name, condition);
    match deadline {
        None => waiting.await?,
        Some(deadline) => tokio::time::timeout(deadline, waiting)
            .await
            .map_err(|_| anyhow::anyhow!("timed out waiting for the condition on {what}"))??,
    };
    Ok(())
}
