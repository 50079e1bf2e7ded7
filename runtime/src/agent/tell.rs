//! Which events a change of a pod's state is worth.

use k8s_openapi::api::core::v1::Pod;
use minipod_protocol::shim::{ContainerState, Phase, State};

use super::all_containers;
use super::events::{Recorder, Tone};

/// Notes what is new in a shim's state.
pub(super) fn state_changed(recorder: &Recorder, pod: &Pod, old: Option<&State>, new: &State) {
    if let Some(failure) = new.failure.as_ref().filter(|failure| old.and_then(|o| o.failure.as_ref()) != Some(failure))
    {
        let message = format!("Failed to create pod sandbox: {}", failure.message);
        recorder.note(pod, None, Tone::Warning, &failure.reason, &message);
    }
    for container in all_containers(new) {
        let before = old.and_then(|old| all_containers(old).find(|c| c.name == container.name));
        for (tone, reason, message) in news(before, container) {
            recorder.note(pod, Some(&container.name), tone, reason, &message);
        }
    }
}

/// Notes that the running containers are being stopped.
pub(super) fn stopping(recorder: &Recorder, pod: &Pod, state: Option<&State>) {
    for container in state.into_iter().flat_map(all_containers) {
        if matches!(container.phase, Phase::Running { .. }) {
            let message = format!("Stopping container {}", container.name);
            recorder.note(pod, Some(&container.name), Tone::Normal, "Killing", &message);
        }
    }
}

fn news(before: Option<&ContainerState>, now: &ContainerState) -> Vec<(Tone, &'static str, String)> {
    let name = &now.name;
    if before.is_some_and(|before| before.phase == now.phase) {
        return Vec::new();
    }
    match &now.phase {
        Phase::Running { .. } => started(name),
        Phase::Waiting(failure) if failure.reason == "CrashLoopBackOff" => {
            vec![(Tone::Warning, "BackOff", failure.message.clone())]
        }
        Phase::Waiting(failure) if failure.reason == "CreateContainerError" => {
            vec![(Tone::Warning, "Failed", format!("Error: {}", failure.message))]
        }
        Phase::Terminated(end) if end.reason == "StartError" => {
            vec![(Tone::Warning, "Failed", format!("Error: {}", end.message))]
        }
        // It has run between two looks.
        Phase::Terminated(_) if before.is_none_or(|before| matches!(before.phase, Phase::Waiting(_))) => started(name),
        _ => Vec::new(),
    }
}

fn started(name: &str) -> Vec<(Tone, &'static str, String)> {
    vec![
        (Tone::Normal, "Created", format!("Created container: {name}")),
        (Tone::Normal, "Started", format!("Started container {name}")),
    ]
}

#[cfg(test)]
mod tests {
    use minipod_protocol::shim::{ContainerState, Failure, Phase, Terminated};

    use super::news;

    fn container(phase: Phase) -> ContainerState {
        ContainerState { name: "web".into(), phase, last: None, restarts: 0 }
    }

    #[test]
    fn a_start_is_told_once() {
        let waiting = container(Phase::Waiting(Failure { reason: "ContainerCreating".into(), message: String::new() }));
        let running = container(Phase::Running { pid: 7, started_at: 1 });
        let reasons = |before, now| news(before, now).into_iter().map(|(_, reason, _)| reason).collect::<Vec<_>>();
        assert_eq!(reasons(Some(&waiting), &running), ["Created", "Started"]);
        assert!(reasons(Some(&running), &running).is_empty());
        assert_eq!(reasons(None, &running), ["Created", "Started"]);

        let ended = |reason: &str| {
            container(Phase::Terminated(Terminated {
                reason: reason.into(),
                message: String::new(),
                exit_code: 0,
                signal: None,
                started_at: 1,
                finished_at: 1,
            }))
        };
        let (completed, unstartable) = (ended("Completed"), ended("StartError"));
        assert_eq!(reasons(Some(&waiting), &completed), ["Created", "Started"]);
        assert!(reasons(Some(&running), &completed).is_empty());
        assert_eq!(reasons(Some(&waiting), &unstartable), ["Failed"]);
    }

    #[test]
    fn a_crash_loop_is_told_with_its_wait() {
        let running = container(Phase::Running { pid: 7, started_at: 1 });
        let message = "back-off 10s restarting failed container=web pod=default/web";
        let failure = Failure { reason: "CrashLoopBackOff".into(), message: message.into() };
        let news = news(Some(&running), &container(Phase::Waiting(failure)));
        assert_eq!(
            news.into_iter().map(|(_, reason, text)| (reason, text)).collect::<Vec<_>>(),
            [("BackOff", message.to_owned())]
        );
    }
}
