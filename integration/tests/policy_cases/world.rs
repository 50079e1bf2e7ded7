//! A node with the pods of one case, which the next case takes over as far as it has the same ones, and a host beyond the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use integration::api::{JSON, MERGE, request};
use integration::fixture::HELLO_IMAGE;
use integration::lab::{Iptables, Lab, Place};
use integration::outside::{ADDRESS_V4, ADDRESS_V6, Outside};
use integration::packets::server::Server;
use integration::packets::target::{PORTS, Protocol};
use integration::ran::Ran;
use integration::wait::until;
use serde_json::{Value, json};

use crate::case::{Case, Labels, Other, Pod, port};
use crate::question::DNS;

/// Of the node on its cable to the outside.
const NODE: [&str; 2] = ["198.51.100.2", "2001:db8::2"];
/// The ranges of the other node, which the host outside is where a case has pods of one.
const OTHER_RANGES: [&str; 2] = ["10.244.9.0/24", "fd00:10:244:9::/64"];
const OTHER_NODE: &str = "far";
const LIMIT: Duration = Duration::from_secs(30);
/// Waits for an answer that never comes: of the built-in programs this one ignores SIGTERM, so that a pod can be terminating.
const WAIT: [&str; 7] = ["udp", "send", "-T", "100000", "192.0.2.1", "9", "?"];

/// The node and everybody on it.
pub(crate) struct World {
    pub(crate) lab: Lab,
    outside: Outside,
    pub(crate) actors: BTreeMap<String, Actor>,
    others: BTreeMap<Other, Actor>,
    dns: Vec<IpAddr>,
    namespaces: BTreeMap<String, Labels>,
    /// addresses of pods that are gone
    former: BTreeMap<String, Vec<IpAddr>>,
    has_other_node: bool,
}

/// Somebody with a row and a column.
pub(crate) struct Actor {
    pub(crate) place: Place,
    /// addresses of its service
    pub(crate) services: Vec<IpAddr>,
    /// what it is, for a pod
    pod: Option<Pod>,
    server: Option<Server>,
}

impl Actor {
    /// Texts of datagrams that have come since it was last asked.
    pub(crate) fn heard(&self) -> BTreeSet<String> {
        self.server.as_ref().map(Server::heard).unwrap_or_default()
    }

    /// Whether it can reach the addresses of services: hosts beyond the cluster cannot.
    pub(crate) fn reaches_services(&self, name: &str) -> bool {
        name != Other::Outside.as_str() && self.pod.as_ref().is_none_or(|pod| pod.remote.is_empty())
    }
}

impl World {
    pub(crate) fn new(iptables: Iptables, options: &[String]) -> Self {
        let lab = Lab::new("n1", iptables).expect("a lab");
        let outside = Outside::silent(&lab).expect("an outside world");
        let to_pods =
            format!("ip route add 10.244.0.0/16 via {}; ip -6 route add fd00:10:244::/48 via {}", NODE[0], NODE[1]);
        let _ = Ran::run(outside.command("sh").args(["-ec", &to_pods])).expect("a shell").expect_success();
        let mut world = Self {
            lab,
            outside,
            actors: BTreeMap::new(),
            others: BTreeMap::new(),
            dns: Vec::new(),
            namespaces: BTreeMap::new(),
            former: BTreeMap::new(),
            has_other_node: false,
        };
        world.start(options);
        let addresses = |texts: [&str; 2]| texts.iter().map(|text| text.parse().expect("an address")).collect();
        let node = Place {
            netns: format!("/proc/{}/ns/net", world.lab.anchor()).into(),
            addresses: addresses(NODE),
            is_bound: false,
        };
        let beyond = world.outside.place(addresses([ADDRESS_V4, ADDRESS_V6]));
        for (other, place) in [(Other::Node, node), (Other::Outside, beyond)] {
            let server = Some(Server::start(&place));
            world.others.insert(other, Actor { place, services: Vec::new(), pod: None, server });
        }
        let dns = ["get", "-n", "kube-system", "service", "kube-dns", "-o", "jsonpath={.spec.clusterIPs[*]}"];
        world.dns = parse(&world.lab.minipod(&dns).expect_success());
        world
    }

