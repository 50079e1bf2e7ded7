//! The networks of this node's pods.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use minipod_kernel::netns::NetNs;
use minipod_kernel::process;
use minipod_model::PodKey;
use minipod_protocol::shim::{Sandbox, State, files};
use serde::de::DeserializeOwned;

/// A pod from which can be dialled.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) pod: PodKey,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) netns: NetNs,
}

/// Every pod of this node that has a network of its own and runs, by name. Each directory is a pod's, as its shim left it.
pub(super) fn all(directory: &Path) -> anyhow::Result<Vec<Source>> {
    let failed = || format!("cannot read `{}`", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(failed)?,
    };
    let mut sources = Vec::new();
    for entry in entries {
        sources.extend(of_pod(&entry.with_context(failed)?.path()));
    }
    sources.sort_by(|a, b| a.pod.cmp(&b.pod));
    Ok(sources)
}

/// A pod that comes or goes meanwhile is none.
fn of_pod(directory: &Path) -> Option<Source> {
    let (sandbox, state): (Sandbox, State) =
        (read(&directory.join(files::SANDBOX))?, read(&directory.join(files::STATE))?);
    let network = state.network.filter(|_| !state.finished && !state.stopping)?;
    let netns = NetNs::open(&PathBuf::from(format!("/proc/{}/ns/net", state.pid))).ok()?;
    // What was opened is the shim's if the process is still the one that was meant.
    let is_shim = process::start_time(state.pid).ok().flatten() == Some(state.start_time);
    is_shim.then(|| Source {
        pod: PodKey::new(sandbox.namespace, sandbox.name),
        addresses: network.addresses.iter().map(|address| address.address).collect(),
        netns,
    })
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
