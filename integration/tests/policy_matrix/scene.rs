//! Namespaces `x`, `y` and `z` with pods `a`, `b` and `c` each, on one node, and the comparison: what packets do, and what
//! `policy matrix`, the reference evaluator's voice, says of the same objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use integration::fixture::HELLO_IMAGE;
use integration::lab::{Iptables, Lab, Place};
use serde_json::{Value, json};

use integration::packets::probe::answering;
use integration::packets::server::Server;
use integration::packets::target::{PORTS, Protocol, Target, port_name};

/// Every namespace.
pub(crate) const NAMESPACES: [&str; 3] = ["x", "y", "z"];
/// The pods of every namespace.
pub(crate) const PODS: [&str; 3] = ["a", "b", "c"];

/// What is allowed answers within this time; a look that finds less is repeated with more.
const PATIENCE: Duration = Duration::from_millis(250);
/// Packets do what the policies say within this time.
const LIMIT: Duration = Duration::from_secs(10);

/// A pod, as `(namespace, name)`.
pub(crate) type PodName = (String, String);

/// Who is reached: source, destination, and how.
type Reach = (PodName, PodName, Way);

/// Protocol and port, over IPv6 or not, by the address of a service or of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    protocol: Protocol,
    port: u16,
    v6: bool,
    service: bool,
}

/// The scene, with everything that runs in it.
pub(crate) struct Scene {
    lab: Lab,
    pods: BTreeMap<PodName, Actor>,
    policies: BTreeSet<(String, String)>,
    probes: usize,
}

struct Actor {
    place: Place,
    services: Vec<IpAddr>,
    _server: Server,
}

impl Scene {
    pub(crate) fn new(iptables: Iptables) -> Self {
        let lab = Lab::started("matrix", iptables).expect("a lab");
        let mut scene = Self { lab, pods: BTreeMap::new(), policies: BTreeSet::new(), probes: 0 };
        for namespace in NAMESPACES {
            scene.add_namespace(namespace);
        }
        let all: Vec<(&str, &str)> = NAMESPACES.iter().flat_map(|ns| PODS.map(|pod| (*ns, pod))).collect();
        scene.add_pods(&all);
        scene
    }

    pub(crate) fn add_namespace(&self, name: &str) {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"ns": name}}});
        self.lab.apply(&object.to_string());
    }

    /// Makes pods with their services, and waits until they answer.
    pub(crate) fn add_pods(&mut self, pods: &[(&str, &str)]) {
        let objects = pods.iter().flat_map(|(namespace, pod)| [manifest(namespace, pod), service(namespace, pod)]);
        self.lab.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>()}).to_string());
        for (namespace, pod) in pods {
            let condition = ["wait", "-n", namespace, &format!("pod/{pod}"), "--for=condition=Ready", "--timeout=30s"];
            let _ = self.lab.minipod(&condition).expect_success();
            let place = Place::of_pod(&self.lab, namespace, pod);
            let wanted = ["get", "-n", namespace, "service", pod, "-o", "jsonpath={.spec.clusterIPs[*]}"];
            let services = self.lab.minipod(&wanted).expect_success();
            let services: Vec<IpAddr> = services.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            assert_eq!(services.len(), 2, "a service of both families");
            let server = Server::start(&place);
            let name = ((*namespace).to_owned(), (*pod).to_owned());
            self.pods.insert(name, Actor { place, services, _server: server });
        }
    }

    pub(crate) fn remove_pod(&mut self, namespace: &str, pod: &str) {
        self.pods.remove(&(namespace.to_owned(), pod.to_owned()));
        self.run(&["delete", "-n", namespace, "pod,service", pod]);
    }

    /// The pod's address of that family.
    pub(crate) fn address(&self, namespace: &str, pod: &str, v6: bool) -> IpAddr {
        let actor = &self.pods[&(namespace.to_owned(), pod.to_owned())];
        *actor.place.addresses.iter().find(|address| address.is_ipv6() == v6).expect("an address")
    }

    /// Runs the command line, which must succeed.
    pub(crate) fn run(&self, args: &[&str]) {
        let _ = self.lab.minipod(args).expect_success();
    }

    /// Makes or changes policies.
    pub(crate) fn put(&mut self, policies: &[Value]) {
        for policy in policies {
            let field = |name: &str| policy["metadata"][name].as_str().unwrap_or_default().to_owned();
            self.policies.insert((field("namespace"), field("name")));
        }
        self.lab.apply(&json!({"apiVersion": "v1", "kind": "List", "items": policies}).to_string());
    }

    pub(crate) fn delete_policy(&mut self, namespace: &str, name: &str) {
        self.run(&["delete", "networkpolicy", "-n", namespace, name]);
        self.policies.remove(&(namespace.to_owned(), name.to_owned()));
    }

    pub(crate) fn delete_policies(&mut self) {
        for (namespace, name) in std::mem::take(&mut self.policies) {
            self.delete_policy(&namespace, &name);
        }
    }

    /// Compares packets and evaluator.
    ///
    /// # Panics
    /// When they differ for longer than [`LIMIT`], with every difference.
    pub(crate) fn check(&mut self, step: &str) {
        let expected = self.expected();
        let begin = Instant::now();
        let mut patience = PATIENCE;
        loop {
            let seen = self.seen(patience);
            self.probes += seen.len();
            let differences: Vec<String> = expected
                .iter()
                .filter(|(reach, allowed)| seen.get(reach) != Some(allowed))
                .map(|(reach, allowed)| told(reach, *allowed))
                .collect();
            if differences.is_empty() {
                assert_eq!(seen.len(), expected.len(), "{step}: not everything was asked");
                return;
            }
            assert!(begin.elapsed() < LIMIT, "{step}:\n{}", differences.join("\n"));
            // More time brings more answers, never fewer.
            if expected.iter().any(|(reach, allowed)| *allowed && seen.get(reach) == Some(&false)) {
                patience *= 2;
            }
        }
    }

    /// How many answers were waited for.
    pub(crate) fn probes(&self) -> usize {
        self.probes
    }

    /// What the reference evaluator says.
    fn expected(&self) -> BTreeMap<Reach, bool> {
        let said = self.lab.minipod(&["policy", "matrix", "-A", "-o", "json"]).expect_success();
        let said: Value = serde_json::from_str(&said).expect("JSON");
        let name = |pod: &Value| -> PodName {
            let field = |name: &str| pod[name].as_str().expect("a name").to_owned();
            (field("namespace"), field("name"))
        };
        let mut expected = BTreeMap::new();
        for pair in said["pairs"].as_array().expect("pairs") {
            for port in pair["ports"].as_array().expect("ports") {
                let protocol = Protocol::ALL.into_iter().find(|p| port["protocol"] == p.as_str()).expect("a protocol");
                let number = port["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
                for (family, v6) in [("IPv4", false), ("IPv6", true)] {
                    let allowed = port["allowed"][family].as_bool().expect("a verdict of each family");
                    for service in [false, true] {
                        let way = Way { protocol, port: number, v6, service };
                        if way.is_asked() {
                            expected.insert((name(&pair["from"]), name(&pair["to"]), way), allowed);
                        }
                    }
                }
            }
        }
        let pods = self.pods.len();
        assert_eq!(expected.len(), pods * pods * Way::all().count(), "every pair is judged");
        expected
    }

    /// What packets do.
    fn seen(&self, patience: Duration) -> BTreeMap<Reach, bool> {
        let targets: Vec<(&PodName, Way, Target)> =
            self.pods.iter().flat_map(|(to, actor)| Way::all().map(move |way| (to, way, way.target(actor)))).collect();
        let dialled: Vec<Target> = targets.iter().map(|(_, _, target)| *target).collect();
        let answered: Vec<(&PodName, BTreeSet<Target>)> = std::thread::scope(|scope| {
            let dialled = &dialled;
            let threads: Vec<_> = self
                .pods
                .iter()
                .map(|(from, actor)| (from, scope.spawn(move || answering(&actor.place, dialled, patience))))
                .collect();
            threads.into_iter().map(|(from, thread)| (from, thread.join().expect("no panic"))).collect()
        });
        let mut seen = BTreeMap::new();
        for (from, answered) in answered {
            for (to, way, target) in &targets {
                seen.insert((from.clone(), (*to).clone(), *way), answered.contains(target));
            }
        }
        seen
    }
}