    /// Starts the daemon.
    pub(crate) fn start(&self, options: &[String]) {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let _ = self.lab.minipod(&[&["node", "start"], &options[..]].concat()).expect_success();
    }

    /// Makes it what the case begins with.
    pub(crate) fn become_that_of(&mut self, case: &Case) {
        self.actors.retain(|name, _| !Other::is(name));
        let differs =
            |(name, actor): (&String, &Actor)| (case.pods.get(name) != actor.pod.as_ref()).then(|| name.clone());
        let gone: Vec<String> = self.actors.iter().filter_map(differs).collect();
        self.remove_pods(&gone);
        self.set_namespaces(&case.namespaces, &case.pods);
        let missing = case.pods.iter().filter(|(name, _)| !self.actors.contains_key(*name));
        let missing: BTreeMap<String, Pod> = missing.map(|(name, pod)| (name.clone(), pod.clone())).collect();
        self.add_pods(&missing);
        for other in &case.also {
            let place = self.others[other].place.clone();
            let actor = Actor { place, services: Vec::new(), pod: None, server: None };
            self.actors.insert(other.as_str().to_owned(), actor);
        }
        for actor in self.actors.values().chain(self.others.values()) {
            let _ = actor.heard();
        }
    }

    /// Namespaces of these pods, with these labels.
    pub(crate) fn set_namespaces(&mut self, labels: &BTreeMap<String, Labels>, pods: &BTreeMap<String, Pod>) {
        let names = pods.keys().map(|name| split(name).0.to_owned()).chain(labels.keys().cloned());
        let mut objects = Vec::new();
        for name in names.collect::<BTreeSet<String>>() {
            let mut wanted = labels.get(&name).cloned().unwrap_or_default();
            wanted.insert("ns".to_owned(), name.clone());
            let had = self.namespaces.insert(name.clone(), wanted.clone()).unwrap_or_default();
            for key in had.keys().filter(|key| !wanted.contains_key(*key)) {
                self.run(&["label", "namespace", &name, &format!("{key}-")]);
            }
            if had != wanted {
                objects.push(
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": wanted}}),
                );
            }
        }
        self.apply_all(&objects);
    }

