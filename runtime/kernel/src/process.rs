//! Processes that outlive their maker, and processes known by a descriptor instead of a number.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
pub use nix::sys::signal::Signal;

/// Starts a program that is to outlive this process: in a process group of its own, so that a signal from the terminal does
/// not reach it; nothing to read, what it writes goes to `log`. It makes its own session and enters its own cgroups.
///
/// # Errors
/// What `execve(2)` says.
pub fn spawn_detached(program: &Path, args: &[&OsStr], log: File) -> io::Result<Child> {
    let mut command = command(program, args, log)?;
    if let Some((soft, hard)) = GIVEN_OPEN_FILES.get().copied() {
        #[expect(unsafe_code, reason = "no safe way to run code between fork and exec")]
        // SAFETY: between fork and exec only async-signal-safe calls are allowed: setrlimit(2) is a mere system call; nothing is
        // allocated, no lock taken.
        unsafe {
            command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?));
        }
    }
    command.process_group(0).spawn()
}

/// Starts a program that is to outlive this process and its terminal: in a session of its own; nothing to read, what it writes
/// goes to `log`.
///
/// # Errors
/// What `setsid(2)` and `execve(2)` say.
pub fn spawn_daemon(program: &Path, args: &[&OsStr], log: File) -> io::Result<Child> {
    let mut command = command(program, args, log)?;
    #[expect(unsafe_code, reason = "no safe way to run code between fork and exec")]
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: setsid(2) is one; nothing is allocated, no lock taken.
    unsafe {
        command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?));
    }
    command.spawn()
}

/// Lets this process open as many files as it may. What it starts with [`spawn_detached`] has the limit that it had before, which is
/// that of a pod's containers: some programs do work for each descriptor that they may have.
///
/// # Errors
/// What `getrlimit(2)` and `setrlimit(2)` say.
pub fn raise_open_files() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    // A second call would find what the first has set.
    let _ = GIVEN_OPEN_FILES.set((soft, hard));
    Ok(())
}

/// What [`raise_open_files`] found.
static GIVEN_OPEN_FILES: OnceLock<(rlim_t, rlim_t)> = OnceLock::new();

fn command(program: &Path, args: &[&OsStr], log: File) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.args(args).current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
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

    /// Waits until the process has ended; `false` when it has not in time.
    ///
    /// Blocking.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self, patience: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: not once more for less than a millisecond.
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) if Instant::now() >= deadline => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
        }
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

/// The time since boot, the time asleep included, to a hundredth of a second (`/proc/uptime`): the same clock in every process of
/// this boot.
///
/// # Errors
/// `/proc` is missing.
pub fn since_boot() -> io::Result<Duration> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let seconds = uptime.split_whitespace().next().and_then(|text| text.parse().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| io::Error::other("unreadable /proc/uptime"))
}

/// When a process started, in clock ticks since boot (`/proc/PID/stat`, field 22): with the number, it names a process of this boot.
/// `None` when there is no such process; a zombie has ended too.
///
/// # Errors
/// What `/proc` says, other than that there is no such process.
pub fn start_time(pid: i32) -> io::Result<Option<u64>> {
    Ok(stat(pid)?.filter(|stat| !stat.is_zombie).map(|stat| stat.start_time))
}

/// Waits until the process with that number and start has ended to its last thread; `false` when it has not in time. Only then is closed
/// what it had open: a process that was killed is a zombie by its first thread, and may hold locks and sockets by another one.
///
/// Blocking.
///
/// # Errors
/// What the kernel says.
pub fn wait_for_end(pid: i32, start_time: u64, patience: Duration) -> io::Result<bool> {
    let is_there = || Ok::<_, io::Error>(stat(pid)?.is_some_and(|stat| stat.start_time == start_time));
    if !is_there()? {
        return Ok(true);
    }
    match PidFd::open(pid) {
        Ok(Some(process)) if is_there()? => process.wait(patience),
        Ok(_) => Ok(true),
        // The number may have come to mean something else in between.
        Err(_) if !is_there()? => Ok(true),
        Err(error) => Err(error),
    }
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    is_zombie: bool,
    start_time: u64,
}

fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(parse_stat(&stat)),
        // The file can be opened, and its process end before it is read: ESRCH.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The second field, the program's name, may hold blanks and parentheses. Field 3 is the state, field 22 the start.
fn parse_stat(stat: &str) -> Option<Stat> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    Some(Stat { is_zombie, start_time: fields.nth(18)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::Path;
    use std::time::Duration;

    use nix::unistd::{Pid, getpgid, getsid};

    use super::{PidFd, Signal, Stat, boot_id, parse_stat, spawn_daemon, spawn_detached, start_time, wait_for_end};

    #[test]
    fn a_detached_process_has_a_group_of_its_own_and_dies_by_its_descriptor() {
        let log = tempfile::tempfile().expect("a file");
        let mut child = spawn_detached(Path::new("sleep"), &[OsStr::new("1000")], log).expect("sleep starts");
        let pid = i32::try_from(child.id()).expect("a pid");
        let group = getpgid(Some(Pid::from_raw(pid)));
        let process = PidFd::open(pid).expect("opened").expect("it runs");
        assert!(!process.wait(Duration::from_millis(1)).expect("waited"));
        assert!(process.signal(Signal::SIGKILL).expect("sent"));
        assert!(process.wait(Duration::from_secs(10)).expect("waited"));
        child.wait().expect("it ends");
        assert_eq!(group, Ok(Pid::from_raw(pid)));
        assert!(!process.signal(Signal::SIGKILL).expect("it has ended"));
    }

    #[test]
    fn a_daemon_has_a_session_of_its_own() {
        let log = tempfile::tempfile().expect("a file");
        let mut child = spawn_daemon(Path::new("sleep"), &[OsStr::new("1000")], log).expect("sleep starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let session = getsid(Some(pid));
        child.kill().expect("killed");
        child.wait().expect("it ends");
        assert_eq!(session, Ok(pid));
    }

    #[test]
    fn a_process_is_named_by_its_start_even_with_a_hostile_name() {
        let stat = "7 (a) b) 9) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1 1";
        assert_eq!(parse_stat(stat), Some(Stat { is_zombie: false, start_time: 4242 }));
        let zombie = parse_stat("7 (a) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1 1");
        assert_eq!(zombie, Some(Stat { is_zombie: true, start_time: 4242 }));
        assert_eq!(parse_stat("7"), None);
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(start_time(own).expect("read").is_some());
        assert_eq!(start_time(i32::MAX).expect("read"), None);
        assert_eq!(boot_id().expect("read").len(), 36);
        assert!(super::since_boot().expect("read") > std::time::Duration::ZERO);
    }

    #[test]
    fn a_process_has_ended_once_it_is_killed_and_not_before_whatever_its_number_means_later() {
        let log = tempfile::tempfile().expect("a file");
        let mut child = spawn_detached(Path::new("sleep"), &[OsStr::new("1000")], log).expect("sleep starts");
        let pid = i32::try_from(child.id()).expect("a pid");
        let start = start_time(pid).expect("read").expect("it runs");
        assert!(!wait_for_end(pid, start, Duration::ZERO).expect("asked"));
        assert!(wait_for_end(pid, start + 1, Duration::ZERO).expect("asked"), "that was another process");
        child.kill().expect("killed");
        assert!(wait_for_end(pid, start, Duration::from_secs(10)).expect("asked"), "not fetched yet, and over");
        child.wait().expect("it ends");
        assert!(wait_for_end(pid, start, Duration::ZERO).expect("asked"));
    }
}
