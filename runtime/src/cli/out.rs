//! The two outputs: results on standard output, everything else on standard error.

use std::io::{self, Write as _};

use super::failure::Exit;

/// Prints a result. A reader that has gone (`| head`) ends the command quietly, with the code that the signal would have given.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    ended(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Turns the end of a write to standard output into the end of the command.
pub(crate) fn ended(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Exit { code: 141, message: String::new() }.into())
        }
        other => Ok(other?),
    }
}

/// Tells the person something that is no result. Nobody may be listening; that is no failure.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