    /// Forgets a namespace that was deleted, and everybody in it.
    pub(crate) fn forget_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
        self.actors.retain(|actor, _| !actor.starts_with(&format!("{name}/")));
    }

    /// A pod that is about to end is no endpoint of its service any more.
    pub(crate) fn terminate(&mut self, name: &str) {
        let (namespace, short) = split(name);
        self.run(&["delete", "-n", namespace, "pod", short, "--grace-period=60", "--wait=false"]);
        self.actors.get_mut(name).unwrap_or_else(|| unreachable!("there is no `{name}`")).services.clear();
    }

    /// Sets or removes labels, as the command line does.
    pub(crate) fn label(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, object, change] = words[..] else { unreachable!("`{line}`: write KIND NAME KEY=VALUE or KEY-") };
        let (namespace, name) = if kind == "namespace" { ("default", object) } else { split(object) };
        self.run(&["label", "--overwrite", "-n", namespace, kind, name, change]);
        let (key, value) = change.split_once('=').unwrap_or((change.trim_end_matches('-'), ""));
        let changed = |labels: &mut Labels| match value {
            "" => drop(labels.remove(key)),
            _ => drop(labels.insert(key.to_owned(), value.to_owned())),
        };
        if kind == "namespace" {
            changed(self.namespaces.entry(name.to_owned()).or_default());
        } else if let Some(pod) = self.actors.get_mut(object).and_then(|actor| actor.pod.as_mut()) {
            changed(&mut pod.labels);
        }
    }

    /// Makes pods with their services, and waits until they serve.
    pub(crate) fn add_pods(&mut self, pods: &BTreeMap<String, Pod>) {
        let (remote, own): (Vec<_>, Vec<_>) = pods.iter().partition(|(_, pod)| !pod.remote.is_empty());
        let manifests = own.iter().flat_map(|(name, pod)| [manifest(name, pod), service(name)]);
        self.apply_all(&manifests.collect::<Vec<_>>());
        for (name, pod) in own {
            let (namespace, short) = split(name);
            let ready = ["wait", "-n", namespace, &format!("pod/{short}"), "--for=condition=Ready", "--timeout=100s"];
            let _ = self.lab.minipod(&ready).expect_success();
            let wanted = ["get", "-n", namespace, "service", short, "-o", "jsonpath={.spec.clusterIPs[*]}"];
            let services: Vec<IpAddr> = parse(&self.lab.minipod(&wanted).expect_success());
            assert_eq!(services.len(), 2, "a service of both families");
            let (place, server) = if pod.is_on_host_network {
                (self.others[&Other::Node].place.clone(), None)
            } else {
                let place = Place::of_pod(&self.lab, namespace, short);
                let server = Server::start(&place);
                (place, Some(server))
            };
            self.actors.insert(name.clone(), Actor { place, services, pod: Some(pod.clone()), server });
        }
        for (name, pod) in remote {
            self.add_remote_pod(name, pod);
        }
    }

    /// Deletes pods with their services, and waits until they are gone.
    pub(crate) fn remove_pods(&mut self, names: &[String]) {
        let mut by_namespace: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in names {
            let (namespace, short) = split(name);
            by_namespace.entry(namespace).or_default().push(short);
            let actor = self.actors.remove(name).unwrap_or_else(|| unreachable!("there is no `{name}`"));
            self.former.insert(name.clone(), actor.place.addresses);
            if let Some(server) = actor.server {
                drop(server);
                for address in actor.pod.iter().flat_map(|pod| &pod.remote) {
                    self.outside_address("del", *address);
                }
            }
        }
        for (namespace, names) in by_namespace {
            let delete = ["delete", "--ignore-not-found", "--force", "-n", namespace, "pod,service"];
            self.run(&[&delete[..], &names].concat());
        }
    }

    /// An address of an actor, of its service, or of the cluster DNS: `x/a.v4`, `x/a.service6`, `dns.v4`.
    pub(crate) fn address(&self, what: &str) -> IpAddr {
        let (name, kind) = what.rsplit_once('.').unwrap_or((what, ""));
        let actor = || self.actors.get(name).unwrap_or_else(|| unreachable!("`{what}`: `{name}` is not there"));
        let is_v6 = kind.ends_with('6');
        if let Some(service) = name.strip_prefix("service ") {
            let (namespace, short) = split(service);
            let wanted = ["get", "-n", namespace, "service", short, "-o", "jsonpath={.spec.clusterIPs[*]}"];
            let addresses = parse(&self.lab.minipod(&wanted).expect_success());
            return addresses
                .into_iter()
                .find(|address| address.is_ipv6() == kind.ends_with('6'))
                .expect("both families");
        }
        let of_family = |addresses: &[IpAddr]| addresses.iter().copied().find(|address| address.is_ipv6() == is_v6);
        let found = match kind {
            "v4" | "v6" if name == DNS => of_family(&self.dns),
            "v4" | "v6" => of_family(&actor().place.addresses),
            "service4" | "service6" => of_family(&actor().services),
            _ => None,
        };
        found.unwrap_or_else(|| unreachable!("`{what}`: write NAME.v4, NAME.v6, NAME.service4 or NAME.service6"))
    }

    /// The text with `${...}` replaced, each by what [`World::address`] gives.
    pub(crate) fn filled(&self, text: &str) -> String {
        let mut parts = text.split("${");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (what, rest) = part.split_once('}').unwrap_or_else(|| unreachable!("`${{{part}`: `}}` is missing"));
            filled += &self.address(what).to_string();
            filled += rest;
        }
        filled
    }

    /// Whether a pod has an address that a pod had which is gone.
    pub(crate) fn has_address_of(&self, pod: &str, gone: &str) -> bool {
        self.former.get(gone).is_some_and(|former| former.iter().any(|a| self.actors[pod].place.addresses.contains(a)))
    }

    /// Runs the command line, which must succeed.
    pub(crate) fn run(&self, args: &[&str]) {
        let _ = self.lab.minipod(args).expect_success();
    }

    fn apply_all(&self, objects: &[Value]) {
        if !objects.is_empty() {
            self.lab.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
        }
    }

    fn add_remote_pod(&mut self, name: &str, pod: &Pod) {
        if !self.has_other_node {
            let addresses = [ADDRESS_V4, ADDRESS_V6].map(|address| json!({"type": "InternalIP", "address": address}));
            let node = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": OTHER_NODE},
                "spec": {"podCIDRs": OTHER_RANGES}, "status": {"addresses": addresses},
            });
            request(&self.lab, "POST", "/api/v1/nodes", JSON, &node.to_string());
            self.has_other_node = true;
            until("routes to the other node", LIMIT, || {
                let routes = self.lab.shell("ip route show proto 109; ip -6 route show proto 109").stdout;
                OTHER_RANGES.iter().all(|range| routes.contains(&format!("{range} via "))).then_some(())
            })
            .unwrap_or_else(|error| unreachable!("{error}\n{}", self.lab.node_log()));
        }
        let (namespace, short) = split(name);
        let mut object = manifest(name, pod);
        object["spec"]["nodeName"] = json!(OTHER_NODE);
        let pods = format!("/api/v1/namespaces/{namespace}/pods");
        request(&self.lab, "POST", &pods, JSON, &object.to_string());
        let ips: Vec<Value> = pod.remote.iter().map(|address| json!({"ip": address})).collect();
        let phase = pod.phase.as_deref().unwrap_or("Running");
        let status = json!({"status": {"phase": phase, "podIP": pod.remote[0], "podIPs": ips}});
        request(&self.lab, "PATCH", &format!("{pods}/{short}/status"), MERGE, &status.to_string());
        // Of two that claim the same address one serves; that of the other node itself is there.
        let others = self.actors.values().filter_map(|actor| actor.pod.as_ref());
        let mut taken = others.flat_map(|pod| &pod.remote);
        let is_taken = pod.is_on_host_network || taken.any(|address| pod.remote.contains(address));
        if !is_taken {
            for address in &pod.remote {
                self.outside_address("add", *address);
            }
        }
        let place = self.outside.place(pod.remote.clone());
        let server = (!is_taken).then(|| Server::start(&place));
        self.actors.insert(name.to_owned(), Actor { place, services: Vec::new(), pod: Some(pod.clone()), server });
    }

    fn outside_address(&self, change: &str, address: IpAddr) {
        let (length, nodad) = if address.is_ipv6() { (128, "nodad") } else { (32, "") };
        let mut command = self.outside.command("ip");
        command.args(["address", change, &format!("{address}/{length}"), "dev", "eth0"]);
        command.args((change == "add").then_some(nodad).filter(|word| !word.is_empty()));
        let _ = Ran::run(&mut command).expect("ip can be started").expect_success();
    }
}

