//! Networks, as a test enters them.

use std::net::IpAddr;
use std::path::PathBuf;

use super::Lab;

/// A network with its addresses, one of each family.
#[derive(Debug, Clone)]
pub struct Place {
    /// the network namespace
    pub netns: PathBuf,
    /// one of each family
    pub addresses: Vec<IpAddr>,
}

impl Place {
    /// A pod's.
    ///
    /// # Panics
    /// When the pod is not attached with an address of each family.
    #[must_use]
    pub fn of_pod(lab: &Lab, namespace: &str, pod: &str) -> Self {
        let wanted = "jsonpath={.metadata.uid} {.status.podIPs[*].ip}";
        let said = lab.minipod(&["get", "pod", "-n", namespace, pod, "-o", wanted]).expect_success();
        let (uid, addresses) = said.trim().split_once(' ').expect("UID and addresses");
        let addresses: Vec<IpAddr> = addresses.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert_eq!(addresses.len(), 2, "one of each family: {said}");
        let state = lab.shell(&format!("cat /run/minipod/pods/{uid}/state.json")).expect_success();
        let state: serde_json::Value = serde_json::from_str(&state).expect("the shim's state");
        let netns = format!("/proc/{}/root/proc/{}/ns/net", lab.anchor(), state["pid"]);
        Self { netns: netns.into(), addresses }
    }
}
