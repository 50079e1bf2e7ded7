//! A pod in words.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStatus, EnvVar, Event, Pod, PodCondition, Probe, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::text::Text;
use super::{events, labels, time};

/// The description.
pub(super) fn describe(pod: &Pod, happened: &[Event], now: jiff::Timestamp) -> String {
    let (spec, status) = (pod.spec.clone().unwrap_or_default(), pod.status.clone().unwrap_or_default());
    let mut text = Text::default();
    text.field(0, "Name", pod.metadata.name.as_deref().unwrap_or_default());
    text.field(0, "Namespace", pod.metadata.namespace.as_deref().unwrap_or_default());
    text.field(0, "Node", node(spec.node_name.as_deref(), status.host_ip.as_deref()));
    if status.start_time.is_some() {
        text.field(0, "Start Time", time(status.start_time.as_ref()));
    }
    text.list(0, "Labels", labels(pod.metadata.labels.as_ref()));
    text.list(0, "Annotations", super::annotations(&pod.metadata));
    text.field(0, "Status", lifecycle(pod, now));
    if let Some(reason) = &status.reason {
        text.field(0, "Reason", reason);
    }
    if let Some(message) = &status.message {
        text.field(0, "Message", message);
    }
    text.field(0, "IP", status.pod_ip.as_deref().unwrap_or_default());
    let ips: Vec<String> = status.pod_ips.iter().flatten().map(|ip| format!("  IP:\t{}", ip.ip)).collect();
    match ips.as_slice() {
        [] => text.field(0, "IPs", "<none>"),
        ips => {
            text.line("IPs:");
            for ip in ips {
                text.line(ip);
            }
        }
    }
    if let Some(init) = spec.init_containers.as_deref().filter(|c| !c.is_empty()) {
        containers(&mut text, "Init Containers", init, status.init_container_statuses.as_deref().unwrap_or_default());
    }
    containers(&mut text, "Containers", &spec.containers, status.container_statuses.as_deref().unwrap_or_default());
    if let Some(conditions) = status.conditions.filter(|c| !c.is_empty()) {
        text.line("Conditions:");
        let told = conditions.iter().any(|condition| unmet(condition).is_some());
        text.line(if told { "  Type\tStatus\tMessage" } else { "  Type\tStatus" });
        for condition in conditions {
            let message = unmet(&condition).map(|message| format!("\t{message}")).unwrap_or_default();
            text.line(format!("  {}\t{}{message}", condition.type_, condition.status));
        }
    }
    text.render() + &events::section(happened, now)
}

/// What keeps a condition from being met, where somebody says so.
fn unmet(condition: &PodCondition) -> Option<&str> {
    condition.message.as_deref().filter(|message| condition.status != "True" && !message.is_empty())
}

fn node(name: Option<&str>, address: Option<&str>) -> String {
    match (name, address) {
        (Some(name), Some(address)) => format!("{name}/{address}"),
        (Some(name), None) => format!("{name}/"),
        (None, _) => "<none>".to_owned(),
    }
}

fn lifecycle(pod: &Pod, now: jiff::Timestamp) -> String {
    let phase = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
    match &pod.metadata.deletion_timestamp {
        Some(since) => format!("Terminating (lasts {})", super::super::age::age(Some(since), now)),
        None => phase,
    }
}

fn containers(text: &mut Text, title: &str, containers: &[Container], statuses: &[ContainerStatus]) {
    text.line(format!("{title}:"));
    for container in containers {
        text.line(format!("  {}:", container.name));
        let status = statuses.iter().find(|s| s.name == container.name);
        describe_container(text, container, status);
    }
}

fn describe_container(text: &mut Text, container: &Container, status: Option<&ContainerStatus>) {
    if let Some(status) = status {
        text.field(4, "Container ID", status.container_id.as_deref().unwrap_or_default());
    }
    text.field(4, "Image", container.image.as_deref().unwrap_or_default());
    if let Some(status) = status {
        text.field(4, "Image ID", &status.image_id);
    }
    let ports = container.ports.as_deref().unwrap_or_default();
    let listed: Vec<String> =
        ports.iter().map(|p| format!("{}/{}", p.container_port, p.protocol.as_deref().unwrap_or("TCP"))).collect();
    let word = if listed.len() > 1 { "Ports" } else { "Port" };
    text.field(4, word, if listed.is_empty() { "<none>".to_owned() } else { listed.join(", ") });
    for (name, words) in [("Command", &container.command), ("Args", &container.args)] {
        if let Some(words) = words.as_deref().filter(|w| !w.is_empty()) {
            text.line(format!("    {name}:"));
            words.iter().flat_map(|w| w.lines()).for_each(|word| text.line(format!("      {word}")));
        }
    }
    if let Some(status) = status {
        state(text, "State", status.state.as_ref());
        if status.last_state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            state(text, "Last State", status.last_state.as_ref());
        }
        text.field(4, "Ready", if status.ready { "True" } else { "False" });
        text.field(4, "Restart Count", status.restart_count.to_string());
    }
    resources(text, container.resources.as_ref());
    for (name, probe) in [
        ("Liveness", &container.liveness_probe),
        ("Readiness", &container.readiness_probe),
        ("Startup", &container.startup_probe),
    ] {
        if let Some(probe) = probe {
            text.field(4, name, probe_line(probe));
        }
    }
    environment(text, container.env.as_deref().unwrap_or_default());
}

