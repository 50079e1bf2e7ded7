//! Real packets through compiled rules: a node, its pods and two outside machines as network namespaces. Needs root.

#![expect(clippy::panic, reason = "a test says which of many connections failed")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::sample::{add_pod, addr, any_port, facts, group, link, pod_address, port_class, service, signature};
use minipod_kernel::conntrack::Conntrack;
use minipod_kernel::iptables::Variant;
use minipod_kernel::netns::NetNs;
use minipod_model::{IpFamily, Protocol};
use netd_dataplane::{
    Dataplane, DenyAction, HostFirewall, LinuxKernel, MarkBits, NodeFacts, PodToNode, remove_from_other_variants,
};
use netd_policy::intent::{Allowed, Backends, Frontend, Intent, Peers};

/// What is allowed answers within this, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is denied is waited for this long.
const DENIED: Duration = Duration::from_millis(400);

/// A node with an uplink to each of two outside machines. `10.244.1.N` is pod N.
struct Lab {
    node: NetNs,
    pods: Vec<NetNs>,
    outside: [NetNs; 2],
    variant: Variant,
}

/// Addresses of the outside machines, first on the first uplink.
fn outside(number: u8, family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr(&format!("192.0.2.{}", 16 * number + 2)),
        IpFamily::V6 => addr(&format!("2001:db8:{number}::2")),
    }
}

fn node_address(number: u8, family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr(&format!("192.0.2.{}", 16 * number + 1)),
        IpFamily::V6 => addr(&format!("2001:db8:{number}::1")),
    }
}

fn namespace() -> NetNs {
    NetNs::create().expect("this test needs root: cannot make a network namespace")
}

/// Runs lines of `ip -batch` in a namespace.
fn ip(netns: &NetNs, lines: &str) {
    netns
        .run(|| {
            let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("`ip` runs");
            child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("`ip` reads");
            assert!(child.wait().expect("`ip` ends").success(), "{lines}");
        })
        .expect("a namespace");
}

fn run(netns: &NetNs, program: &str, arguments: &str) {
    netns
        .run(|| {
            let status = Command::new(program).args(arguments.split_whitespace()).status().expect("the program runs");
            assert!(status.success(), "{program} {arguments}");
        })
        .expect("a namespace");
}

fn path(netns: &NetNs) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd())
}

