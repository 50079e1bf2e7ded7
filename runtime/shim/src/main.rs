//! The per-pod process: `minipod-shim DIR` runs the pod that `DIR/pod.json` describes and exits when it has ended.
//!
//! It owns the pod's namespaces, mounts, control groups and containers; what it knows is in `DIR/state.json` and on
//! `DIR/shim.sock` ([`minipod_protocol::shim`]). It needs no daemon once it runs. Single-threaded and without async, since
//! libcontainer clones without exec.

mod cgroup;
mod cri_log;
mod devices;
mod etc_files;
mod executor;
mod helper;
mod lifecycle;
mod memory;
mod netd;
mod oci;
mod overlay;
mod pod;
mod restart;
mod seccomp;
mod spec;
#[cfg(test)]
mod testing;
mod timestamp;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            pod::note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let (directory, rest) = (arguments.next(), arguments.next());
    let (Some(directory), None) = (directory, rest) else {
        anyhow::bail!("usage: minipod-shim DIR, where DIR/pod.json describes the pod; it is started by `minipod node`");
    };
    let directory = PathBuf::from(directory);
    let directory = directory.canonicalize().with_context(|| format!("no pod directory `{}`", directory.display()))?;
    pod::run(&directory)
}
