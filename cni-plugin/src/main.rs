//! The CNI plugin: reads what the container runtime wants, asks netd over its unix socket, writes what the runtime expects.
//!
//! Small, static and without state of its own, because it starts anew for every verb. What it owes its callers is in
//! `docs/cni.md`. Nothing here touches the kernel; netd does.

mod answer;
mod config;
mod environment;
mod failure;
mod plugin;
mod previous;
mod verbs;

use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let outcome = plugin::run(&variable, &mut io::stdin().lock());
    // The runtime reads stdout alone; stderr is for people.
    let written = io::stdout().write_all(outcome.stdout.as_bytes());
    let _told = io::stderr().write_all(outcome.stderr.as_bytes());
    if written.is_ok() && outcome.success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
