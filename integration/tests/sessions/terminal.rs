//! A person's terminal: a pseudo terminal whose one end the program gets, while a test types into the other and reads it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use integration::lab::Lab;
use integration::ran::Ran;
use integration::wait::until;
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

const LIMIT: Duration = Duration::from_secs(30);

/// A terminal with `minipod` in it.
pub(crate) struct Terminal {
    ours: File,
    theirs: OwnedFd,
    output: Receiver<Vec<u8>>,
    /// what the program printed, from the last text on that was waited for
    unseen: String,
    program: Child,
}

impl Terminal {
    /// Starts the command line in a new terminal of 80 columns and 24 lines, as the leader of a session that owns it.
    pub(crate) fn start(lab: &Lab, args: &[&str]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a terminal");
        let (ours, theirs) = (File::from(pair.master), pair.slave);
        let end = || Stdio::from(theirs.try_clone().expect("a descriptor"));
        let mut command = lab.command("setsid");
        command.args(["--ctty", "--wait", "minipod"]).args(args).stdin(end()).stdout(end()).stderr(end());
        let program = command.spawn().expect("minipod can be started");
        let (pieces, output) = channel();
        let mut reader = ours.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The end of the terminal is an error (EIO).
            while let Ok(count) = reader.read(&mut buffer)
                && pieces.send(buffer[..count].to_vec()).is_ok()
            {}
        });
        Self { ours, theirs, output, unseen: String::new(), program }
    }

    /// Types, as far as the program lets it: control characters are keys.
    pub(crate) fn types(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).expect("typed");
    }

    /// Waits until the program has printed this; it is not seen a second time.
    #[track_caller]
    pub(crate) fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.unseen.find(text) {
                self.unseen.drain(..at + text.len());
                return;
            }
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.unseen.push_str(&String::from_utf8_lossy(&piece)),
                Err(RecvTimeoutError::Timeout) => {
                    unreachable!("waited {LIMIT:?} for {text:?} in the terminal: {:?}", self.unseen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("the terminal ended before {text:?}: {:?}", self.unseen)
                }
            }
        }
    }

    /// Whether the terminal echoes, edits lines and makes signals of keys, as one does that no program has made raw.
    pub(crate) fn is_cooked(&self) -> bool {
        let flags = tcgetattr(&self.theirs).expect("its settings").local_flags;
        let cooked = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
        assert!(flags.contains(cooked) || !flags.intersects(cooked), "half of the settings: {flags:?}");
        flags.contains(cooked)
    }

    /// Waits until a session has made the terminal raw.
    pub(crate) fn wait_raw(&self) {
        until("the terminal raw", LIMIT, || (!self.is_cooked()).then_some(())).expect("raw");
    }

    /// Gives the terminal another size; the kernel tells the program.
    pub(crate) fn resize(&self, columns: u16, lines: u16) {
        let input = Stdio::from(self.theirs.as_fd().try_clone_to_owned().expect("a descriptor"));
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let mut stty = Command::new("stty");
        stty.args(["cols", &columns, "rows", &lines]).stdin(input);
        let _ = Ran::run(&mut stty).expect("stty can be started").expect_success();
    }

    /// Waits for the program's end; its exit code.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Option<i32> {
        let ended = until("the program to end", LIMIT, || self.program.try_wait().expect("waited"));
        ended.unwrap_or_else(|error| unreachable!("{error}; in the terminal: {:?}", self.unseen)).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
