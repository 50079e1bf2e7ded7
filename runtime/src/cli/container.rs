//! Which container of a pod is meant, and whether it can be talked to.
//!
//! Pure.

use k8s_openapi::api::core::v1::{ContainerState, Pod};

/// The annotation that names the container meant when none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Reasons that stay until somebody changes the object or the image.
const FINAL: [&str; 2] = ["CreateContainerConfigError", "CreateContainerError"];

/// The container that was chosen, and what to tell the person about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// its name
    pub(crate) name: String,
    /// it was chosen among several without being asked for
    pub(crate) note: Option<String>,
}

/// The container called `asked`, or the pod's default one.
///
/// # Errors
/// The pod has no such container.
pub(crate) fn choose(pod: &Pod, asked: Option<&str>) -> anyhow::Result<Chosen> {
    let spec = pod.spec.clone().unwrap_or_default();
    let names: Vec<String> = spec.containers.iter().map(|c| c.name.clone()).collect();
    let init: Vec<String> = spec.init_containers.iter().flatten().map(|c| c.name.clone()).collect();
    let pod_name = pod.metadata.name.clone().unwrap_or_default();
    let by_annotation = || pod.metadata.annotations.as_ref()?.get(DEFAULT_CONTAINER).filter(|n| names.contains(n));
    if let Some(asked) = asked {
        anyhow::ensure!(
            names.iter().chain(&init).any(|n| n == asked),
            "container {asked} not found in pod {pod_name}; it has {}",
            names.iter().chain(&init).cloned().collect::<Vec<_>>().join(", ")
        );
        return Ok(Chosen { name: asked.to_owned(), note: None });
    }
    if let Some(name) = by_annotation() {
        return Ok(Chosen { name: name.clone(), note: None });
    }
    let Some(first) = names.first() else { anyhow::bail!("pod {pod_name} has no container") };
    let all: Vec<String> = names.iter().cloned().chain(init.iter().map(|name| format!("{name} (init)"))).collect();
    let note = (all.len() > 1).then(|| format!("Defaulted container \"{first}\" out of: {}", all.join(", ")));
    Ok(Chosen { name: first.clone(), note })
}

/// The state of a container, init containers included.
pub(crate) fn state(pod: &Pod, container: &str) -> Option<ContainerState> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    all.filter(|s| s.name == container).find_map(|s| s.state.clone())
}

/// Why a container of the pod is not made, where waiting changes nothing: its object or its image has to.
pub(crate) fn refusal(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let waiting = all.filter_map(|s| Some((&s.name, s.state.as_ref()?.waiting.as_ref()?)));
    waiting.into_iter().find_map(|(name, waiting)| {
        let reason = waiting.reason.as_deref().filter(|reason| FINAL.contains(reason))?;
        let message = waiting.message.as_deref().unwrap_or_default();
        Some(format!("container {name} cannot be made ({reason}): {message}"))
    })
}

/// Whether the pod has ended for good.
pub(crate) fn is_completed(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// `status.phase`
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Unknown")
}

/// Why the pod has no node, where somebody said so.
pub(crate) fn unscheduled(pod: &Pod) -> Option<&str> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut unmet = conditions.filter(|c| c.type_ == "PodScheduled" && c.status == "False");
    unmet.next()?.message.as_deref().filter(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::{Chosen, choose};

    fn pod(annotations: &Value, names: &[&str]) -> Pod {
        let containers: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
        serde_json::from_value(
            json!({"metadata": {"name": "p", "annotations": annotations}, "spec": {"containers": containers}}),
        )
        .expect("a pod")
    }

    #[test]
    fn the_first_container_is_meant_unless_another_is_named() {
        let chosen = |name: &str, note: Option<&str>| Chosen { name: name.to_owned(), note: note.map(str::to_owned) };
        assert_eq!(choose(&pod(&json!({}), &["a"]), None).expect("one"), chosen("a", None));
        let several = pod(&json!({}), &["a", "b"]);
        let note = Some("Defaulted container \"a\" out of: a, b");
        assert_eq!(choose(&several, None).expect("first"), chosen("a", note));
        assert_eq!(choose(&several, Some("b")).expect("asked for"), chosen("b", None));
        let annotated = pod(&json!({"kubectl.kubernetes.io/default-container": "b"}), &["a", "b"]);
        assert_eq!(choose(&annotated, None).expect("annotated"), chosen("b", None));
        assert_eq!(
            choose(&several, Some("c")).expect_err("unknown").to_string(),
            "container c not found in pod p; it has a, b"
        );
    }
}