impl Lab {
    fn new(variant: Variant, pods: u8) -> Self {
        let node = namespace();
        let outside = [namespace(), namespace()];
        ip(
            &node,
            "link set lo up
addr add 10.96.0.10/32 dev lo
addr add fd00:10:96::a/128 dev lo nodad
",
        );
        for (number, machine) in outside.iter().enumerate() {
            let n = u8::try_from(number).expect("two") + 1;
            let (host4, host6) = (outside_host(n), outside_host6(n));
            ip(
                &node,
                &format!(
                    "link add up{n} type veth peer name eth0 netns {}
addr add {host4}/28 dev up{n}
addr add {host6}/64 dev up{n} nodad
link set up{n} up
",
                    path(machine)
                ),
            );
            ip(
                machine,
                &format!(
                    "link set lo up
addr add {}/28 dev eth0
addr add {}/64 dev eth0 nodad
link set eth0 up
route add 10.96.0.0/16 via {host4}
route add fd00:10:96::/112 via {host6}
route add 203.0.113.0/24 via {host4}
route add 2001:db8:99::/64 via {host6}
",
                    self::outside(n, IpFamily::V4),
                    self::outside(n, IpFamily::V6)
                ),
            );
        }
        // The second machine is also reached through the node by addresses that are nobody's neighbour.
        ip(
            &node,
            &format!(
                "route add default via {}
route add default via {}
route add 203.0.113.0/24 via {}
route add 2001:db8:99::/64 via {}
",
                self::outside(1, IpFamily::V4),
                self::outside(1, IpFamily::V6),
                self::outside(2, IpFamily::V4),
                self::outside(2, IpFamily::V6)
            ),
        );
        ip(
            &outside[1],
            &format!(
                "addr add 203.0.113.1/32 dev lo
addr add 2001:db8:99::1/128 dev lo nodad
route add {}/28 via {}
route add 2001:db8:1::/64 via {}
",
                "192.0.2.16",
                outside_host(2),
                outside_host6(2)
            ),
        );
        let mut lab = Self { node, pods: Vec::new(), outside, variant };
        for key in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            run(&lab.node, "sysctl", &format!("-qw {key}"));
        }
        for number in 1..=pods {
            lab.add_pod(number);
        }
        lab
    }

    fn add_pod(&mut self, number: u8) {
        let pod = namespace();
        let name = link(&format!("p{number}"));
        let (v4, v6) = (pod_address(number, IpFamily::V4), pod_address(number, IpFamily::V6));
        let (ours, theirs) = (format!("02:00:00:00:01:{number:02x}"), format!("02:00:00:00:02:{number:02x}"));
        ip(
            &self.node,
            &format!(
                "link add {name} address {ours} type veth peer name eth0 address {theirs} netns {}
link set {name} up
neigh add {v4} lladdr {theirs} dev {name} nud permanent
neigh add {v6} lladdr {theirs} dev {name} nud permanent
route add {v4}/32 dev {name}
route add {v6}/128 dev {name}
",
                path(&pod)
            ),
        );
        ip(
            &pod,
            &format!(
                "link set lo up
link set eth0 up
addr add {v4}/32 dev eth0
addr add {v6}/128 dev eth0 nodad
neigh add 169.254.1.1 lladdr {ours} dev eth0 nud permanent
neigh add fe80::1 lladdr {ours} dev eth0 nud permanent
route add 169.254.1.1 dev eth0 scope link
route add default via 169.254.1.1 dev eth0
route add default via fe80::1 dev eth0
",
            ),
        );
        self.pods.push(pod);
    }

    fn pod(&self, number: usize) -> &NetNs {
        &self.pods[number - 1]
    }

    fn dataplane(&self) -> Dataplane<LinuxKernel> {
        let open = || LinuxKernel::open(Some(self.variant)).expect("iptables, ipset and root");
        Dataplane::adopt(self.node.run(open).expect("a namespace")).expect("nothing is there")
    }

    /// The iptables programs run in the namespace of the calling thread.
    fn apply(&self, dataplane: &mut Dataplane<LinuxKernel>, intent: &Intent, facts: &NodeFacts) {
        self.node.run(|| dataplane.apply(intent, facts).expect("applies")).expect("a namespace");
    }

    fn iptables(&self, arguments: &str) {
        for program in ["iptables", "ip6tables"] {
            run(&self.node, &format!("{program}-{}", self.variant), arguments);
        }
    }
}

fn outside_host(n: u8) -> IpAddr {
    node_address(n, IpFamily::V4)
}

fn outside_host6(n: u8) -> IpAddr {
    node_address(n, IpFamily::V6)
}

/// Answers every connection to the port, of either family, with the client's address, as long as the test runs.
fn serve(netns: &NetNs, port: u16) {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = netns.run(|| TcpListener::bind(any)).expect("a namespace").expect("the port is free");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().map(|peer| peer.ip().to_canonical().to_string());
            let _ = stream.write_all(peer.unwrap_or_default().as_bytes());
        }
    });
}

/// Connects and says how the server sees the client.
fn dial(from: &NetNs, to: IpAddr, port: u16, patience: Duration) -> Result<String, ErrorKind> {
    let dialled = from.run(|| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), patience)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    });
    dialled.expect("a namespace").map_err(|error| error.kind())
}

#[track_caller]
fn allowed(from: &NetNs, to: IpAddr, port: u16) -> String {
    match dial(from, to, port, PATIENCE) {
        Ok(client) => client,
        Err(kind) => panic!("{to} port {port} should answer: {kind}"),
    }
}

#[track_caller]
fn denied(from: &NetNs, to: IpAddr, port: u16) {
    let result = dial(from, to, port, DENIED);
    assert!(matches!(result, Err(ErrorKind::TimedOut | ErrorKind::WouldBlock)), "{to} port {port}: {result:?}");
}

fn lab_facts() -> NodeFacts {
    let mut facts = facts();
    for (family, part) in [(IpFamily::V4, &mut facts.v4), (IpFamily::V6, &mut facts.v6)] {
        let part = part.as_mut().expect("both families");
        part.node_addresses = [1, 2].map(|n| node_address(n, family)).into();
    }
    facts
}

