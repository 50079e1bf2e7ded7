//! Debian's podman in the lab's namespaces, with storage and settings of its own below the lab's directory.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::lab::Lab;
use crate::ran::Ran;

/// Name of the image that both sides run.
pub const IMAGE: &str = "localhost/bench:1";

/// podman beside a lab node.
#[derive(Debug)]
pub struct Podman<'lab> {
    lab: &'lab Lab,
}

impl<'lab> Podman<'lab> {
    /// Sets podman up and imports the file system tree `tree` as [`IMAGE`].
    ///
    /// # Errors
    /// When podman is not installed or refuses.
    pub fn new(lab: &'lab Lab, tree: &std::path::Path) -> Result<Self> {
        let directory = lab.directory().join("podman");
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("containers.conf"), SETTINGS)?;
        let root = directory.join("root");
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/podman-bench\"\ngraphroot = \"{}\"\n",
            root.display()
        );
        std::fs::write(directory.join("storage.conf"), storage)?;
        std::fs::write(directory.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
        let podman = Self { lab };
        let tar = lab.directory().join("bench.tar");
        let packed = lab.shell(&format!("tar -C {} -cf {} .", tree.display(), tar.display()));
        ensure!(packed.succeeded(), "{packed}");
        podman.run(&["import", &tar.to_string_lossy(), IMAGE])?;
        Ok(podman)
    }

    /// Runs podman to its end.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let ran = Ran::run(self.command().args(args))?;
        ensure!(ran.succeeded(), "{ran}");
        Ok(ran.stdout)
    }

    fn command(&self) -> Command {
        let directory = self.lab.directory().join("podman");
        let mut command = self.lab.command("podman");
        command
            .env("CONTAINERS_CONF", directory.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", directory.join("storage.conf"))
            .args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        let _ = self.run(&["pod", "rm", "--all", "--force", "--time", "0"]);
        let _ = self.run(&["rm", "--all", "--force", "--time", "0"]);
        let root = self.lab.directory().join("podman/root");
        let _ = self.lab.shell(&format!("umount -l {}/overlay 2>/dev/null; rm -rf {}", root.display(), root.display()));
    }
}

const SETTINGS: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
[network]
network_backend = "netavark"
network_config_dir = "/run/podman-bench-networks"
"#;
