//! A node of its own for each test: a network namespace with directories, and pods in further namespaces.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use minipod_kernel::netlink::{AddressFlag, Request, Rtnl};
use minipod_kernel::netns::NetNs;
use minipod_protocol::netd::{Attach, Attached, Dns, Sandbox};
use netd::attach::{AttachError, Attacher, Swept};
use netd::hostnet::{Forwarding, HostNet};
use netd::ipam::Taken;
use netd::routes::Ranges;
use tempfile::TempDir;

pub(crate) struct Node {
    pub(crate) dir: TempDir,
}

/// Runs `test` on a node: a namespace with an address of each family on its loopback device and no default route.
pub(crate) fn on_a_node(test: impl FnOnce(&Node) + Send) {
    let node = Node { dir: tempfile::tempdir().expect("a directory") };
    let ns = NetNs::create().expect("a network namespace of its own; run as root");
    ns.run(|| {
        let mut requests = vec![Request::set_up(1)];
        for address in ["192.0.2.1", "2001:db8::1"] {
            requests.push(Request::add_address(1, IpNet::from(ip(address)), AddressFlag::Ordinary, 0));
        }
        let mut rtnl = Rtnl::open().expect("netlink");
        rtnl.send(requests).expect("the node's addresses");
        assert!(rtnl.wait_until_local(ip("2001:db8::1"), Duration::from_secs(5)).expect("looked up"));
        test(&node);
    })
    .expect("the test");
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn ranges() -> Ranges {
    let nets = |texts: [&str; 2]| texts.iter().map(|text| text.parse().expect("a range")).collect();
    Ranges {
        node: nets(["10.244.0.0/24", "fd00:10:244::/64"]),
        cluster: nets(["10.244.0.0/16", "fd00:10:244::/48"]),
        services: nets(["10.96.0.0/16", "fd00:10:96::/112"]),
    }
}

pub(crate) fn now() -> Duration {
    Duration::from_secs(1000)
}

impl Node {
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A node that is ready, with one pod on it.
    pub(crate) fn with_pod(&self) -> (HostNet, Attacher, Pod, Attached) {
        let mut host = self.host();
        let (mut attacher, _) = self.open();
        let pod = Pod::new("one");
        let attached = pod.attach(&mut attacher).expect("attached");
        host.ensure(&attacher.pod_routes()).expect("routes");
        (host, attacher, pod, attached)
    }

    pub(crate) fn open(&self) -> (Attacher, Swept) {
        Attacher::open(&self.run_dir(), &self.state_dir(), &ranges().node, 1400, now()).expect("attacher")
    }

    pub(crate) fn host(&self) -> HostNet {
        let dns = [ip("10.96.0.10"), ip("fd00:10:96::a")];
        std::fs::create_dir_all(self.state_dir()).expect("a directory");
        let host = HostNet::open(&self.state_dir(), &ranges(), &dns).expect("the node's network");
        let forwarding = Forwarding::open(&self.state_dir(), host.families()).expect("settings");
        assert_eq!(forwarding.because_of_us().expect("settings"), host.forwarding_switched_on());
        forwarding.switch_on().expect("forwarding");
        host
    }
}

/// A pod's namespace, alive as long as the value.
pub(crate) struct Pod {
    pub(crate) ns: NetNs,
    pub(crate) id: String,
}

impl Pod {
    pub(crate) fn new(id: &str) -> Self {
        Self { ns: NetNs::create().expect("a namespace"), id: id.into() }
    }

    pub(crate) fn sandbox(&self) -> Sandbox {
        Sandbox { container_id: self.id.clone(), ifname: "eth0".into() }
    }

    pub(crate) fn request(&self) -> Attach {
        use std::os::fd::{AsFd as _, AsRawFd as _};
        let path = format!("/proc/{}/fd/{}", std::process::id(), self.ns.as_fd().as_raw_fd());
        Attach {
            sandbox: self.sandbox(),
            netns: path.into(),
            pod: None,
            labels: std::collections::BTreeMap::new(),
            addresses: Vec::new(),
            mac: None,
        }
    }

    pub(crate) fn attach(&self, attacher: &mut Attacher) -> Result<Attached, AttachError> {
        attach(attacher, &self.request())
    }
}

pub(crate) fn attach(attacher: &mut Attacher, request: &Attach) -> Result<Attached, AttachError> {
    let prepared = attacher.prepare(request, &Taken::new(), now())?;
    attacher.connect(prepared, Dns::default(), now())
}

/// A UDP socket that waits a bounded time.
pub(crate) fn socket(address: IpAddr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((address, port)).expect("bind");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    socket
}

/// Sends from here to `server`, gets an answer, and says whom the server saw.
pub(crate) fn exchange(server: &UdpSocket, to: SocketAddr) -> io::Result<IpAddr> {
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let client = socket(ip(any), 0);
    client.connect(to)?;
    client.send(b"hello")?;
    let mut buffer = [0; 16];
    let (length, from) = server.recv_from(&mut buffer)?;
    server.send_to(&buffer[..length], from)?;
    client.recv(&mut buffer)?;
    Ok(from.ip())
}
