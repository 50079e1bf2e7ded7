//! A real shim with a fake netd: a directory, a cgroup and an image of its own for each pod. Everything is looked at from
//! outside, and nothing may be left of a pod that has ended.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use minipod_protocol::frame::{self, Channel};
use minipod_protocol::line::{self, Connection};
use minipod_protocol::netd::{Address, Attached, Code, Dns, Envelope, Error, Request as NetdRequest, Response};
use minipod_protocol::shim::{
    AttachStreams, Container, ContainerState, Exec, Exit, Phase, Reply, Request, RestartPolicy, Sandbox, State,
    Terminated, files,
};

use crate::testing;

/// Everything that is waited for comes within this time, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The capabilities that the usual runtimes give by default.
pub(crate) const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Waits until the probe gives something.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A netd that gives every pod the same address.
pub(crate) struct FakeNetd {
    pub(crate) socket: PathBuf,
    pub(crate) heard: Arc<Mutex<Vec<String>>>,
    /// attaches that are refused before one is granted
    pub(crate) refusals: Arc<AtomicU32>,
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl FakeNetd {
    pub(crate) fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("bound");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let refusals = Arc::new(AtomicU32::new(0));
        let held = Arc::new((Mutex::new(false), Condvar::new()));
        let (heard_by, refused_by, held_by) = (Arc::clone(&heard), Arc::clone(&refusals), Arc::clone(&held));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("accepted");
                let (heard, refusals, held) = (Arc::clone(&heard_by), Arc::clone(&refused_by), Arc::clone(&held_by));
                thread::spawn(move || answer(stream, &heard, &refusals, &held));
            }
        });
        Self { socket: socket.to_owned(), heard, refusals, held }
    }

    /// Answers no attach until it is let go.
    pub(crate) fn hold_attach(&self) {
        *self.held.0.lock().expect("unpoisoned") = true;
    }

    pub(crate) fn let_go(&self) {
        *self.held.0.lock().expect("unpoisoned") = false;
        self.held.1.notify_all();
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("unpoisoned").clone()
    }
}

fn answer(mut stream: UnixStream, heard: &Mutex<Vec<String>>, refusals: &AtomicU32, held: &(Mutex<bool>, Condvar)) {
    let mut request = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).expect("read") == 1 && byte[0] != b'\n' {
        request.push(byte[0]);
    }
    let Ok(envelope) = line::decode::<Envelope>(&request) else { return };
    let response = match envelope.request {
        NetdRequest::Attach(attach) => {
            heard.lock().expect("unpoisoned").push(format!("attach {}", attach.sandbox.container_id));
            let lock = held.0.lock().expect("unpoisoned");
            drop(held.1.wait_while(lock, |held| *held).expect("unpoisoned"));
            let refused = refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
            if refused {
                Response::Error(Error {
                    code: Code::TryAgainLater,
                    message: "node range `10.244.1.0/24` has no free address".into(),
                    details: Vec::new(),
                })
            } else {
                let status = Command::new("nsenter")
                    .arg(format!("--net={}", attach.netns.display()))
                    .args(["ip", "link", "set", "lo", "up"])
                    .status()
                    .expect("nsenter");
                assert!(status.success());
                Response::Attached(attached())
            }
        }
        NetdRequest::Detach(sandbox) => {
            heard.lock().expect("unpoisoned").push(format!("detach {}", sandbox.container_id));
            Response::Done
        }
        other => panic!("a shim asks no {other:?}"),
    };
    stream.write_all(&line::encode(&response).expect("json")).expect("written");
}

