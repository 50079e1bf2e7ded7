//! Processes that outlive their maker, and processes known by a descriptor instead of a number.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::Signal;

/// Makes the command's process leave this process's session, and enter the cgroups whose `cgroup.procs` files are given,
/// before it runs the program: it never forks while it is still inside the cgroups of this process.
pub fn detach(command: &mut Command, cgroup_procs: Vec<File>) {
    let enter = move || {
        nix::unistd::setsid()?;
        for procs in &cgroup_procs {
            nix::unistd::write(procs, b"0")?;
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "no safe way to run code between fork and exec")]
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: setsid(2) and write(2) are; nothing is allocated, no
    // lock is taken, and the closure's captures are only read.
    unsafe {
        command.pre_exec(enter);
    }
}

/// A process, named so that its number cannot come to mean another one (`pidfd_open(2)`). Readable once the process ended.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The process with that number now; `None` when there is none.
    ///
    /// # Errors
    /// What the kernel says, other than that there is no such process.
    pub fn open(pid: i32) -> io::Result<Option<Self>> {
        #[expect(unsafe_code, reason = "nix has no pidfd_open")]
        // SAFETY: the call takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) { Ok(None) } else { Err(error) };
        }
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        #[expect(unsafe_code, reason = "the descriptor comes from a raw system call")]
        // SAFETY: the kernel has just made this descriptor for us (close-on-exec), and nothing else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Some(Self(fd)))
    }

    /// Sends a signal; `false` when the process has ended.
    ///
    /// # Errors
    /// What the kernel says, other than that the process has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        let (fd, signal) = (self.0.as_raw_fd(), signal as i32);
        #[expect(unsafe_code, reason = "nix has no pidfd_send_signal")]
        // SAFETY: integers and a null `siginfo_t`, which the call allows (pidfd_send_signal(2)); the descriptor is open.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0) };
        if result == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) { Ok(false) } else { Err(error) }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// The identity of this boot (`/proc/sys/kernel/random/boot_id`).
///
/// # Errors
/// `/proc` is missing.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When a process started, in clock ticks since boot (`/proc/PID/stat`, field 22): with the number, it names a process of this boot.
/// `None` when there is no such process.
///
/// # Errors
/// What `/proc` says, other than that there is no such process.
pub fn start_time(pid: i32) -> io::Result<Option<u64>> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => parse_start_time(&stat).map(Some).ok_or_else(|| io::Error::other("unreadable /proc/PID/stat")),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The second field, the program's name, may hold blanks and parentheses.
fn parse_start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::process::Command;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::signal::Signal;

    use super::{PidFd, boot_id, detach, parse_start_time, start_time};

    #[test]
    fn a_detached_process_has_a_session_of_its_own_and_dies_by_its_descriptor() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        detach(&mut command, Vec::new());
        let mut child = command.spawn().expect("sleep starts");
        let pid = i32::try_from(child.id()).expect("a pid");
        let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid)));
        let process = PidFd::open(pid).expect("opened").expect("it runs");
        assert!(process.signal(Signal::SIGKILL).expect("sent"));
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(10_000_u16)), Ok(1));
        child.wait().expect("it ends");
        assert_eq!(session.map(nix::unistd::Pid::as_raw), Ok(pid));
        assert!(!process.signal(Signal::SIGKILL).expect("it has ended"));
    }

    #[test]
    fn a_process_is_named_by_its_start_even_with_a_hostile_name() {
        let stat = "7 (a) b) 9) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1 1";
        assert_eq!(parse_start_time(stat), Some(4242));
        assert_eq!(parse_start_time("7"), None);
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(start_time(own).expect("read").is_some());
        assert_eq!(start_time(i32::MAX).expect("read"), None);
        assert_eq!(boot_id().expect("read").len(), 36);
    }
}
