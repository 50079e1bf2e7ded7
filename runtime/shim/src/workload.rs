//! The last steps of a container's process before its program: signals, seccomp, capabilities, `execve`.
//!
//! Runs in the process that libcontainer made, for a container's first process and for an exec'd one alike. The filter is
//! loaded here, since libcontainer loads none for an exec'd process; this needs `CAP_SYS_ADMIN` where `no_new_privs` is not
//! set, so the process keeps a few capabilities until here and gives them up right after (no program of the container has run
//! yet). What goes wrong is written to a pipe that a successful `execve` closes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, IsTerminal as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use caps::{CapSet, Capability, CapsHashSet};
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use oci_spec::runtime::Spec;

use crate::seccomp::Program;

/// What a process becomes.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// the capabilities that the container has, with `CAP_`
    pub(crate) capabilities: Vec<String>,
    /// the filter, if the container has one
    pub(crate) seccomp: Option<Rc<Program>>,
    /// in order, as the process shall see it
    pub(crate) env: Vec<String>,
    /// where a failure is reported; closed by `execve`
    pub(crate) report: Rc<OwnedFd>,
    /// `HOME` from the container's `/etc/passwd`, once libcontainer has looked it up
    pub(crate) home: RefCell<Option<String>>,
}

/// Why a program was not executed.
#[derive(Debug, thiserror::Error)]
enum ExecuteError {
    #[error("the container has no command")]
    NoCommand,
    #[error("exec: \"{0}\": executable file not found in $PATH; give a program that the image has")]
    NotInPath(String),
    #[error("exec: \"{0}\": stat {0}: no such file or directory")]
    Missing(String),
    #[error("exec: \"{0}\": permission denied")]
    NotExecutable(String),
    #[error("exec: \"{program}\": {}", explain(*cause))]
    Refused { program: String, cause: Errno },
    #[error("an argument or variable contains a zero byte")]
    ZeroByte(#[from] std::ffi::NulError),
    #[error("cannot load the seccomp filter: {0}")]
    Seccomp(io::Error),
    #[error("cannot give up capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    #[error("cannot reset signals: {0}")]
    Signals(Errno),
}

impl Executor for Workload {
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        // the program is looked for at the end, where its failure can be told from others
        Ok(())
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // `execve` is given the environment, which has an order and may name a variable twice
        self.home.replace(envs.get("HOME").cloned());
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let Err(error) = self.execute(spec);
        // nobody is left to be told when this fails
        let _ = nix::unistd::write(&*self.report, error.to_string().as_bytes());
        Err(ExecutorError::Other(error.to_string()))
    }
}

impl Workload {
    fn execute(&self, spec: &Spec) -> Result<std::convert::Infallible, ExecuteError> {
        let args = spec.process().as_ref().and_then(|process| process.args().as_ref());
        let args = args.filter(|args| !args.is_empty()).ok_or(ExecuteError::NoCommand)?;
        let program = find_program(&args[0], &self.env)?;
        let path = CString::new(program.into_os_string().into_vec())?;
        let arguments = args.iter().map(|arg| CString::new(arg.as_str())).collect::<Result<Vec<_>, _>>()?;
        let home = self.home.borrow().as_ref().map(|home| format!("HOME={home}"));
        let home = home.filter(|_| !has(&self.env, "HOME"));
        let env =
            self.env.iter().chain(&home).map(|entry| CString::new(entry.as_str())).collect::<Result<Vec<_>, _>>()?;

        reset_signals().map_err(ExecuteError::Signals)?;
        own_terminal();
        if let Some(program) = &self.seccomp {
            program.load().map_err(ExecuteError::Seccomp)?;
        }
        give_up_capabilities(&self.capabilities)?;
        nix::unistd::execve(&path, &arguments, &env)
            .map_err(|cause| ExecuteError::Refused { program: args[0].clone(), cause })
    }
}

/// The shim blocks signals and ignores SIGPIPE; a program begins with neither.
fn reset_signals() -> Result<(), Errno> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    #[expect(unsafe_code, reason = "sigaction(2) is unsafe for handlers; this sets none")]
    // SAFETY: the default disposition runs no code of ours.
    unsafe {
        sigaction(Signal::SIGPIPE, &default)?;
    }
    SigSet::empty().thread_set_mask()
}

/// Makes the terminal the user's own, so that a program that is not root can open it by name. Here, since the program may do so at
/// once.
fn own_terminal() {
    let terminal = io::stdin();
    if terminal.is_terminal() {
        // a terminal that stays root's works, except by name
        let _ = nix::unistd::fchown(&terminal, Some(nix::unistd::geteuid()), None);
    }
}

