//! How a program ends, and the only place that writes to the terminal's error stream.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// An end with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Ending {
    /// The program could not do it: 1.
    pub(crate) fn failure(message: impl Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// The arguments are wrong: 2.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }
}

/// Prints the message, if there is one, and tells the code.
pub(crate) fn exit_code(ending: Result<u8, Ending>) -> ExitCode {
    match ending {
        Ok(code) => ExitCode::from(code),
        Err(Ending { code, message }) => {
            // Nobody may be reading.
            let _written = writeln!(io::stderr(), "{message}");
            ExitCode::from(code)
        }
    }
}

/// Prints bytes at once: a reader of a pod's log must not wait for a buffer.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), Ending> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).map_err(|error| Ending::failure(format!("stdout: {error}")))
}

/// Ends the process with 0 at SIGTERM or SIGINT. The first process of a container gets no default action for them, so without
/// this it would only end when it is killed. Must be called before any other thread starts.
pub(crate) fn end_when_told() -> Result<(), Ending> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(|error| Ending::failure(format!("cannot block signals: {error}")))?;
    thread::spawn(move || {
        let code = i32::from(signals.wait().is_err());
        std::process::exit(code);
    });
    Ok(())
}
