//! Networks, as a test enters them.

use std::net::IpAddr;
use std::path::PathBuf;

use minipod_kernel::netns::NetNs;

use super::Lab;

/// A network with its addresses, one of each family.
#[derive(Debug, Clone)]
pub struct Place {
    /// the network namespace
    pub netns: PathBuf,
    /// one of each family
    pub addresses: Vec<IpAddr>,
    /// whether what is dialled from here has one of these addresses as its source, whatever the kernel would choose
    pub is_bound: bool,
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
        Self { netns: netns.into(), addresses, is_bound: false }
    }

    /// Does something in this network.
    ///
    /// # Panics
    /// When it does, or when the network is gone.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        NetNs::open(&self.netns).expect("the network").run(work).expect("no panic")
    }

    /// The address of that family.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn address(&self, is_v6: bool) -> IpAddr {
        *self.addresses.iter().find(|address| address.is_ipv6() == is_v6).expect("an address of each family")
    }
}