impl Way {
    fn all() -> impl Iterator<Item = Self> {
        let ports = Protocol::ALL.into_iter().flat_map(|protocol| PORTS.map(|port| (protocol, port)));
        let ways = ports.flat_map(|(protocol, port)| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(v6, service)| Self {
                protocol,
                port,
                v6,
                service,
            })
        });
        ways.filter(|way| way.is_asked())
    }

    /// SCTP is dialled at the pods' own addresses only: no service of the scene has it.
    fn is_asked(self) -> bool {
        !(self.service && self.protocol == Protocol::Sctp)
    }

    fn target(self, actor: &Actor) -> Target {
        let addresses = if self.service { &actor.services } else { &actor.place.addresses };
        let address = addresses.iter().find(|address| address.is_ipv6() == self.v6).expect("an address");
        Target { protocol: self.protocol, address: SocketAddr::new(*address, self.port) }
    }
}

fn told(((from_ns, from), (to_ns, to), way): &Reach, allowed: bool) -> String {
    let family = if way.v6 { "IPv6" } else { "IPv4" };
    let service = if way.service { " by its service" } else { "" };
    let (port, protocol) = (way.port, way.protocol.as_str());
    let is = if allowed { "is to pass and does not" } else { "is not to pass and does" };
    format!("{from_ns}/{from} -> {to_ns}/{to}{service}, {port}/{protocol} over {family}: {is}")
}

fn manifest(namespace: &str, pod: &str) -> Value {
    let port = |protocol: Protocol, port: u16| json!({"name": port_name(port, protocol), "containerPort": port, "protocol": protocol.as_str()});
    let ports: Vec<Value> = Protocol::ALL.into_iter().flat_map(|p| PORTS.map(|number| port(p, number))).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": pod, "labels": {"pod": pod, "actor": pod}},
        "spec": {"terminationGracePeriodSeconds": 0,
                 "containers": [{"name": "c", "image": HELLO_IMAGE, "command": ["sleep", "infinity"], "ports": ports}]},
    })
}

fn service(namespace: &str, pod: &str) -> Value {
    let ports = [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|protocol| {
        PORTS.map(|port| json!({"name": port_name(port, protocol), "port": port, "protocol": protocol.as_str()}))
    });
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": pod},
        "spec": {"ipFamilyPolicy": "RequireDualStack", "selector": {"actor": pod}, "ports": ports.collect::<Vec<_>>()},
    })
}