fn state(text: &mut Text, name: &str, state: Option<&ContainerState>) {
    let state = state.cloned().unwrap_or_default();
    if let Some(running) = state.running {
        text.field(4, name, "Running");
        text.field(6, "Started", time(running.started_at.as_ref()));
    } else if let Some(ended) = state.terminated {
        text.field(4, name, "Terminated");
        optional(text, "Reason", ended.reason.as_deref());
        optional(text, "Message", ended.message.as_deref());
        text.field(6, "Exit Code", ended.exit_code.to_string());
        if let Some(signal) = ended.signal.filter(|s| *s > 0) {
            text.field(6, "Signal", signal.to_string());
        }
        text.field(6, "Started", time(ended.started_at.as_ref()));
        text.field(6, "Finished", time(ended.finished_at.as_ref()));
    } else {
        text.field(4, name, "Waiting");
        let waiting = state.waiting.unwrap_or_default();
        optional(text, "Reason", waiting.reason.as_deref());
        optional(text, "Message", waiting.message.as_deref());
    }
}

fn optional(text: &mut Text, name: &str, value: Option<&str>) {
    if let Some(value) = value.filter(|v| !v.is_empty()) {
        text.field(6, name, value);
    }
}

fn resources(text: &mut Text, resources: Option<&ResourceRequirements>) {
    let Some(resources) = resources else { return };
    for (name, values) in [("Limits", &resources.limits), ("Requests", &resources.requests)] {
        let empty = BTreeMap::<String, Quantity>::new();
        let values = values.as_ref().unwrap_or(&empty);
        if !values.is_empty() {
            text.line(format!("    {name}:"));
            for (key, value) in values {
                text.field(6, key, &value.0);
            }
        }
    }
}

fn probe_line(probe: &Probe) -> String {
    let what = if let Some(exec) = &probe.exec {
        format!("exec [{}]", exec.command.clone().unwrap_or_default().join(" "))
    } else if let Some(http) = &probe.http_get {
        let port = super::port_text(&http.port);
        format!(
            "http-get {}://{}:{port}{}",
            http.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase(),
            http.host.as_deref().unwrap_or_default(),
            http.path.as_deref().unwrap_or("/")
        )
    } else if let Some(tcp) = &probe.tcp_socket {
        format!("tcp-socket {}:{}", tcp.host.as_deref().unwrap_or_default(), super::port_text(&tcp.port))
    } else {
        "unknown".to_owned()
    };
    format!(
        "{what} delay={}s timeout={}s period={}s #success={} #failure={}",
        probe.initial_delay_seconds.unwrap_or(0),
        probe.timeout_seconds.unwrap_or(1),
        probe.period_seconds.unwrap_or(10),
        probe.success_threshold.unwrap_or(1),
        probe.failure_threshold.unwrap_or(3)
    )
}

fn environment(text: &mut Text, variables: &[EnvVar]) {
    if variables.is_empty() {
        return text.field(4, "Environment", "<none>");
    }
    text.line("    Environment:");
    for variable in variables {
        let value = match (&variable.value, &variable.value_from) {
            (None, Some(_)) => "<set from elsewhere>",
            (value, _) => value.as_deref().unwrap_or_default(),
        };
        text.field(6, &variable.name, value);
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::describe;

    #[test]
    fn a_pod_with_its_events() {
        let pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "labels": {"app": "hello", "b": "c"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "hello:1", "ports": [{"containerPort": 8080}],
                "args": ["serve"], "env": [{"name": "A", "value": "1"}]}]},
            "status": {"phase": "Running", "hostIP": "192.0.2.1", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}, {"ip": "fd00::5"}],
                "startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "web", "ready": true, "restartCount": 1, "image": "hello:1", "imageID": "sha256:1", "containerID": "minipod://1",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:05Z"}},
                    "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}}}]}
        }))
        .expect("a pod");
        let event = serde_json::from_value(json!({"metadata": {}, "involvedObject": {}, "type": "Normal", "reason": "Started",
            "message": "Started container web", "lastTimestamp": "2026-01-01T00:00:05Z", "source": {"component": "minipod"}}))
        .expect("an event");
        let now = "2026-01-01T00:00:15Z".parse().expect("a time");
        let expected = "\
Name:         web
Namespace:    default
Node:         n1/192.0.2.1
Start Time:   2026-01-01 00:00:00 +0000 UTC
Labels:       app=hello
              b=c
Annotations:  <none>
Status:       Running
IP:           10.244.0.5
IPs:
  IP:  10.244.0.5
  IP:  fd00::5
Containers:
  web:
    Container ID:  minipod://1
    Image:         hello:1
    Image ID:      sha256:1
    Port:          8080/TCP
    Args:
      serve
    State:          Running
      Started:      2026-01-01 00:00:05 +0000 UTC
    Last State:     Terminated
      Reason:       Error
      Exit Code:    1
      Started:      2026-01-01 00:00:01 +0000 UTC
      Finished:     2026-01-01 00:00:02 +0000 UTC
    Ready:          True
    Restart Count:  1
    Environment:
      A:  1
Conditions:
  Type   Status
  Ready  True
Events:
  Type    Reason   Age  From     Message
  ----    ------   ---  ----     -------
  Normal  Started  10s  minipod  Started container web
";
        assert_eq!(describe(&pod, &[event], now), expected);
    }

    #[test]
    fn a_condition_that_is_not_met_is_told_with_its_reason() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web"}, "status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "message": "no nodes available to schedule pods"},
            {"type": "Ready", "status": "True", "message": "fine"}]}}))
        .expect("a pod");
        let text = describe(&pod, &[], "2026-01-01T00:00:15Z".parse().expect("a time"));
        let expected = "\
Conditions:
  Type          Status  Message
  PodScheduled  False   no nodes available to schedule pods
  Ready         True
";
        assert!(text.contains(expected), "{text}");
    }
}