/// Pod 1 takes pod 2 only, on 8080; pod 2 is open; pod 3 may reach pod 1 and port 53 only.
fn lesson() -> Intent {
    let mut intent = Intent::default();
    signature(&mut intent, "open", None, None);
    let friends = group(&mut intent, "foo", &[2], &[]);
    let ingress = Allowed { ports: vec![port_class(Protocol::Tcp, &[(8080, 8080)], friends)], ..Allowed::default() };
    signature(&mut intent, "web", Some(ingress), None);
    let hello = group(&mut intent, "hello", &[1], &[]);
    let egress = Allowed {
        any_port: Some(hello),
        ports: vec![
            port_class(Protocol::Tcp, &[(53, 53)], Peers::Everyone),
            port_class(Protocol::Udp, &[(53, 53)], Peers::Everyone),
        ],
        ..Allowed::default()
    };
    signature(&mut intent, "limited", None, Some(egress));
    for (number, name) in [(1, "web"), (2, "open"), (3, "limited")] {
        add_pod(&mut intent, number, name);
    }
    for (family, address) in [(IpFamily::V4, "10.96.0.20"), (IpFamily::V6, "fd00:10:96::20")] {
        service(&mut intent, address, 80, &[(pod_address(1, family), 8080)], None);
    }
    for (family, address) in [(IpFamily::V4, "10.96.0.21"), (IpFamily::V6, "fd00:10:96::21")] {
        let endpoints = [2, 3].map(|n| (pod_address(n, family), 8080));
        service(&mut intent, address, 81, &endpoints, Some(60));
        service(&mut intent, address, 82, &[], None);
    }
    intent
}

fn service_address(number: u8, family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr(&format!("10.96.0.{number}")),
        IpFamily::V6 => addr(&format!("fd00:10:96::{number}")),
    }
}

fn dns(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => addr("10.96.0.10"),
        IpFamily::V6 => addr("fd00:10:96::a"),
    }
}

fn policies_and_services(variant: Variant) {
    let lab = Lab::new(variant, 4);
    let mut dataplane = lab.dataplane();
    lab.apply(&mut dataplane, &lesson(), &lab_facts());
    for number in 1..=4 {
        serve(lab.pod(number), 8080);
    }
    serve(&lab.node, 53);
    serve(&lab.node, 9000);
    for machine in &lab.outside {
        serve(machine, 9000);
    }
    let (p1, p2, p3, p4) = (lab.pod(1), lab.pod(2), lab.pod(3), lab.pod(4));
    for family in IpFamily::ALL {
        let at = |number| pod_address(number, family);
        let svc = |number| service_address(number, family);

        // Pods, by their addresses: both ends decide.
        assert_eq!(allowed(p2, at(1), 8080), at(2).to_string());
        denied(p3, at(1), 8080);
        denied(p3, at(2), 8080);
        allowed(p1, at(2), 8080);
        allowed(p1, at(1), 8080);
        // A pod that netd does not know has no packets, in either direction.
        denied(p4, at(2), 8080);
        denied(p2, at(4), 8080);
        denied(&lab.node, at(4), 8080);
        // The node reaches its own pods; a pod's way to the node is egress.
        allowed(&lab.node, at(1), 8080);
        allowed(&lab.node, at(3), 8080);
        allowed(p2, node_address(1, family), 9000);
        denied(p3, node_address(1, family), 9000);

        // Services: judged by the pod behind them.
        assert_eq!(allowed(p2, svc(20), 80), at(2).to_string());
        denied(p3, svc(20), 80);
        // The node reaches them, and a pod itself.
        allowed(&lab.node, svc(20), 80);
        let own = allowed(p1, svc(20), 80);
        assert_ne!(own, at(1).to_string(), "a hairpin is masqueraded");
        // Affinity: the same endpoint each time.
        let seen: Vec<usize> = (0..6).map(|_| endpoint_of(&lab, svc(21), family)).collect();
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
        // Without endpoints, or no service at all: refused.
        for (address, port) in [(svc(21), 82), (svc(77), 80)] {
            assert_eq!(dial(p2, address, port, PATIENCE), Err(ErrorKind::ConnectionRefused));
            assert_eq!(dial(&lab.node, address, port, PATIENCE), Err(ErrorKind::ConnectionRefused));
        }

        // The cluster DNS answers pods and the node only.
        allowed(p2, dns(family), 53);
        allowed(p3, dns(family), 53);
        allowed(&lab.node, dns(family), 53);
        denied(&lab.outside[0], dns(family), 53);

        // What leaves the cluster comes from the node.
        assert_eq!(allowed(p2, outside(1, family), 9000), node_address(1, family).to_string());
        denied(p3, outside(1, family), 9000);
        // The node forwards because of us, so only for us.
        let through = match family {
            IpFamily::V4 => addr("203.0.113.1"),
            IpFamily::V6 => addr("2001:db8:99::1"),
        };
        denied(&lab.outside[0], through, 9000);
        allowed(p2, through, 9000);
    }
}

