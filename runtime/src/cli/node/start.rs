//! Starting the daemon in the background, and waiting until it answers.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use kube::Client;
use minipod_kernel::host::effective_uid;
use minipod_kernel::process::spawn_daemon;

use super::super::client::{self, ConnectError};
use super::super::context::Context;
use super::super::{Cli, Command as CliCommand, out, version};
use crate::node::directory::ensure_state_dir;
use crate::node::lock::{Daemon, running};
use crate::node::{Directories, Options, namespace};

/// A daemon that does not answer by then will not.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked.
const INTERVAL: Duration = Duration::from_millis(10);
/// How much of the log is shown when the daemon did not start.
const LOG_LINES: usize = 10;

/// `node start`
pub(super) async fn run(context: &Context, options: &Options) -> anyhow::Result<()> {
    let options = options.complete()?;
    let directories = &context.directories;
    while let Some(Daemon { pid, .. }) = running(directories) {
        // Else it was just ending.
        if wait_until_answering(directories, None, 0).await? {
            return out::print(&format!("node is already running (process {pid})\n"));
        }
    }
    options.check("localhost")?;
    let arguments = as_foreground(&std::env::args_os().skip(1).collect::<Vec<_>>())
        .context("cannot tell the options of `node start` from the command line")?;
    let pid = start(directories, arguments).await?;
    out::print(&format!("node started (process {pid}, log: {})\n", directories.log_file().display()))
}

/// A client of the daemon; starts one, and says so, when none answers.
///
/// # Errors
/// The daemon did not start, or this user may not start it.
pub(crate) async fn ensure_running(context: &Context) -> anyhow::Result<Client> {
    match context.client().await {
        Ok(client) => return Ok(client),
        Err(ConnectError::NoDaemon { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    let directories = &context.directories;
    require_root("starting `minipod node`")?;
    namespace::refuse_other(directories)?;
    out::say(&format!(
        "no node is running: starting `minipod node` in the background (log: {})",
        directories.log_file().display()
    ));
    let mut arguments: Vec<OsString> = vec!["--run-dir".into(), directories.run_dir.clone().into()];
    arguments.extend(["--state-dir".into(), directories.state_dir.clone().into(), "node".into(), "run".into()]);
    start(directories, arguments).await?;
    Ok(client::client(&directories.api_socket()))
}

/// The same command line with `run` in the place of `start`.
fn as_foreground(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let program: OsString = "minipod".into();
    arguments.iter().enumerate().filter(|(_, word)| *word == "start").find_map(|(index, _)| {
        let mut arguments = arguments.to_vec();
        arguments[index] = "run".into();
        let cli = Cli::try_parse_from(std::iter::once(&program).chain(&arguments)).ok()?;
        matches!(cli.command, CliCommand::Node(super::Args { command: super::Command::Run(_) })).then_some(arguments)
    })
}

/// Starts this program with `arguments` in a session of its own, and waits until its API answers.
async fn start(directories: &Directories, arguments: Vec<OsString>) -> anyhow::Result<u32> {
    require_root("starting `minipod node`")?;
    // The daemon looks again; here it is refused before there is a directory with a log.
    namespace::refuse_other(directories)?;
    ensure_state_dir(directories)?;
    let log_file = directories.log_file();
    let mut log = open_log(&log_file).with_context(|| {
        format!(
            "cannot write the log `{}`: give a `--state-dir` on a file system that can be written",
            log_file.display()
        )
    })?;
    let log_start = log.seek(SeekFrom::End(0))?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let arguments: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let child = spawn_daemon(&program, &arguments, log).context("cannot start `minipod node`")?;
    let pid = child.id();
    wait_until_answering(directories, Some(child), log_start).await?;
    Ok(pid)
}

/// What only root can do or see.
pub(super) fn require_root(what: &str) -> anyhow::Result<()> {
    let uid = effective_uid();
    anyhow::ensure!(uid == 0, "{what} needs root (this is user {uid}): use `sudo minipod ...`");
    Ok(())
}

fn open_log(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Waits until the API answers. Without a child, for a daemon that somebody else started: `false` when that has ended.
///
/// # Errors
/// The child has ended and no other daemon answers instead, or nothing answers in time.
async fn wait_until_answering(
    directories: &Directories,
    mut child: Option<Child>,
    log_start: u64,
) -> anyhow::Result<bool> {
    let socket = directories.api_socket();
    let mut ticks = tokio::time::interval(INTERVAL);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        ticks.tick().await;
        // Looked at before the question: another daemon may have been faster, and answers.
        let ended = match &mut child {
            Some(child) => child.try_wait()?,
            None => None,
        };
        if let Ok(client) = client::connect(&socket).await
            && version::answered(&client).await.is_ok()
        {
            return Ok(true);
        }
        if child.is_none() && running(directories).is_none() {
            return Ok(false);
        }
        if let Some(status) = ended
            && running(directories).is_none()
        {
            anyhow::bail!(
                "`minipod node` did not start ({status}):\n{}",
                end_of_log(&directories.log_file(), log_start)
            );
        }
    }
    anyhow::bail!(
        "`minipod node` does not answer on {} after {} s: see its log {}",
        socket.display(),
        PATIENCE.as_secs(),
        directories.log_file().display()
    )
}

fn end_of_log(path: &Path, start: u64) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.read_to_string(&mut text)
    });
    if let Err(error) = read {
        return format!("its log {} cannot be read: {error}", path.display());
    }
    if text.trim().is_empty() {
        return format!("its log {} says nothing: free space on its file system, then start again", path.display());
    }
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::as_foreground;

    #[test]
    fn the_options_of_start_are_passed_on() {
        let words = |words: &[&str]| words.iter().map(|w| OsString::from(*w)).collect::<Vec<_>>();
        assert_eq!(
            as_foreground(&words(&["--run-dir", "/start", "node", "start", "--node-name", "start"])),
            Some(words(&["--run-dir", "/start", "node", "run", "--node-name", "start"]))
        );
        assert_eq!(as_foreground(&words(&["node", "stop"])), None);
    }
}
