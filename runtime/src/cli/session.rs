//! A session with a process in a container: the person's streams on one side, the server's on the other.
//!
//! Ends when the server says how the process ended. What was typed afterwards is not waited for.

use futures::SinkExt as _;
use futures::channel::mpsc;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};

use super::failure::Exit;
use super::terminal::{self, RawMode};

/// One read of a stream.
const CHUNK: usize = 32 * 1024;

/// The streams of a session. With a terminal there is no standard error of its own.
pub(crate) fn params(container: &str, stdin: bool, tty: bool) -> AttachParams {
    AttachParams::default()
        .container(container)
        .stdin(stdin)
        .stdout(true)
        .stderr(!tty)
        .tty(tty)
        .max_stdin_buf_size(CHUNK)
        .max_stdout_buf_size(CHUNK)
        .max_stderr_buf_size(CHUNK)
}

/// Connects the person with the process until it ends. `None` is a server that went away without a word.
///
/// # Errors
/// The terminal, the person's outputs, or the connection.
pub(crate) async fn join(mut process: AttachedProcess, tty: bool) -> anyhow::Result<Option<Status>> {
    let raw = if tty { RawMode::enter()? } else { None };
    let resizing = process.terminal_size().map(|sizes| tokio::spawn(send_sizes(sizes)));
    let status = process.take_status();
    let feeding = process.stdin().map(|writer| tokio::spawn(feed(writer)));
    let stdout = drain(process.stdout(), tokio::io::stdout());
    let stderr = drain(process.stderr(), tokio::io::stderr());
    let (stdout, stderr) = tokio::join!(stdout, stderr);
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    for task in [resizing, feeding].into_iter().flatten() {
        task.abort();
    }
    drop(raw);
    super::out::ended(stdout)?;
    stderr?;
    if status.is_none() {
        process.join().await?;
    }
    Ok(status)
}

/// Standard input to the process; its end is passed on.
async fn feed(mut writer: impl AsyncWrite + Unpin) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; CHUNK];
    while let Ok(count) = stdin.read(&mut buffer).await {
        if count == 0 || writer.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    // Dropping the writer alone does not tell the other side: it is one half of a shared stream.
    let _ = writer.shutdown().await;
}

async fn drain(reader: Option<impl AsyncRead + Unpin>, mut writer: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let Some(mut reader) = reader else { return Ok(()) };
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = reader.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        writer.write_all(&buffer[..count]).await?;
        writer.flush().await?;
    }
}

/// The terminal's size now, and whenever it changes.
async fn send_sizes(mut sizes: mpsc::Sender<TerminalSize>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some(size) = terminal::size()
            && sizes.send(size).await.is_err()
        {
            return;
        }
        changes.recv().await;
    }
}

/// What the end of an exec session means for this program: success, or the process's exit code.
///
/// # Errors
/// The process failed, or there is no exit code.
pub(crate) fn conclude(status: Option<Status>) -> anyhow::Result<()> {
    let Some(status) = status else {
        anyhow::bail!("the connection to the node ended before the process did: is `minipod node` still running?");
    };
    if status.status.as_deref() == Some("Success") {
        return Ok(());
    }
    match exit_code(&status) {
        Some(code) => Err(Exit { code, message: format!("command terminated with exit code {code}") }.into()),
        None => anyhow::bail!("{}", status.message.unwrap_or_else(|| "the command failed".to_owned())),
    }
}

/// The code in a `NonZeroExitCode` status.
fn exit_code(status: &Status) -> Option<u8> {
    if status.reason.as_deref() != Some("NonZeroExitCode") {
        return None;
    }
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let cause = causes.iter().find(|c| c.reason.as_deref() == Some("ExitCode"))?;
    let code: i32 = cause.message.as_deref()?.parse().ok()?;
    Some(u8::try_from(code).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::failure::report;
    use super::conclude;

    #[track_caller]
    fn check(status: Value, expected: Option<(&str, u8)>) {
        let status = serde_json::from_value(status).expect("a status");
        let end = conclude(Some(status)).err().map(|e| report(&e));
        assert_eq!(end, expected.map(|(message, code)| (message.to_owned(), code)));
    }

    #[test]
    fn the_exit_code_of_the_process_is_the_exit_code_of_the_program() {
        check(json!({"status": "Success"}), None);
        check(
            json!({"status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with non-zero exit code",
                   "details": {"causes": [{"reason": "ExitCode", "message": "42"}]}}),
            Some(("command terminated with exit code 42", 42)),
        );
        check(
            json!({"status": "Failure", "reason": "InternalError", "message": "no such program `foo`"}),
            Some(("error: no such program `foo`", 1)),
        );
    }
}