/// Which of the service's endpoints answers pod 2: the one whose set of clients holds pod 2 after the connection.
fn endpoint_of(lab: &Lab, address: IpAddr, family: IpFamily) -> usize {
    let client = allowed(lab.pod(1), address, 81);
    assert_eq!(client, pod_address(1, family).to_string());
    let listed = lab
        .node
        .run(|| Command::new("ipset").args(["list", "-o", "save"]).output().expect("`ipset` runs"))
        .expect("a namespace");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let holding: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with("add mp-a-") && line.contains(&format!(" {} ", pod_address(1, family))))
        .collect();
    assert_eq!(holding.len(), 1, "{listed}");
    let sets: Vec<&str> = listed.lines().filter(|line| line.starts_with("create mp-a-")).collect();
    let name = holding[0].split_whitespace().nth(1).expect("a name");
    sets.iter().position(|line| line.contains(name)).expect("the set is listed")
}

#[test]
fn policies_and_services_with_nft() {
    policies_and_services(Variant::Nft);
}

#[test]
fn policies_and_services_with_legacy() {
    policies_and_services(Variant::Legacy);
}

#[test]
fn nothing_but_the_cluster_dns_answers_at_its_address() {
    for variant in Variant::ALL {
        let lab = Lab::new(variant, 2);
        serve(&lab.node, 53);
        serve(&lab.node, 2222);
        let mut intent = Intent::default();
        signature(&mut intent, "open", None, None);
        signature(&mut intent, "resolves", None, Some(any_port(Peers::Everyone)));
        add_pod(&mut intent, 1, "open");
        add_pod(&mut intent, 2, "resolves");
        for family in IpFamily::ALL {
            allowed(&lab.node, dns(family), 2222);
        }
        let mut dataplane = lab.dataplane();
        let mut facts = lab_facts();
        for pod_to_node in [PodToNode::Enforce, PodToNode::Allow] {
            facts.pod_to_node = pod_to_node;
            lab.apply(&mut dataplane, &intent, &facts);
            for family in IpFamily::ALL {
                for from in [lab.pod(1), lab.pod(2), &lab.node] {
                    allowed(from, dns(family), 53);
                    denied(from, dns(family), 2222);
                }
                allowed(lab.pod(1), node_address(1, family), 2222);
            }
        }
    }
}

#[test]
fn a_change_of_variant_leaves_the_rules_of_one_and_keeps_enforcing() {
    let mut lab = Lab::new(Variant::Nft, 3);
    serve(lab.pod(1), 8080);
    let rules_of = |lab: &Lab, variant: Variant| -> usize {
        let count = |program: &str| {
            let save = || Command::new(format!("{program}-{variant}-save")).output().expect("the program runs");
            let saved = lab.node.run(save).expect("a namespace");
            String::from_utf8_lossy(&saved.stdout).lines().filter(|line| line.contains("MP-")).count()
        };
        count("iptables") + count("ip6tables")
    };
    lab.apply(&mut lab.dataplane(), &lesson(), &lab_facts());
    // What the first variant still held would not know this signature, and drop.
    let mut later = lesson();
    let hello = group(&mut later, "bar", &[3], &[]);
    signature(&mut later, "later", Some(Allowed { any_port: Some(hello), ..Allowed::default() }), None);
    add_pod(&mut later, 1, "later");
    add_pod(&mut later, 3, "open");
    for (variant, other) in [(Variant::Legacy, Variant::Nft), (Variant::Nft, Variant::Legacy)] {
        lab.variant = variant;
        lab.apply(&mut lab.dataplane(), &later, &lab_facts());
        for family in IpFamily::ALL {
            denied(lab.pod(2), pod_address(1, family), 8080);
        }
        let removed = lab.node.run(|| remove_from_other_variants(variant).expect("removes")).expect("a namespace");
        assert!(removed.chains > 0 && removed.jumps > 0, "{removed:?}");
        assert_eq!(rules_of(&lab, other), 0);
        assert!(rules_of(&lab, variant) > 0);
        for family in IpFamily::ALL {
            allowed(lab.pod(3), pod_address(1, family), 8080);
            denied(lab.pod(2), pod_address(1, family), 8080);
        }
    }
    let mut dataplane = lab.dataplane();
    lab.node.run(|| dataplane.remove_all().expect("removes")).expect("a namespace");
    assert_eq!(Variant::ALL.map(|variant| rules_of(&lab, variant)), [0, 0]);
}