pub(crate) fn attached() -> Attached {
    Attached {
        host_ifname: "mpod0".into(),
        host_mac: "02:00:00:00:00:01".into(),
        mac: "02:00:00:00:00:02".into(),
        mtu: 1500,
        addresses: vec![Address {
            address: "10.244.1.7".parse().expect("address"),
            gateway: "169.254.1.1".parse().expect("address"),
        }],
        dns: Dns {
            nameservers: vec!["10.96.0.10".parse().expect("address")],
            search: vec!["default.svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        },
    }
}

/// A pod that is being prepared or runs.
pub(crate) struct Pod {
    pub(crate) directory: PathBuf,
    pub(crate) sandbox: Sandbox,
    pub(crate) netd: FakeNetd,
    shim: Option<Child>,
    keep: tempfile::TempDir,
}

impl Pod {
    /// A pod without containers, not started.
    pub(crate) fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "the shim's tests run as root: `sudo ./scripts/test`");
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let keep = tempfile::tempdir().expect("directory");
        let directory = keep.path().join("pod");
        fs::create_dir(&directory).expect("directory");
        let netd = FakeNetd::start(&keep.path().join("netd.sock"));
        let sandbox = Sandbox {
            uid: format!("uid-{}-{number}", std::process::id()),
            hostname: "web-host".into(),
            netd_socket: Some(netd.socket.clone()),
            cgroup: format!("/minipod-test-{}-{number}/pod", std::process::id()),
            restart_policy: RestartPolicy::Never,
            ..testing::sandbox()
        };
        make_image(&keep.path().join("image"));
        Self { directory, sandbox, netd, shim: None, keep }
    }

    /// A container that runs this script with busybox's shell.
    pub(crate) fn container(&self, name: &str, script: &str) -> Container {
        Container {
            layers: vec![self.keep.path().join("image")],
            directory: self.keep.path().join("containers").join(name),
            log_directory: self.keep.path().join("logs").join(name),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["PATH=/bin".into(), "COLOUR=blue".into()],
            capabilities: DEFAULT_CAPABILITIES.map(String::from).to_vec(),
            ..testing::container(name)
        }
    }

    /// Adds a container with this script.
    pub(crate) fn with(mut self, name: &str, script: &str) -> Self {
        let container = self.container(name, script);
        self.sandbox.containers.push(container);
        self
    }

    /// Changes the last container.
    pub(crate) fn tuned(mut self, change: impl FnOnce(&mut Container)) -> Self {
        change(self.sandbox.containers.last_mut().expect("a container"));
        self
    }

    /// Starts the shim.
    pub(crate) fn start(mut self) -> Self {
        fs::write(self.directory.join(files::SANDBOX), serde_json::to_vec(&self.sandbox).expect("json"))
            .expect("written");
        let child = Command::new(env!("CARGO_BIN_EXE_minipod-shim"))
            .arg(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the shim starts");
        self.shim = Some(child);
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.shim.as_ref().expect("started").id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(files::SOCKET)
    }

    pub(crate) fn connect(&self) -> Connection {
        wait_for("the shim's socket", || Connection::open(&self.socket(), Some(PATIENCE)).ok())
    }

    pub(crate) fn ask(&self, request: &Request) -> Reply {
        let mut connection = self.connect();
        connection.send(request).expect("sent");
        connection.receive().expect("answered")
    }

    pub(crate) fn stop(&self, grace_period_seconds: u64) {
        assert_eq!(self.ask(&Request::Stop { grace_period_seconds }), Reply::Done);
    }

    /// The state in the file, if it has been written.
    pub(crate) fn state(&self) -> Option<State> {
        serde_json::from_slice(&fs::read(self.directory.join(files::STATE)).ok()?).ok()
    }

    /// Waits until the state is such.
    pub(crate) fn wait_state(&self, what: &str, accept: impl Fn(&State) -> bool) -> State {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state();
            if let Some(state) = state.clone().filter(|state| accept(state)) {
                return state;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}; {state:#?}\n{}", self.shim_log());
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    pub(crate) fn wait_running(&self, name: &str) -> i32 {
        let state = self.wait_state(&format!("{name} runs"), |state| running(state, name).is_some());
        running(&state, name).expect("running")
    }

    /// Waits until the pod and the shim have ended, and checks that nothing is left of them.
    pub(crate) fn wait_end(&mut self) -> State {
        let state = self.wait_state("the pod ends", |state| state.finished);
        let mut shim = self.shim.take().expect("started");
        let status = wait_for("the shim exits", || shim.try_wait().expect("waited"));
        assert!(status.success(), "{status}\n{}", self.shim_log());
        self.assert_nothing_is_left();
        state
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(
            cgroups_named(self.sandbox.cgroup.trim_start_matches('/')),
            Vec::<PathBuf>::new(),
            "{}",
            self.shim_log()
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let own = self.keep.path().display().to_string();
        assert!(!mounts.contains(&own), "mounts are left:\n{mounts}");
        assert!(!self.socket().exists(), "the socket is left");
    }

    pub(crate) fn shim_log(&self) -> String {
        fs::read_to_string(self.directory.join(files::LOG)).unwrap_or_default()
    }

    /// The texts of the log's lines.
    pub(crate) fn log(&self, container: &str, attempt: u32) -> Vec<String> {
        let path = self.keep.path().join("logs").join(container).join(format!("{attempt}.log"));
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned()).collect()
    }

    pub(crate) fn raw_log(&self, container: &str, attempt: u32) -> String {
        fs::read_to_string(self.keep.path().join("logs").join(container).join(format!("{attempt}.log")))
            .unwrap_or_default()
    }

    pub(crate) fn wait_log(&self, container: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log(container, 0).iter().any(|line| line == text) {
            assert!(Instant::now() < deadline, "no `{text}` in {:?}\n{}", self.log(container, 0), self.shim_log());
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Runs a command in a container to its end: its output, its errors and its exit code.
    pub(crate) fn exec(&self, container: &str, args: &[&str]) -> (String, String, i32) {
        let mut session = self.begin_exec(&exec(container, args)).expect("started");
        session.finish()
    }

    pub(crate) fn begin_exec(&self, exec: &Exec) -> Result<Session, minipod_protocol::shim::Failure> {
        self.begin(&Request::Exec(exec.clone()))
    }

    pub(crate) fn begin_attach(&self, container: &str) -> Session {
        let attach = AttachStreams { container: container.into(), stdin: true, size: None };
        self.begin(&Request::Attach(attach)).expect("attached")
    }

    fn begin(&self, request: &Request) -> Result<Session, minipod_protocol::shim::Failure> {
        let mut connection = self.connect();
        connection.send(request).expect("sent");
        match connection.receive().expect("answered") {
            Reply::Started => {
                let (early, stream) = connection.into_stream();
                Ok(Session { early: std::io::Cursor::new(early), stream, stdout: Vec::new(), stderr: Vec::new() })
            }
            Reply::Error(failure) => Err(failure),
            Reply::Done => panic!("no session"),
        }
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.keep.path().join("image")
    }

    /// Kills what a failed test has left, and its cgroups.
    fn kill_everything(&mut self) {
        if let Some(mut shim) = self.shim.take() {
            let _ = shim.kill();
            let _ = shim.wait();
        }
        let parent = self.sandbox.cgroup.trim_start_matches('/').split('/').next().expect("a name").to_owned();
        for group in cgroups_named(&parent) {
            let deadline = Instant::now() + PATIENCE;
            while remove_cgroup(&group).is_err() && Instant::now() < deadline {
                thread::park_timeout(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.kill_everything();
    }
}

fn remove_cgroup(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)?.flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&entry.path())?;
    }
    for pid in fs::read_to_string(group.join("cgroup.procs"))?.lines() {
        let pid = nix::unistd::Pid::from_raw(pid.parse().expect("number"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
    }
    fs::remove_dir(group)
}

/// The cgroups of that path, in every tree.
pub(crate) fn cgroups_named(path: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let trees = mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let groups = trees.map(|tree| Path::new(tree).join(path)).filter(|group| group.exists());
    groups.collect()
}

/// A session's client.
pub(crate) struct Session {
    early: std::io::Cursor<Vec<u8>>,
    pub(crate) stream: UnixStream,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Session {
    pub(crate) fn send(&mut self, channel: Channel, payload: &[u8]) {
        frame::write(&mut self.stream, channel, payload).expect("sent");
    }

    /// Takes one frame; the exit, if it is that.
    pub(crate) fn step(&mut self) -> Option<Exit> {
        let (channel, payload) = frame::read(&mut (&mut self.early).chain(&mut self.stream)).expect("a frame");
        match channel {
            Channel::Stdout => self.stdout.extend(payload),
            Channel::Stderr => self.stderr.extend(payload),
            Channel::Exit => return Some(serde_json::from_slice(&payload).expect("exit")),
            other => panic!("unexpected {other:?}"),
        }
        None
    }

    pub(crate) fn read_until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.stdout).contains(text) {
            assert_eq!(self.step(), None, "ended before `{text}`: {}", String::from_utf8_lossy(&self.stdout));
        }
    }

    pub(crate) fn finish(&mut self) -> (String, String, i32) {
        loop {
            if let Some(exit) = self.step() {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                return (text(&self.stdout), text(&self.stderr), exit.code);
            }
        }
    }
}

/// An exec without terminal and input.
pub(crate) fn exec(container: &str, args: &[&str]) -> Exec {
    Exec {
        container: container.into(),
        args: args.iter().map(ToString::to_string).collect(),
        tty: false,
        stdin: false,
        size: None,
        env: std::collections::BTreeMap::new(),
    }
}

pub(crate) fn container_state<'a>(state: &'a State, name: &str) -> &'a ContainerState {
    let mut all = state.init_containers.iter().chain(&state.containers);
    all.find(|container| container.name == name).expect("a container of that name")
}

pub(crate) fn running(state: &State, name: &str) -> Option<i32> {
    match container_state(state, name).phase {
        Phase::Running { pid, .. } => Some(pid),
        _ => None,
    }
}

pub(crate) fn terminated(state: &State, name: &str) -> Terminated {
    match &container_state(state, name).phase {
        Phase::Terminated(terminated) => terminated.clone(),
        other => panic!("{name} has not ended: {other:?}"),
    }
}

fn make_image(image: &Path) {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new).find(|path| path.exists());
    let busybox = busybox.expect("busybox is needed: apt-get install busybox-static");
    for directory in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(image.join(directory)).expect("directory");
    }
    fs::copy(busybox, image.join("bin/busybox")).expect("copied");
    let list = Command::new(busybox).arg("--list").output().expect("busybox runs").stdout;
    for applet in String::from_utf8(list).expect("text").lines().filter(|name| *name != "busybox") {
        symlink("busybox", image.join("bin").join(applet)).expect("linked");
    }
    fs::write(image.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
        .expect("written");
}
