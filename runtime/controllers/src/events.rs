//! The events that the controllers make, and which are too old to keep. Pure.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use minipod_model::PodKey;
use minipod_model::hash::short_hash;

use crate::facts::PodFacts;

/// Who places pods, as `spec.schedulerName` names it.
const SCHEDULER: &str = "default-scheduler";
/// How long an event is kept after it was seen last, as Kubernetes' `--event-ttl`.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Says why a pod has no node, in the name of Kubernetes' scheduler. The same news has the same name.
pub(crate) fn failed_scheduling(pod: &PodFacts, message: &str, now: Timestamp) -> Event {
    let (PodKey { namespace, name }, reason) = (&pod.key, "FailedScheduling");
    let hash = short_hash([pod.uid.as_str(), reason, message], 16);
    let time = Timestamp::from_second(now.as_second()).ok().map(Time);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{hash}")),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            uid: Some(pod.uid.clone()),
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        source: Some(EventSource { component: Some(SCHEDULER.to_owned()), host: None }),
        reporting_component: Some(SCHEDULER.to_owned()),
        count: Some(1),
        first_timestamp: time.clone(),
        last_timestamp: time,
        ..Event::default()
    }
}

/// Whether an event can go.
pub(crate) fn is_old(event: &Event, now: Timestamp) -> bool {
    let series = event.series.as_ref().and_then(|s| s.last_observed_time.as_ref()).map(|t| t.0);
    let last = event.last_timestamp.as_ref().map(|t| t.0);
    let at = event.event_time.as_ref().map(|t| t.0);
    let created = event.metadata.creation_timestamp.as_ref().map(|t| t.0);
    let seen = [series, last, at, created].into_iter().flatten().max();
    seen.is_some_and(|seen| now.duration_since(seen) > KEPT)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Event;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::json;

    use super::is_old;

    #[test]
    fn an_event_goes_an_hour_after_it_was_seen_last() {
        let now: Timestamp = "2030-01-01T12:00:00Z".parse().expect("a time");
        for (created, last, expected) in [
            ("2030-01-01T11:30:00Z", None, false),
            ("2030-01-01T10:30:00Z", None, true),
            ("2030-01-01T10:30:00Z", Some("2030-01-01T11:30:00Z"), false),
        ] {
            let object =
                json!({"metadata": {"creationTimestamp": created}, "involvedObject": {}, "lastTimestamp": last});
            let event: Event = serde_json::from_value(object).expect("an event");
            assert_eq!(is_old(&event, now), expected, "{created} {last:?}");
        }
    }
}
