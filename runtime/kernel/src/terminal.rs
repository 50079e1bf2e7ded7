//! A person's terminal: raw while a session has it, as it was afterwards; and its size.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::termios::{self, OutputFlags, SetArg, Termios};

/// A terminal in raw mode for as long as this lives, either as a whole (no echo, no line editing, no signals from its keys) or in what
/// is written to it.
///
/// Dropping it restores what was before, also while a panic unwinds. A signal that ends the process does not drop anything: who holds
/// this has to listen for those.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Makes the terminal raw (`cfmakeraw(3)`); `None` for what is no terminal.
    ///
    /// # Errors
    /// The terminal refuses, or has gone.
    pub fn enter(terminal: impl AsFd) -> io::Result<Option<Self>> {
        Self::change(terminal, termios::cfmakeraw)
    }

    /// Makes the terminal show what is written as it is, without a carriage return before each line feed; its keys go on to mean what
    /// they did. `None` for what is no terminal.
    ///
    /// # Errors
    /// The terminal refuses, or has gone.
    pub fn enter_output(terminal: impl AsFd) -> io::Result<Option<Self>> {
        Self::change(terminal, |settings| settings.output_flags.remove(OutputFlags::OPOST))
    }

    fn change(terminal: impl AsFd, change: impl FnOnce(&mut Termios)) -> io::Result<Option<Self>> {
        let before = match termios::tcgetattr(&terminal) {
            Ok(before) => before,
            Err(Errno::ENOTTY) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let mut raw = before.clone();
        change(&mut raw);
        termios::tcsetattr(&terminal, SetArg::TCSANOW, &raw)?;
        Ok(Some(Self { terminal, before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done where the terminal has gone.
        let _ = termios::tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// Columns and lines of the terminal (`TIOCGWINSZ`); `None` for what is no terminal or does not know its size.
#[must_use]
pub fn window_size(terminal: impl AsFd) -> Option<(u16, u16)> {
    nix::ioctl_read_bad!(get_window_size, libc::TIOCGWINSZ, libc::winsize);
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    #[expect(unsafe_code, reason = "TIOCGWINSZ has no safe wrapper")]
    // SAFETY: `size` is a `struct winsize` that the kernel may fill, the descriptor is open.
    let result = unsafe { get_window_size(terminal.as_fd().as_raw_fd(), &raw mut size) };
    (result.is_ok() && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    use nix::pty::{Winsize, openpty};
    use nix::sys::termios::{LocalFlags, tcgetattr};

    use super::{RawMode, window_size};

    #[test]
    fn a_terminal_is_raw_only_while_it_is_held() {
        let size = Winsize { ws_row: 40, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a terminal");
        assert_eq!(window_size(&pair.slave), Some((132, 40)));
        let flags = || tcgetattr(&pair.slave).expect("its settings").local_flags;
        let cooked = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        assert!(flags().contains(cooked));
        let raw = RawMode::enter(&pair.slave).expect("entered").expect("it is a terminal");
        assert!(!flags().intersects(cooked));
        drop(raw);
        assert!(flags().contains(cooked));
    }

    #[test]
    fn what_another_terminal_has_written_is_shown_as_it_is() {
        let pair = openpty(None, None).expect("a terminal");
        let (mut program, mut screen) = (File::from(pair.slave), File::from(pair.master));
        let terminal = program.try_clone().expect("a descriptor");
        let mut shown = |text: &[u8]| {
            program.write_all(text).expect("written");
            let mut buffer = [0; 16];
            let count = screen.read(&mut buffer).expect("read");
            buffer[..count].to_vec()
        };
        let keys = || tcgetattr(&terminal).expect("its settings").local_flags;
        let before = keys();
        let raw = RawMode::enter_output(&terminal).expect("entered").expect("it is a terminal");
        assert_eq!(shown(b"a\r\n"), b"a\r\n");
        assert_eq!(keys(), before, "a key still interrupts");
        drop(raw);
        assert_eq!(shown(b"a\n"), b"a\r\n");
    }

    #[test]
    fn what_is_no_terminal_is_left_alone() {
        let file = File::open("/dev/null").expect("opened");
        assert!(RawMode::enter(&file).expect("asked").is_none());
        assert_eq!(window_size(&file), None);
    }
}
