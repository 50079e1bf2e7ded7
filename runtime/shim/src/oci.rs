//! Containers by libcontainer.
//!
//! Only sound in a single-threaded process: libcontainer clones without exec. It changes the working directory for moments and
//! the process's dumpable flag for good; the flag is set back, so that netd can look into the shim's namespaces.

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use oci_spec::runtime::{Process, Spec};

use crate::executor::{Executor, ExecutorError, Spawned, Stdio};
use crate::workload::Workload;

/// The socket over which libcontainer hands over a terminal.
const CONSOLE: &str = "console.sock";

/// The executor that is linked into the shim.
#[derive(Debug)]
pub(crate) struct Libcontainer {
    bundles: PathBuf,
    states: PathBuf,
    console: PathBuf,
    process: PathBuf,
}

impl Libcontainer {
    /// Keeps bundles, states and the console socket in `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            bundles: directory.join("bundles"),
            states: directory.join("states"),
            console: directory.join(CONSOLE),
            process: directory.join("exec.json"),
        }
    }

    fn builder(&self, id: &str, workload: Workload, stdio: Stdio) -> Result<Prepared, LibcontainerError> {
        fs::create_dir_all(&self.states).map_err(LibcontainerError::OtherIO)?;
        let builder = ContainerBuilder::new(id.to_owned(), SyscallType::default())
            .with_root_path(&self.states)?
            .with_executor(workload)
            .validate_id()?;
        match stdio {
            Stdio::Pipes { stdin, stdout, stderr } => {
                let builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
                Ok(Prepared { builder, listener: None })
            }
            Stdio::Terminal => {
                ignore_missing(fs::remove_file(&self.console)).map_err(LibcontainerError::OtherIO)?;
                // relative to the working directory, which is the pod's: a socket's path is limited to 108 bytes
                let listener = UnixListener::bind(CONSOLE).map_err(LibcontainerError::OtherIO)?;
                let builder = builder.with_console_socket(Some(&self.console));
                Ok(Prepared { builder, listener: Some(listener) })
            }
        }
    }

    fn remove_sockets_of_execs(&self, id: &str) -> io::Result<()> {
        for entry in fs::read_dir(self.states.join(id))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("tenant-") {
                ignore_missing(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }
}

struct Prepared {
    builder: ContainerBuilder,
    listener: Option<UnixListener>,
}

impl Executor for Libcontainer {
    fn create(&self, id: &str, spec: &Spec, workload: Workload, stdio: Stdio) -> Result<Spawned, ExecutorError> {
        let bundle = self.bundle(id);
        let write = || -> io::Result<()> {
            fs::create_dir_all(&bundle)?;
            fs::write(bundle.join("config.json"), serde_json::to_vec(spec)?)
        };
        write().map_err(|source| ExecutorError::Write { id: id.into(), source })?;
        let create = |error: LibcontainerError| ExecutorError::Create { id: id.into(), source: Box::new(error) };
        let Prepared { builder, listener } = self.builder(id, workload, stdio).map_err(create)?;
        let built = builder.as_init(&bundle).with_systemd(false).with_detach(true).build();
        stay_dumpable();
        let container = built.map_err(create)?;
        // the type is of another version of `nix` than this crate's
        let Some(pid) = container.pid() else { return Err(create(LibcontainerError::Other("no process".into()))) };
        let pid = pid.as_raw();
        let terminal =
            receive_terminal(listener).map_err(|source| ExecutorError::Terminal { id: id.into(), source })?;
        Ok(Spawned { pid, terminal })
    }

    fn start(&self, id: &str) -> Result<(), ExecutorError> {
        let start = |error: LibcontainerError| ExecutorError::Start { id: id.into(), source: Box::new(error) };
        Container::load(self.states.join(id)).map_err(start)?.start().map_err(start)
    }

    fn exec(&self, id: &str, process: &Process, workload: Workload, stdio: Stdio) -> Result<Spawned, ExecutorError> {
        let write = || fs::write(&self.process, serde_json::to_vec(process)?);
        write().map_err(|source| ExecutorError::Write { id: id.into(), source })?;
        let start = |error: LibcontainerError| ExecutorError::Start { id: id.into(), source: Box::new(error) };
        let Prepared { builder, listener } = self.builder(id, workload, stdio).map_err(start)?;
        let built = builder.as_tenant().with_process(Some(&self.process)).with_detach(true).build();
        stay_dumpable();
        let cleaned = self.remove_sockets_of_execs(id);
        let pid = built.map_err(start)?.as_raw();
        let terminal = cleaned.and_then(|()| receive_terminal(listener));
        let terminal = terminal.map_err(|source| ExecutorError::Terminal { id: id.into(), source })?;
        Ok(Spawned { pid, terminal })
    }

    fn forget(&self, id: &str) -> io::Result<()> {
        ignore_missing(fs::remove_dir_all(self.states.join(id)))?;
        ignore_missing(fs::remove_dir_all(self.bundle(id)))
    }

    fn bundle(&self, id: &str) -> PathBuf {
        self.bundles.join(id)
    }
}

/// Takes the terminal from the socket, where the new process has put it before it was ready.
fn receive_terminal(listener: Option<UnixListener>) -> io::Result<Option<OwnedFd>> {
    let Some(listener) = listener else { return Ok(None) };
    let (stream, _) = listener.accept()?;
    let mut name = [0; 64];
    let mut buffers = [IoSliceMut::new(&mut name)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let Some(descriptor) = descriptors.first()
        {
            #[expect(unsafe_code, reason = "a descriptor that arrived in a message is taken over")]
            // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(*descriptor) }));
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn stay_dumpable() {
    // without it netd could not open this process's namespaces where it lacks CAP_SYS_PTRACE; nothing else depends on it
    let _ = nix::sys::prctl::set_dumpable(true);
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
