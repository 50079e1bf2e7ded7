//! The person's terminal: raw while a session has it, as it was afterwards, also when the session fails.

use std::io::{self, IsTerminal as _};

use kube::api::TerminalSize;
use nix::sys::termios::{self, SetArg, Termios};

/// Standard input in raw mode, for as long as this lives.
pub(crate) struct RawMode {
    saved: Termios,
}

impl RawMode {
    /// Switches standard input to raw mode; `None` when it is no terminal.
    ///
    /// # Errors
    /// The terminal refuses.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let saved = termios::tcgetattr(&stdin)?;
        let mut raw = saved.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        Ok(Some(Self { saved }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done where the terminal has gone.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.saved);
    }
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// The size of the terminal.
pub(crate) fn size() -> Option<TerminalSize> {
    let (width, height) =
        terminal_size::terminal_size_of(io::stdout()).or_else(|| terminal_size::terminal_size_of(io::stdin()))?;
    Some(TerminalSize { width: width.0, height: height.0 })
}
