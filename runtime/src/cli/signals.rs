//! Signals that would end the program at once, for commands that have something to put back first: a terminal, a pod of `--rm`.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Exit;

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM, from [`Signals::listen`] on. Nothing else ends the process on them any more.
#[derive(Debug)]
pub(crate) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// The end of the command by the next of them: silent, with the code that a shell gives a process that a signal ended.
    pub(crate) async fn next(&mut self) -> Exit {
        let code = tokio::select! {
            _ = self.hangup.recv() => 129,
            _ = self.interrupt.recv() => 130,
            _ = self.quit.recv() => 131,
            _ = self.terminate.recv() => 143,
        };
        Exit { code, message: String::new() }
    }
}
