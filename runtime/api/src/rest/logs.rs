//! `pods/log`: finds the container and passes its log on.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures::StreamExt as _;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::read;
use crate::kinds::Kind;
use crate::meta;
use crate::request::{Name, Params};
use crate::shared::Shared;
use crate::status::{ApiError, with_causes};
use crate::streams::{LogOptions, LogSource, PodStreams, StreamError, Target};

pub(super) async fn logs(shared: &Shared, kind: &Kind, name: &Name, params: &Params) -> Result<Response, ApiError> {
    let options = options(params, Timestamp::now())?;
    let target = target(shared, kind, name, params).await?;
    let stream = streams(shared)?.logs(target, options).await.map_err(refuse)?;
    let stopping = shared.stopping.clone();
    // A log that a stop cuts off must not look like one that has ended.
    let cut_off = stopping.clone();
    let cut_off = futures::stream::once(async move { cut_off.is_cancelled() })
        .filter_map(async |cut_off| cut_off.then(|| Err(io::Error::other("the node stops"))));
    let body = Body::from_stream(stream.take_until(stopping.cancelled_owned()).chain(cut_off));
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn options(params: &Params, now: Timestamp) -> Result<LogOptions, ApiError> {
    let seconds = params.number::<i64>("sinceSeconds")?;
    let time = params.get("sinceTime");
    let since = match (seconds, time) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request("only one of sinceTime or sinceSeconds may be specified"));
        }
        (Some(seconds), None) if seconds < 1 => {
            return Err(ApiError::bad_request("sinceSeconds: Invalid value: must be greater than 0"));
        }
        (Some(seconds), None) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, Some(time)) => Some(
            time.parse()
                .map_err(|error| ApiError::bad_request(format!("sinceTime: Invalid value: \"{time}\": {error}")))?,
        ),
    };
    let tail_lines = params.number("tailLines")?;
    let stream = stream(params.get("stream"))?;
    if stream.is_some() && tail_lines.is_some() {
        // The end of a log is looked for before its lines are told apart; Kubernetes refuses it too.
        return Err(ApiError::bad_request(
            "tailLines: Forbidden: `tailLines` and specific `stream` are mutually exclusive",
        ));
    }
    Ok(LogOptions {
        follow: params.flag("follow")?,
        previous: params.flag("previous")?,
        timestamps: params.flag("timestamps")?,
        since,
        tail_lines,
        limit_bytes: params.number("limitBytes")?,
        stream,
    })
}

/// `PodLogOptions.stream` (KEP 3288).
fn stream(wanted: Option<&str>) -> Result<Option<LogSource>, ApiError> {
    match wanted {
        None | Some("All") => Ok(None),
        Some("Stdout") => Ok(Some(LogSource::Stdout)),
        Some("Stderr") => Ok(Some(LogSource::Stderr)),
        Some(other) => Err(ApiError::bad_request(format!(
            "stream: Unsupported value: \"{other}\": supported values: \"All\", \"Stderr\", \"Stdout\""
        ))),
    }
}

pub(super) fn streams(shared: &Shared) -> Result<&Arc<dyn PodStreams>, ApiError> {
    shared.streams.get().ok_or_else(|| ApiError::unavailable("no pod agent runs on this node yet; try again"))
}

pub(super) fn refuse(error: StreamError) -> ApiError {
    match error {
        StreamError::BadRequest(message) => ApiError::bad_request(message),
        StreamError::NotFound(message) => ApiError::missing(message),
        StreamError::Internal { .. } => ApiError::internal(&with_causes(&error)),
    }
}

/// The container that a request is about.
pub(super) async fn target(shared: &Shared, kind: &Kind, name: &Name, params: &Params) -> Result<Target, ApiError> {
    let pod = read::get(shared, kind, name).await?;
    let container = container(&pod, &name.name, params.get("container"))?;
    if pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default().is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", name.name)));
    }
    Ok(Target {
        namespace: meta::text(&pod, "namespace").to_owned(),
        name: name.name.clone(),
        uid: meta::text(&pod, "uid").to_owned(),
        container,
    })
}

fn container(pod: &Value, pod_name: &str, wanted: Option<&str>) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<&str> {
        let containers = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        containers.into_iter().flatten().filter_map(|c| c["name"].as_str()).collect()
    };
    let (containers, init) = (names("containers"), names("initContainers"));
    match (wanted, containers.as_slice()) {
        (Some(wanted), all) if all.contains(&wanted) || init.contains(&wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {pod_name}"))),
        (None, [only]) => Ok((*only).to_owned()),
        (None, all) => {
            let mut message =
                format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", all.join(" "));
            if !init.is_empty() {
                // Writing to a `String` cannot fail.
                let _ = write!(message, " or one of the init containers: [{}]", init.join(" "));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{container, stream};
    use crate::streams::LogSource;

    #[test]
    fn one_of_the_outputs_can_be_asked_for() {
        let read = |wanted| stream(wanted).map_err(|error| error.to_string());
        assert_eq!(read(None), Ok(None));
        assert_eq!(read(Some("All")), Ok(None));
        assert_eq!(read(Some("Stdout")), Ok(Some(LogSource::Stdout)));
        assert_eq!(read(Some("Stderr")), Ok(Some(LogSource::Stderr)));
        let refused = "stream: Unsupported value: \"stderr\": supported values: \"All\", \"Stderr\", \"Stdout\"";
        assert_eq!(read(Some("stderr")), Err(refused.to_owned()));
    }

    #[test]
    fn the_only_container_is_meant_if_none_is_named() {
        let one = json!({"spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&one, "p", None).ok().as_deref(), Some("a"));
        assert_eq!(container(&one, "p", Some("i")).ok().as_deref(), Some("i"));
        let two = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        let refused = |wanted| container(&two, "p", wanted).map_err(|error| error.to_string());
        assert_eq!(
            refused(None),
            Err(
                "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
                    .to_owned()
            )
        );
        assert_eq!(refused(Some("c")), Err("container c is not valid for pod p".to_owned()));
    }
}