fn give_up_capabilities(keep: &[String]) -> Result<(), caps::errors::CapsError> {
    let keep: CapsHashSet = keep.iter().filter_map(|name| name.parse::<Capability>().ok()).collect();
    for capability in caps::read(None, CapSet::Bounding)?.difference(&keep) {
        caps::drop(None, CapSet::Bounding, *capability)?;
    }
    caps::clear(None, CapSet::Inheritable)?;
    let permitted = caps::read(None, CapSet::Permitted)?;
    let kept = permitted.intersection(&keep).copied().collect();
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// The program's path: as given where it has a slash, else the first executable file of that name in the container's `PATH`.
fn find_program(name: &str, env: &[String]) -> Result<PathBuf, ExecuteError> {
    if name.contains('/') {
        return match is_executable(Path::new(name)) {
            Ok(true) => Ok(PathBuf::from(name)),
            Ok(false) => Err(ExecuteError::NotExecutable(name.into())),
            Err(_) => Err(ExecuteError::Missing(name.into())),
        };
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
    let candidates = path.into_iter().flat_map(|path| path.split(':')).map(|directory| {
        let directory = if directory.is_empty() { "." } else { directory };
        Path::new(directory).join(name)
    });
    let found: Vec<(PathBuf, bool)> =
        candidates.filter_map(|path| is_executable(&path).ok().map(|executable| (path, executable))).collect();
    match found.iter().find(|(_, executable)| *executable) {
        Some((path, _)) => Ok(path.clone()),
        None => Err(ExecuteError::NotInPath(name.into())),
    }
}

fn is_executable(path: &Path) -> io::Result<bool> {
    let metadata = path.metadata()?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// What an error of `execve` usually means.
fn explain(cause: Errno) -> String {
    match cause {
        Errno::ENOENT => "no such file or directory (the interpreter or loader that the file names is missing)".into(),
        Errno::ENOEXEC => "exec format error (the file is for another architecture, or a script without `#!`)".into(),
        Errno::EACCES => "permission denied".into(),
        other => other.desc().to_lowercase(),
    }
}

/// The environment of a container's process: what is added replaces what is there; there is a `PATH`, with a terminal a
/// `TERM`.
pub(crate) fn environment<'a>(
    own: &[String],
    added: impl Iterator<Item = (&'a String, &'a String)>,
    tty: bool,
) -> Vec<String> {
    let mut env: Vec<String> = own.to_vec();
    for (name, value) in added {
        env.retain(|entry| entry.split('=').next() != Some(name));
        env.push(format!("{name}={value}"));
    }
    if !has(&env, "PATH") {
        env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    }
    if tty && !has(&env, "TERM") {
        env.push("TERM=xterm".into());
    }
    env
}

fn has(env: &[String], name: &str) -> bool {
    env.iter().any(|entry| entry.split('=').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{environment, find_program};

    #[test]
    fn a_program_is_found_as_a_shell_finds_it() {
        let directory = tempfile::tempdir().expect("directory");
        let (first, second) = (directory.path().join("1"), directory.path().join("2"));
        for (folder, mode) in [(&first, 0o644), (&second, 0o755)] {
            fs::create_dir(folder).expect("created");
            fs::write(folder.join("tool"), "").expect("written");
            fs::set_permissions(folder.join("tool"), fs::Permissions::from_mode(mode)).expect("mode");
        }
        let env = [format!("PATH={}:{}", first.display(), second.display())];
        assert_eq!(find_program("tool", &env).expect("found"), second.join("tool"));
        let missing = find_program("other", &env).expect_err("missing").to_string();
        assert_eq!(missing, "exec: \"other\": executable file not found in $PATH; give a program that the image has");
        let refused = find_program(&first.join("tool").display().to_string(), &env).expect_err("refused").to_string();
        assert!(refused.ends_with("permission denied"), "{refused}");
    }

    #[test]
    fn the_environment_is_the_containers_with_what_is_added() {
        let own = ["A=1".to_owned(), "B=2".to_owned(), "PATH=/bin".to_owned()];
        let added = BTreeMap::from([("A".to_owned(), "x=y".to_owned())]);
        assert_eq!(environment(&own, added.iter(), false), ["B=2", "PATH=/bin", "A=x=y"]);
        assert_eq!(environment(&own, BTreeMap::new().iter(), true), ["A=1", "B=2", "PATH=/bin", "TERM=xterm"]);
    }
}
