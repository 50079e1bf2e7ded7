//! Pods.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::api::DynamicObject;

use super::super::age;
use super::{Columns, Row, or_none, typed};

pub(super) const COLUMNS: Columns = Columns {
    headers: &["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
    wide: &["IP", "NODE", "NOMINATED NODE", "READINESS GATES"],
    row,
};

fn row(object: &DynamicObject, now: Timestamp) -> Option<Row> {
    let pod: Pod = typed(object)?;
    let spec = pod.spec.as_ref()?;
    let status = pod.status.clone().unwrap_or_default();
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let ready = statuses.iter().filter(|s| s.ready && is_running(s)).count();
    Some(Row {
        cells: vec![
            super::name(object),
            format!("{ready}/{}", spec.containers.len()),
            status_word(&pod),
            restarts(&status, now),
            age::age(pod.metadata.creation_timestamp.as_ref(), now),
        ],
        wide: vec![
            or_none(status.pod_ip.as_deref()),
            or_none(spec.node_name.as_deref()),
            or_none(status.nominated_node_name.as_deref()),
            "<none>".to_owned(),
        ],
    })
}

/// The word that sums a pod up: its phase, or what holds it up.
pub(crate) fn status_word(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.clone().unwrap_or_else(|| "Unknown".to_owned());
    if pod.metadata.deletion_timestamp.is_some() && phase != "Succeeded" && phase != "Failed" {
        return "Terminating".to_owned();
    }
    let phase = status.reason.clone().filter(|r| !r.is_empty()).unwrap_or(phase);
    initializing(pod, &status).unwrap_or_else(|| containers_word(&status, phase))
}

/// The first init container that has not succeeded yet.
fn initializing(pod: &Pod, status: &PodStatus) -> Option<String> {
    let total = pod.spec.as_ref()?.init_containers.as_ref()?.len();
    let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    let (index, container) = statuses.iter().enumerate().find(|(_, s)| terminated_code(s) != Some(0))?;
    let state = container.state.clone().unwrap_or_default();
    Some(if let Some(ended) = state.terminated {
        format!("Init:{}", ended_word(ended.reason.as_deref(), ended.signal, ended.exit_code))
    } else if let Some(reason) =
        state.waiting.and_then(|w| w.reason).filter(|r| !r.is_empty() && r != "PodInitializing")
    {
        format!("Init:{reason}")
    } else {
        format!("Init:{index}/{total}")
    })
}

/// The first container with something to say wins over the phase.
fn containers_word(status: &PodStatus, phase: String) -> String {
    let mut word = phase;
    let mut running = false;
    for container in status.container_statuses.iter().flatten().rev() {
        let state = container.state.clone().unwrap_or_default();
        if let Some(reason) = state.waiting.and_then(|w| w.reason).filter(|r| !r.is_empty()) {
            word = reason;
        } else if let Some(ended) = state.terminated {
            word = ended_word(ended.reason.as_deref(), ended.signal, ended.exit_code);
        } else if container.ready && state.running.is_some() {
            running = true;
        }
    }
    if word == "Completed" && running {
        let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        return if ready { "Running" } else { "NotReady" }.to_owned();
    }
    word
}

fn ended_word(reason: Option<&str>, signal: Option<i32>, exit_code: i32) -> String {
    match (reason, signal) {
        (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
        (_, Some(signal)) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{exit_code}"),
    }
}

fn restarts(status: &PodStatus, now: Timestamp) -> String {
    let statuses = || status.container_statuses.iter().flatten();
    let count: i32 = statuses().map(|s| s.restart_count).sum();
    let last = statuses()
        .filter_map(|s| s.last_state.as_ref()?.terminated.as_ref()?.finished_at.as_ref())
        .max_by_key(|time| time.0);
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", age::age(Some(last), now)),
        _ => count.to_string(),
    }
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

fn terminated_code(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::status_word;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "literals read better")]
    fn check(status: Value, expected: &str) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": status,
        }))
        .expect("a pod");
        assert_eq!(status_word(&pod), expected);
    }

    fn container(state: &Value) -> Value {
        json!({"name": "a", "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": state})
    }

    #[test]
    fn the_status_is_what_holds_a_pod_up() {
        check(json!({"phase": "Pending"}), "Pending");
        check(json!({"phase": "Failed", "reason": "Evicted"}), "Evicted");
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        check(json!({"phase": "Running", "containerStatuses": [container(&waiting)]}), "CrashLoopBackOff");
        let ended = json!({"terminated": {"exitCode": 3}});
        check(json!({"phase": "Failed", "containerStatuses": [container(&ended)]}), "ExitCode:3");
        let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        check(json!({"phase": "Succeeded", "containerStatuses": [container(&done)]}), "Completed");
        let running = json!({"running": {}});
        check(
            json!({"phase": "Running", "containerStatuses": [container(&done), container(&running)],
                   "conditions": [{"type": "Ready", "status": "True"}]}),
            "Running",
        );
        check(
            json!({"phase": "Pending", "initContainerStatuses": [container(&done), container(&running)]}),
            "Init:1/2",
        );
        check(json!({"phase": "Pending", "initContainerStatuses": [container(&ended)]}), "Init:ExitCode:3");
    }
}