#[test]
fn a_pod_sends_only_from_its_own_address() {
    for variant in Variant::ALL {
        let lab = Lab::new(variant, 2);
        serve(lab.pod(1), 8080);
        let mut intent = Intent::default();
        signature(&mut intent, "open", None, None);
        add_pod(&mut intent, 1, "open");
        for (family, spoofed, length) in [(IpFamily::V4, "10.244.1.99", 32), (IpFamily::V6, "fd00:10:244:1::99", 128)] {
            // Without the gate the forged address works: there is a way back to it.
            // Usable at once: an IPv6 address is tentative first, even on a loopback device.
            let nodad = if family == IpFamily::V6 { " nodad" } else { "" };
            ip(lab.pod(2), &format!("addr add {spoofed}/{length} dev lo{nodad}\n"));
            let v6_default = if family == IpFamily::V6 { "fe80::1" } else { "169.254.1.1" };
            ip(
                lab.pod(2),
                &format!("route replace {}/{length} via {v6_default} dev eth0 src {spoofed}\n", pod_address(1, family)),
            );
            let name = link("p2");
            ip(
                &lab.node,
                &format!(
                    "neigh add {spoofed} lladdr 02:00:00:00:02:02 dev {name} nud permanent\nroute add {spoofed}/{length} dev {name}\n"
                ),
            );
            assert_eq!(allowed(lab.pod(2), pod_address(1, family), 8080), spoofed);
        }
        let mut dataplane = lab.dataplane();
        add_pod(&mut intent, 2, "open");
        lab.apply(&mut dataplane, &intent, &lab_facts());
        for family in IpFamily::ALL {
            denied(lab.pod(2), pod_address(1, family), 8080);
        }
    }
}

#[test]
fn a_host_firewall_that_drops_does_not_stop_what_policy_allows() {
    for variant in Variant::ALL {
        let lab = Lab::new(variant, 3);
        lab.iptables("-P FORWARD DROP");
        lab.iptables("-P INPUT DROP");
        lab.iptables("-I FORWARD 1 -j DROP");
        lab.iptables("-I INPUT 1 -j DROP");
        for number in 1..=3 {
            serve(lab.pod(number), 8080);
        }
        serve(&lab.node, 9000);
        let mut dataplane = lab.dataplane();
        let mut facts = lab_facts();
        lab.apply(&mut dataplane, &lesson(), &facts);
        for family in IpFamily::ALL {
            allowed(lab.pod(2), pod_address(1, family), 8080);
            allowed(lab.pod(2), service_address(20, family), 80);
            allowed(&lab.node, pod_address(1, family), 8080);
            denied(lab.pod(3), pod_address(1, family), 8080);
        }
        // Somebody inserts an ACCEPT on top: what is denied stays denied.
        lab.iptables("-I FORWARD 1 -j ACCEPT");
        lab.iptables("-I INPUT 1 -j ACCEPT");
        for family in IpFamily::ALL {
            denied(lab.pod(3), pod_address(1, family), 8080);
            denied(lab.pod(3), node_address(1, family), 9000);
        }
        // Somebody else forwards as well, and says so.
        lab.iptables("-I FORWARD 1 -i up1 -o up2 -j ACCEPT");
        lab.iptables("-I FORWARD 1 -i up2 -o up1 -j ACCEPT");
        serve(&lab.outside[1], 9000);
        allowed(&lab.outside[0], addr("203.0.113.1"), 9000);
        lab.iptables("-D FORWARD 1");
        lab.iptables("-D FORWARD 1");
        lab.iptables("-D FORWARD 1");
        denied(&lab.outside[0], addr("203.0.113.1"), 9000);
        lab.iptables("-D INPUT 1");
        facts.host_firewall = HostFirewall::Respect;
        facts.pod_to_node = PodToNode::Allow;
        lab.apply(&mut dataplane, &lesson(), &facts);
        for family in IpFamily::ALL {
            denied(lab.pod(2), pod_address(1, family), 8080);
        }
        lab.iptables("-D INPUT -j DROP");
        lab.iptables("-P INPUT ACCEPT");
        for family in IpFamily::ALL {
            allowed(lab.pod(3), node_address(1, family), 9000);
        }
    }
}

