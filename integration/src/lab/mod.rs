//! One lab node: network, mount, host name and process namespaces with a `/run`, a state directory and an `/etc/resolv.conf` of
//! its own. The node's first process is the anchor: with it everything in
//! the node ends.

mod cleanup;
mod lesson;
mod place;

pub use cleanup::cgroup_roots;
pub use lesson::HELLO_URL;
pub use place::Place;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::programs;
use crate::ran::Ran;
use crate::wait::until;

/// Which iptables variant a lab uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iptables {
    /// `iptables-nft`
    Nft,
    /// `iptables-legacy`
    Legacy,
}

impl Iptables {
    /// The value of `--iptables`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }
}

/// A lab node. Dropping it stops and removes everything in it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    iptables: Iptables,
    directory: TempDir,
    programs: PathBuf,
    launcher: Child,
    anchor: u32,
}

/// What the anchor does inside its new namespaces before it waits: private mounts and the loopback interface. It tells its
/// process number on the machine, which it can see until `/proc` is mounted anew. As the first process it reaps orphans.
const SETUP: &str = r#"
set -e
read -r pid rest < /proc/self/stat
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/state
mount --bind "$LAB_DIR/state" /run/state
mount --bind "$LAB_DIR/resolv.conf" /etc/resolv.conf
hostname "$LAB_NAME"
ip link set lo up
echo "$pid"
while :; do sleep 3600 & wait; done
"#;

/// Seconds that a program may take: less than a test may.
const DEADLINE: &str = "120";

impl Lab {
    /// A new node called `name`, with nothing running in it.
    ///
    /// # Errors
    /// When this is not root, or the programs have not been built.
    pub fn new(name: &str, iptables: Iptables) -> Result<Self> {
        let programs = programs::directory()?;
        let directory = tempfile::Builder::new().prefix("minipod-lab-").tempdir().context("a temporary directory")?;
        std::fs::create_dir(directory.path().join("state"))?;
        for file in ["resolv.conf", "registries.toml"] {
            std::fs::write(directory.path().join(file), "")?;
        }
        let mut launcher = Command::new("unshare")
            .args(["--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private"])
            .args(["bash", "-c", SETUP])
            .env("LAB_DIR", directory.path())
            .env("LAB_NAME", name)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare: labs need root")?;
        let said = first_line(&mut launcher)?;
        let anchor = said.parse().context("the lab's namespaces could not be set up: labs need root")?;
        Ok(Self { name: name.to_owned(), iptables, directory, programs, launcher, anchor })
    }

    /// A new node with `minipod node` running.
    ///
    /// # Errors
    /// When the daemon does not come up.
    pub fn started(name: &str, iptables: Iptables) -> Result<Self> {
        let lab = Self::new(name, iptables)?;
        lab.start_node()?;
        Ok(lab)
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it does not, with what it said.
    pub fn start_node(&self) -> Result<()> {
        let ran = self.minipod(&["node", "start"]);
        ensure!(ran.succeeded(), "the node does not start:\n{ran}\n{}", self.node_log());
        Ok(())
    }

    /// Runs the command line to its end, of which [`DEADLINE`] is one.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn minipod(&self, args: &[&str]) -> Ran {
        let mut command = self.bounded("minipod");
        command.args(args).stdin(Stdio::null());
        Ran::run(&mut command).expect("minipod can be started")
    }