impl Other {
    pub(crate) fn is(name: &str) -> bool {
        [Self::Node, Self::Outside].iter().any(|other| other.as_str() == name)
    }
}

/// Namespace and name.
pub(crate) fn split(name: &str) -> (&str, &str) {
    name.split_once('/').unwrap_or_else(|| unreachable!("`{name}`: write NAMESPACE/NAME"))
}

fn parse(words: &str) -> Vec<IpAddr> {
    words.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn manifest(name: &str, pod: &Pod) -> Value {
    let (namespace, short) = split(name);
    let mut labels = pod.labels.clone();
    labels.entry("pod".to_owned()).or_insert_with(|| short.to_owned());
    labels.insert("actor".to_owned(), short.to_owned());
    let ports = pod.ports.iter().filter_map(|(name, value)| {
        let (number, protocol) = port(value)?;
        Some(json!({"name": name, "containerPort": number, "protocol": protocol.as_str()}))
    });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": short, "labels": labels},
        "spec": {"terminationGracePeriodSeconds": 0, "hostNetwork": pod.is_on_host_network, "containers": [
            {"name": "c", "image": HELLO_IMAGE, "command": WAIT, "ports": ports.collect::<Vec<_>>()},
        ]},
    })
}

fn service(name: &str) -> Value {
    let (namespace, short) = split(name);
    let ports = [Protocol::Tcp, Protocol::Udp].into_iter().flat_map(|protocol| {
        let name = protocol.as_str().to_lowercase();
        PORTS.map(|port| json!({"name": format!("{name}-{port}"), "port": port, "protocol": protocol.as_str()}))
    });
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": short},
        "spec": {"ipFamilyPolicy": "RequireDualStack", "selector": {"actor": short}, "ports": ports.collect::<Vec<_>>()},
    })
}