#[test]
fn a_policy_holds_for_the_next_connection_and_not_before() {
    for variant in Variant::ALL {
        let lab = Lab::new(variant, 2);
        serve(lab.pod(1), 8080);
        serve(lab.pod(1), 8081);
        let mut intent = Intent::default();
        signature(&mut intent, "open", None, None);
        add_pod(&mut intent, 1, "open");
        add_pod(&mut intent, 2, "open");
        let mut dataplane = lab.dataplane();
        lab.apply(&mut dataplane, &intent, &lab_facts());
        for family in IpFamily::ALL {
            allowed(lab.pod(2), pod_address(1, family), 8081);
        }
        let class = port_class(Protocol::Tcp, &[(8080, 8080)], any_port(Peers::Everyone).any_port.expect("peers"));
        signature(&mut intent, "web", Some(Allowed { ports: vec![class], ..Allowed::default() }), None);
        add_pod(&mut intent, 1, "web");
        lab.apply(&mut dataplane, &intent, &lab_facts());
        for family in IpFamily::ALL {
            allowed(lab.pod(2), pod_address(1, family), 8080);
            denied(lab.pod(2), pod_address(1, family), 8081);
        }
        add_pod(&mut intent, 1, "open");
        lab.apply(&mut dataplane, &intent, &lab_facts());
        for family in IpFamily::ALL {
            allowed(lab.pod(2), pod_address(1, family), 8081);
        }
    }
}

/// What is refused is told within this, also on a busy machine: before the first retransmission.
const AT_ONCE: Duration = Duration::from_millis(900);

#[track_caller]
fn refused(from: &NetNs, to: IpAddr, port: u16) {
    let result = dial(from, to, port, AT_ONCE);
    assert_eq!(result, Err(ErrorKind::ConnectionRefused), "{to} port {port}");
}

/// Sends a datagram and says what comes back of it.
fn ask(from: &NetNs, to: IpAddr, port: u16) -> Result<usize, ErrorKind> {
    let asked = from.run(|| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(SocketAddr::new(to, port))?;
        socket.set_read_timeout(Some(AT_ONCE))?;
        socket.send(b"?")?;
        socket.recv(&mut [0; 16])
    });
    asked.expect("a namespace").map_err(|error: std::io::Error| error.kind())
}

/// As a program reads ICMP (for IPv6) "administratively prohibited".
fn prohibited(family: IpFamily) -> ErrorKind {
    match family {
        IpFamily::V4 => ErrorKind::HostUnreachable,
        IpFamily::V6 => ErrorKind::PermissionDenied,
    }
}

/// Takes what comes to the port, of either family.
fn receiver(netns: &NetNs, port: u16) -> UdpSocket {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    netns.run(|| UdpSocket::bind(any)).expect("a namespace").expect("the port is free")
}

/// A connection whose ends are silent.
fn connected(from: &NetNs, to: &NetNs, address: SocketAddr) -> [TcpStream; 2] {
    let listener = to.run(|| TcpListener::bind(address)).expect("a namespace").expect("the port is free");
    let near = from.run(|| TcpStream::connect_timeout(&address, PATIENCE)).expect("a namespace").expect("allowed");
    [near, listener.accept().expect("the connection").0]
}

/// Pod 4 may not send anything. The address of a service leads to pod 1 over UDP too.
fn lesson_with_a_sealed_pod() -> Intent {
    let mut intent = lesson();
    signature(&mut intent, "sealed", None, Some(Allowed::default()));
    add_pod(&mut intent, 4, "sealed");
    for family in IpFamily::ALL {
        let frontend = Frontend { address: service_address(20, family), protocol: Protocol::Udp, port: 80 };
        let endpoints = vec![(pod_address(1, family), 8080)];
        let backends = Backends { name: "default/s80:udp".to_owned(), endpoints, affinity_seconds: None };
        Arc::make_mut(&mut intent.services).insert(frontend, backends);
    }
    intent
}

