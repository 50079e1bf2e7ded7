//! The first steps: into the background, own namespaces, own mounts, own host name.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use minipod_protocol::shim::{Sandbox, State, files};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{setgroups, sethostname, setsid};

use crate::timestamp::rfc3339_nanos;

/// Writes a line to the shim's log.
pub(crate) fn note(message: &str) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // a log that cannot be written has nobody left to be told
    drop(writeln!(io::stderr(), "{} {message}", rfc3339_nanos(now)));
}

/// Leaves the starter's session, descriptors, groups and working directory.
pub(super) fn enter_background(directory: &Path) -> anyhow::Result<()> {
    std::env::set_current_dir(directory).context("cannot enter the pod's directory")?;
    let log = File::options().create(true).append(true).open(files::LOG).context("cannot open shim.log")?;
    let null = File::open("/dev/null").context("cannot open /dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&log)?;
    nix::unistd::dup2_stderr(&log)?;
    drop((log, null));
    close_inherited();
    // EPERM: the starter has already made a session for this process
    let _ = setsid();
    setgroups(&[]).context("cannot leave the starter's groups; the shim runs as root")?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    prctl::set_child_subreaper(true).context("cannot adopt orphans")
}

fn close_inherited() {
    #[expect(unsafe_code, reason = "close_range(2) has no safe wrapper")]
    // SAFETY: only descriptors that the starter left open are closed: this program has not yet opened any above 2.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
    }
}

/// What the usual runtimes set in a pod's network: any user may bind low ports and send echo requests.
fn open_to_users() {
    for (file, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")] {
        if let Err(error) = fs::write(Path::new("/proc/sys/net/ipv4").join(file), value) {
            note(&format!("cannot set net.ipv4.{file}: {error}"));
        }
    }
}

/// Signals are read, not delivered.
pub(super) fn take_signals() -> anyhow::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        mask.add(signal);
    }
    mask.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("cannot read signals")
}

/// The socket in the working directory; the name is relative, since a socket's path is limited to 108 bytes.
pub(super) fn listen() -> anyhow::Result<UnixListener> {
    match fs::remove_file(files::SOCKET) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context("cannot remove the old socket");
        }
        _ => {}
    }
    let before = umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let listener = UnixListener::bind(files::SOCKET).context("cannot listen on shim.sock");
    umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Makes the pod's namespaces, which live as long as this process or one in them, and returns the pod's `/dev/shm`.
pub(super) fn isolate(directory: &Path, sandbox: &Sandbox) -> anyhow::Result<PathBuf> {
    let mut namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if sandbox.netd_socket.is_some() {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    unshare(namespaces).context("cannot make the pod's namespaces; the shim runs as root")?;
    if sandbox.netd_socket.is_some() {
        open_to_users();
    }
    // what is unmounted on the node goes here too; what is mounted here is seen nowhere else
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .context("cannot make the pod's mounts private")?;
    sethostname(&sandbox.hostname).with_context(|| format!("cannot set the host name `{}`", sandbox.hostname))?;
    let shm = directory.join("shm");
    fs::create_dir_all(&shm).context("cannot make the pod's /dev/shm")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("shm"), &shm, Some("tmpfs"), flags, Some("mode=1777,size=65536k"))
        .context("cannot mount the pod's /dev/shm")?;
    Ok(shm)
}

/// Whom the kernel kills first when memory is short: containers count as any process, the shim, which holds the pod together,
/// comes last. A process inherits the value, so it is `shielded` only while none is made. Where the shim may not lower the
/// value (no `CAP_SYS_RESOURCE`), it stays as it is.
pub(super) fn shield_from_oom_killer(shielded: bool) {
    let _ = fs::write("/proc/self/oom_score_adj", if shielded { "-999" } else { "0" });
}

/// The start time of this process in clock ticks after boot: field 22 of `/proc/self/stat` (proc(5)).
pub(super) fn own_start_time() -> anyhow::Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // the second field is in parentheses and may contain anything
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let field = fields.split_whitespace().nth(19).context("/proc/self/stat has too few fields")?;
    field.parse().context("the start time in /proc/self/stat is no number")
}

/// Writes `state.json`.
pub(super) fn write_state(directory: &Path, state: &State) -> anyhow::Result<()> {
    let text = serde_json::to_vec(state)?;
    super::replace_file(&directory.join(files::STATE), &text).context("cannot write state.json")
}

/// Makes reads and writes return instead of wait.
pub(super) fn set_nonblocking(descriptor: impl AsFd) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL)?);
    fcntl(&descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
