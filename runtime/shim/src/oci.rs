//! Containers by libcontainer, each made by a helper process.
//!
//! libcontainer clones without exec, which is sound in a single-threaded process only, touches megabytes of program and heap that a
//! waiting shim has no use for, and changes the process: its working directory, its dumpable flag. All of that happens in a
//! fork of the shim, which tells the outcome and ends; the new process becomes the shim's child, since the shim adopts orphans.
//! Helpers of several containers work at the same time.

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use oci_spec::runtime::{Process, Spec};

use crate::executor::{Executor, ExecutorError, Making, Plan, Spawned, Stdio};
use crate::helper::Helper;
use crate::workload::Workload;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// The executor that is linked into the shim.
#[derive(Debug)]
pub(crate) struct Libcontainer {
    directory: PathBuf,
    bundles: PathBuf,
    states: PathBuf,
}

impl Libcontainer {
    /// Keeps bundles, states and sockets in `directory`, which is the working directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), bundles: directory.join("bundles"), states: directory.join("states") }
    }

    fn builder(&self, id: &str, workload: Workload, streams: Streams) -> Result<ContainerBuilder, Source> {
        fs::create_dir_all(&self.states)?;
        let builder = ContainerBuilder::new(id.to_owned(), SyscallType::default())
            .with_root_path(&self.states)?
            .with_executor(workload)
            .validate_id()?;
        Ok(match streams {
            Streams::Pipes { stdin, stdout, stderr } => {
                builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr)
            }
            Streams::Console(socket) => builder.with_console_socket(Some(socket)),
        })
    }

    fn begin_create(&self, id: &str, plan: Plan<'_, Spec>, stdio: Stdio) -> Result<(Helper, Option<Console>), Source> {
        let (streams, console) = self.streams(id, stdio)?;
        let helper = Helper::start(|| {
            let (spec, workload) = plan()?;
            let bundle = self.bundle(id);
            write_json(&bundle.join("config.json"), &spec)?;
            let builder = self.builder(id, workload, streams)?;
            let container = builder.as_init(&bundle).with_systemd(false).with_detach(true).build()?;
            // the type is of another version of `nix` than this crate's
            Ok(container.pid().ok_or("no process")?.as_raw())
        })?;
        Ok((helper, console))
    }

    fn begin_exec(&self, id: &str, plan: Plan<'_, Process>, stdio: Stdio) -> Result<(Helper, Option<Console>), Source> {
        let (streams, console) = self.streams(id, stdio)?;
        let helper = Helper::start(|| {
            let (process, workload) = plan()?;
            let file = self.directory.join("exec.json");
            write_json(&file, &process)?;
            let builder = self.builder(id, workload, streams)?;
            let built = builder.as_tenant().with_process(Some(&file)).with_detach(true).build();
            // Read by now; a failure to remove it would cost one small file.
            let _ = fs::remove_file(&file);
            self.remove_sockets_of_execs(id)?;
            Ok(built?.as_raw())
        })?;
        Ok((helper, console))
    }

    /// The process's side of its streams, and where its terminal will arrive.
    fn streams(&self, id: &str, stdio: Stdio) -> io::Result<(Streams, Option<Console>)> {
        match stdio {
            Stdio::Pipes { stdin, stdout, stderr } => Ok((Streams::Pipes { stdin, stdout, stderr }, None)),
            Stdio::Terminal => {
                let console = Console::open(&self.directory, id)?;
                Ok((Streams::Console(console.path.clone()), Some(console)))
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

impl Executor for Libcontainer {
    fn create(&self, id: &str, plan: Plan<'_, Spec>, stdio: Stdio) -> Result<Box<dyn Making>, ExecutorError> {
        let failed = |source| ExecutorError::Create { id: id.into(), source };
        let (helper, console) = self.begin_create(id, plan, stdio).map_err(failed)?;
        Ok(Box::new(Underway { id: id.to_owned(), helper, console }))
    }

    fn start(&self, id: &str) -> Result<(), ExecutorError> {
        let failed = |source| ExecutorError::Start { id: id.into(), source };
        let state = self.states.join(id);
        let helper = Helper::start(|| {
            Container::load(state)?.start()?;
            Ok(0)
        });
        helper.and_then(Helper::finish).map(drop).map_err(|error| failed(error.into()))
    }

    fn exec(&self, id: &str, plan: Plan<'_, Process>, stdio: Stdio) -> Result<Spawned, ExecutorError> {
        let failed = |source| ExecutorError::Start { id: id.into(), source };
        let (helper, console) = self.begin_exec(id, plan, stdio).map_err(failed)?;
        let pid = helper.finish().map_err(|error| failed(error.into()))?;
        let terminal = take_terminal(id, console)?;
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

/// A container's first process on its way.
struct Underway {
    id: String,
    helper: Helper,
    console: Option<Console>,
}

impl Making for Underway {
    fn finish(self: Box<Self>) -> Result<Spawned, ExecutorError> {
        let Self { id, helper, console } = *self;
        let made = helper.finish();
        let pid = made.map_err(|error| ExecutorError::Create { id: id.clone(), source: error.into() })?;
        let terminal = take_terminal(&id, console)?;
        Ok(Spawned { pid, terminal })
    }
}

/// What the new process gets.
enum Streams {
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    Console(PathBuf),
}

/// The socket over which libcontainer hands over a terminal.
struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    fn open(directory: &Path, id: &str) -> io::Result<Self> {
        let name = format!("console-{id}.sock");
        ignore_missing(fs::remove_file(&name))?;
        // relative to the working directory, which is the pod's: a socket's path is limited to 108 bytes
        Ok(Self { listener: UnixListener::bind(&name)?, path: directory.join(name) })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // what is left is removed before the next one and with the pod
        let _ = fs::remove_file(&self.path);
    }
}

fn take_terminal(id: &str, console: Option<Console>) -> Result<Option<OwnedFd>, ExecutorError> {
    let taken = console.map(|console| receive_terminal(&console.listener)).transpose();
    taken.map_err(|source| ExecutorError::Terminal { id: id.into(), source })
}

/// Takes the terminal from the socket, where the new process has put it before it was ready.
fn receive_terminal(listener: &UnixListener) -> io::Result<OwnedFd> {
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
            return Ok(unsafe { OwnedFd::from_raw_fd(*descriptor) });
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Source> {
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, serde_json::to_vec(value)?)
    };
    write().map_err(|error| format!("cannot write `{}`: {error}", path.display()).into())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