fn rejecting() -> NodeFacts {
    NodeFacts { deny_action: DenyAction::Reject, ..lab_facts() }
}

/// A node that rejects, and that answers on ports of its own and of an outside machine, which knows the way to the pods.
fn rejecting_lab(variant: Variant) -> (Lab, Dataplane<LinuxKernel>) {
    let lab = Lab::new(variant, 4);
    for (range, family) in [("10.244.1.0/24", IpFamily::V4), ("fd00:10:244:1::/64", IpFamily::V6)] {
        ip(&lab.outside[0], &format!("route add {range} via {}\n", node_address(1, family)));
    }
    let mut dataplane = lab.dataplane();
    lab.apply(&mut dataplane, &lesson_with_a_sealed_pod(), &rejecting());
    (lab, dataplane)
}

/// Connections that policy denies, as (from, to, port): by the egress of one end, by the ingress of the other, forwarded and to the node.
fn denied_ways(lab: &Lab, family: IpFamily) -> [(&NetNs, IpAddr, u16); 7] {
    let at = |number| pod_address(number, family);
    [
        (lab.pod(3), at(1), 8080),
        (lab.pod(3), at(2), 8080),
        (lab.pod(3), service_address(20, family), 80),
        (&lab.outside[0], at(1), 8080),
        (lab.pod(4), outside(1, family), 9000),
        (lab.pod(4), node_address(1, family), 9000),
        (lab.pod(4), dns(family), 53),
    ]
}

fn what_is_denied_is_answered_at_once_where_the_node_rejects(variant: Variant) {
    let (lab, mut dataplane) = rejecting_lab(variant);
    serve(lab.pod(1), 8080);
    serve(lab.pod(2), 8080);
    serve(&lab.node, 53);
    serve(&lab.node, 9000);
    serve(&lab.outside[0], 9000);
    for reflect in [0, 1] {
        run(&lab.node, "sysctl", &format!("-qw net.ipv4.fwmark_reflect={reflect} net.ipv6.fwmark_reflect={reflect}"));
        for family in IpFamily::ALL {
            let at = |number| pod_address(number, family);
            for (from, to, port) in denied_ways(&lab, family) {
                refused(from, to, port);
            }
            // What is allowed works as it does elsewhere.
            assert_eq!(allowed(lab.pod(2), at(1), 8080), at(2).to_string());
            allowed(lab.pod(2), service_address(20, family), 80);
            allowed(lab.pod(1), service_address(20, family), 80);
            allowed(lab.pod(3), dns(family), 53);
            allowed(&lab.outside[0], at(2), 8080);
            assert_eq!(allowed(lab.pod(2), outside(1, family), 9000), node_address(1, family).to_string());
        }
    }
    for family in IpFamily::ALL {
        for (from, to, port) in denied_ways(&lab, family) {
            assert_eq!(ask(from, to, port), Err(prohibited(family)), "a datagram to {to} port {port}");
        }
    }
    let tracked =
        lab.node.run(|| Conntrack::open().expect("a socket").list_all().expect("lists")).expect("a namespace");
    let sealed = IpFamily::ALL.map(|family| pod_address(4, family));
    let left: Vec<_> = tracked
        .iter()
        .filter(|tracked| {
            sealed.contains(&tracked.original.source) || tracked.mark & MarkBits::default().revoked() != 0
        })
        .collect();
    assert!(left.is_empty() && !tracked.is_empty(), "a refused packet leaves no connection: {left:?}");

    // Somebody else's filter decides about the rest.
    let facts = NodeFacts { host_firewall: HostFirewall::Respect, ..rejecting() };
    lab.apply(&mut dataplane, &lesson_with_a_sealed_pod(), &facts);
    refused(lab.pod(3), pod_address(1, IpFamily::V4), 8080);
    allowed(lab.pod(2), pod_address(1, IpFamily::V4), 8080);

    // Back to silence, and nothing of it is left.
    lab.apply(&mut dataplane, &lesson_with_a_sealed_pod(), &lab_facts());
    for (from, to, port) in denied_ways(&lab, IpFamily::V4) {
        denied(from, to, port);
    }
    let save = || Command::new(format!("iptables-{variant}-save")).output().expect("the program runs");
    let saved = lab.node.run(save).expect("a namespace");
    let saved = String::from_utf8_lossy(&saved.stdout);
    assert!(saved.contains("MP-VERDICT") && !saved.contains("MP-DENIED"), "{saved}");
}