    /// Runs the command line with `input` on its standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn minipod_with_input(&self, args: &[&str], input: &str) -> Ran {
        let path = self.directory.path().join("input");
        std::fs::write(&path, input).expect("the input can be written");
        let mut command = self.bounded("minipod");
        command.args(args).stdin(std::fs::File::open(&path).expect("the input can be read"));
        Ran::run(&mut command).expect("minipod can be started")
    }

    /// `minipod apply` of this text.
    ///
    /// # Panics
    /// When it is refused.
    pub fn apply(&self, yaml: &str) {
        let _ = self.minipod_with_input(&["apply", "-f", "-"], yaml).expect_success();
    }

    /// A shell script in the node's namespaces, to its end.
    ///
    /// # Panics
    /// When the shell cannot be started.
    #[must_use]
    pub fn shell(&self, script: &str) -> Ran {
        Ran::run(self.bounded("sh").args(["-ec", script]).stdin(Stdio::null())).expect("a shell can be started")
    }

    /// As [`Lab::command`], killed at [`DEADLINE`], with exit code 124: a program that hangs says which one it is.
    fn bounded(&self, program: &str) -> Command {
        let mut command = self.command("timeout");
        command.args(["--kill-after=5", DEADLINE, program]);
        command
    }

    /// A command in the node's namespaces, with the programs under test first in its path.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let path = format!("{}:{}", self.programs.display(), std::env::var("PATH").unwrap_or_default());
        command
            .args(["--net", "--mount", "--uts", "--pid", "--target", &self.anchor.to_string(), "--", program])
            .env("PATH", path)
            .env("MINIPOD_IPTABLES", self.iptables.as_str())
            .env("MINIPOD_STATE_DIR", "/run/state")
            .env("MINIPOD_CGROUP_PARENT", self.cgroup())
            .env("MINIPOD_REGISTRIES", self.registries_file());
        command
    }

    /// A command in the node's network alone, with the machine's processes and files.
    #[must_use]
    pub fn command_from_outside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.anchor.to_string(), "--", program]);
        command
    }

    /// Waits until the pod is ready.
    ///
    /// # Panics
    /// When it is not within 30 s, with what `describe` says.
    pub fn wait_ready(&self, pod: &str) {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let ready = until(&format!("pod {pod} ready"), Duration::from_secs(30), || {
            (self.minipod(&["get", "pod", pod, "-o", path]).stdout.trim() == "True").then_some(())
        });
        if let Err(error) = ready {
            let describe = self.minipod(&["describe", "pod", pod]);
            unreachable!("{error}\n{describe}\n{}", self.node_log());
        }
    }

    /// Creates a pod that stays, of the built-in image, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn pod(&self, name: &str, labels: &str) {
        let args = ["run", name, "--image", crate::fixture::HELLO_IMAGE, "--labels", labels, "--port", "8080"];
        let _ = self.minipod(&args).expect_success();
        self.wait_ready(name);
    }

    /// The pod's first address.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn pod_ip(&self, pod: &str) -> String {
        let address = self.minipod(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]).expect_success();
        assert!(!address.is_empty(), "pod {pod} has no address");
        address.trim().to_owned()
    }

    /// `minipod exec POD -- ARGS`.
    #[must_use]
    pub fn exec(&self, pod: &str, args: &[&str]) -> Ran {
        self.minipod(&[&["exec", pod, "--"], args].concat())
    }

    /// The lesson's request from inside a pod: `wget -qO- --timeout=2 URL`.
    #[must_use]
    pub fn wget(&self, pod: &str, url: &str) -> Ran {
        self.exec(pod, &["wget", "-qO-", "--timeout=2", url])
    }

    /// The lab's directory on the machine.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The process that keeps the node's namespaces.
    #[must_use]
    pub fn anchor(&self) -> u32 {
        self.anchor
    }

    /// The file that the daemon reads registries from.
    #[must_use]
    pub fn registries_file(&self) -> PathBuf {
        self.directory.path().join("registries.toml")
    }

    /// Writes the node's `/etc/resolv.conf`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn set_resolver(&self, address: &str) {
        std::fs::write(self.directory.path().join("resolv.conf"), format!("nameserver {address}\n"))
            .expect("resolv.conf");
    }

    /// What the daemon logged.
    #[must_use]
    pub fn node_log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("state/node.log")).unwrap_or_default()
    }

    /// The node's cgroup below each controller's root: the directory's own name, which no other lab has.
    #[must_use]
    pub fn cgroup(&self) -> String {
        let name = self.directory.path().file_name().unwrap_or_default();
        format!("{}-{}", name.to_string_lossy(), self.name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            cleanup::dump(self);
        }
        cleanup::remove(self);
    }
}

fn first_line(child: &mut Child) -> Result<String> {
    use std::io::BufRead as _;
    let stdout = child.stdout.take().context("the anchor's output")?;
    let mut line = String::new();
    std::io::BufReader::new(stdout).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}