#[test]
fn what_is_denied_is_answered_at_once_where_the_node_rejects_with_nft() {
    what_is_denied_is_answered_at_once_where_the_node_rejects(Variant::Nft);
}

#[test]
fn what_is_denied_is_answered_at_once_where_the_node_rejects_with_legacy() {
    what_is_denied_is_answered_at_once_where_the_node_rejects(Variant::Legacy);
}

#[test]
fn nobodys_accept_in_filter_lets_through_what_the_node_would_reject() {
    for variant in Variant::ALL {
        let (lab, _dataplane) = rejecting_lab(variant);
        let places = [lab.pod(1), lab.pod(2), &lab.node, &lab.outside[0]];
        let taken = places.map(|place| [8080, 9000, 53].map(|port| receiver(place, port)));
        let send = |from: &NetNs, to: IpAddr, port: u16| {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let sent = from.run(|| UdpSocket::bind(any)?.send_to(b"?", SocketAddr::new(to, port)));
            sent.expect("a namespace").expect("sent");
        };
        lab.iptables("-I FORWARD 1 -j ACCEPT");
        lab.iptables("-I INPUT 1 -j ACCEPT");
        for family in IpFamily::ALL {
            for (from, to, port) in denied_ways(&lab, family) {
                send(from, to, port);
            }
        }
        // A connection that is not tracked has no mark that could keep it back.
        lab.iptables("-t raw -I PREROUTING 1 -p udp -j CT --notrack");
        for family in IpFamily::ALL {
            send(lab.pod(3), pod_address(1, family), 8080);
            send(lab.pod(4), outside(1, family), 9000);
            send(lab.pod(4), node_address(1, family), 9000);
        }
        for family in IpFamily::ALL {
            denied(lab.pod(3), pod_address(1, family), 8080);
            denied(lab.pod(4), node_address(1, family), 9000);
        }
        for socket in taken.iter().flatten() {
            socket.set_nonblocking(true).expect("a socket");
            let came = socket.recv_from(&mut [0; 16]).map(|(_, from)| from);
            assert!(came.is_err(), "{variant}: a datagram that policy denies came from {came:?}");
        }
        // What policy allows comes through.
        let at_node = &taken[2][1];
        at_node.set_nonblocking(false).expect("a socket");
        at_node.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        for family in IpFamily::ALL {
            send(lab.pod(2), node_address(1, family), 9000);
            at_node.recv(&mut [0; 16]).expect("allowed");
        }
    }
}

#[test]
fn a_revoked_connection_is_reset_where_the_node_rejects() {
    for variant in Variant::ALL {
        let (lab, _dataplane) = rejecting_lab(variant);
        for family in IpFamily::ALL {
            let ways = [
                (lab.pod(2), lab.pod(1), SocketAddr::new(pod_address(1, family), 8080)),
                (lab.pod(2), &lab.node, SocketAddr::new(node_address(1, family), 9000)),
                (&lab.outside[0], lab.pod(2), SocketAddr::new(pod_address(2, family), 9000)),
            ];
            let open = ways.map(|(from, to, address)| connected(from, to, address));
            let bit = MarkBits::default().revoked();
            let mark = || {
                let mut tracked = Conntrack::open().expect("a socket");
                let all = tracked.list_all().expect("lists");
                tracked.mark(&all, bit, bit).expect("marks")
            };
            assert!(lab.node.run(mark).expect("a namespace") >= open.len());
            for (number, ends) in open.into_iter().enumerate() {
                // What the node itself sends is dropped without a word: it has no verdict.
                let speaking = if number == 1 { 1 } else { 2 };
                for mut end in ends.into_iter().take(speaking) {
                    end.set_read_timeout(Some(AT_ONCE)).expect("a time-out");
                    end.write_all(b"?").expect("the kernel takes it");
                    let answer = end.read(&mut [0; 16]).map_err(|error| error.kind());
                    assert_eq!(answer, Err(ErrorKind::ConnectionReset), "{variant} {family:?} way {number}");
                }
            }
        }
    }
}
