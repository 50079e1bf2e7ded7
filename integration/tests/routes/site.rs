//! Two nodes with stores of their own, each of which is told of the other: joined by a cable, or by a router.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use integration::api::{JSON, MERGE, request};
use integration::lab::{Iptables, Lab};
use integration::ran::Ran;
use integration::wait::until;
use minipod_kernel::netns::NetNs;
use serde_json::{Value, json};

use crate::wire::Wire;

const PATIENCE: Duration = Duration::from_secs(10);

/// What is between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Underlay {
    /// one cable, both families
    Segment,
    /// a router, both families
    Router,
    /// a router that knows IPv6 only
    RouterV6,
    /// a router, both families; the first node's cable to it passes on bytes alone
    Bytes,
}

/// A node's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) ranges: [&'static str; 2],
    /// addresses on the cable, with prefix length
    addresses: &'static [&'static str],
    /// of the router
    gateways: &'static [&'static str],
}

pub(crate) const RANGES: [[&str; 2]; 2] =
    [["10.244.1.0/24", "fd00:10:244:1::/64"], ["10.244.2.0/24", "fd00:10:244:2::/64"]];

fn places(underlay: Underlay) -> [Place; 2] {
    type Cable = (&'static [&'static str], &'static [&'static str]);
    let cables: [Cable; 2] = match underlay {
        Underlay::Segment => {
            [(&["192.0.2.1/24", "2001:db8:1::1/64"], &[]), (&["192.0.2.2/24", "2001:db8:1::2/64"], &[])]
        }
        Underlay::Router | Underlay::Bytes => [
            (&["192.0.2.1/24", "2001:db8:1::1/64"], &["192.0.2.254", "2001:db8:1::fe"]),
            (&["198.51.100.2/24", "2001:db8:2::2/64"], &["198.51.100.254", "2001:db8:2::fe"]),
        ],
        Underlay::RouterV6 => {
            [(&["2001:db8:1::1/64"], &["2001:db8:1::fe"]), (&["2001:db8:2::2/64"], &["2001:db8:2::fe"])]
        }
    };
    let place = |number: usize, name| Place {
        name,
        ranges: RANGES[number],
        addresses: cables[number].0,
        gateways: cables[number].1,
    };
    [place(0, "n1"), place(1, "n2")]
}

impl Place {
    /// The addresses by which others know it.
    pub(crate) fn internal(&self) -> Vec<&'static str> {
        self.addresses.iter().filter_map(|address| address.split('/').next()).collect()
    }
}

/// The nodes; what is between them goes last.
pub(crate) struct Site {
    pub(crate) one: Lab,
    pub(crate) two: Lab,
    pub(crate) router: Option<Lab>,
    pub(crate) places: [Place; 2],
    wire: Option<Wire>,
}

impl Site {
    /// Two machines with nothing running in them.
    pub(crate) fn new(iptables: Iptables, underlay: Underlay) -> Self {
        let places = places(underlay);
        let [one, two] = places.map(|place| Lab::new(place.name, iptables).expect("a lab"));
        let router = (underlay != Underlay::Segment).then(|| Lab::new("router", iptables).expect("a lab"));
        let with_wire = router.as_ref().filter(|_| underlay == Underlay::Bytes);
        let wire = with_wire.map(|router| Wire::new(&one, router, places[0].name));
        let site = Self { one, two, router, places, wire };
        match &site.router {
            None => cable(&site.one, &site.two, "up0"),
            Some(router) => {
                let forward =
                    "for family in ipv4/conf/all ipv6/conf/all; do echo 1 > /proc/sys/net/$family/forwarding; done";
                let _ = router.shell(forward).expect_success();
                for (lab, place) in site.nodes() {
                    if site.wire.is_none() || place.name != places[0].name {
                        cable(lab, router, place.name);
                    }
                    let plug = |gateway: &str| {
                        let length = if gateway.contains(':') { 64 } else { 24 };
                        format!(
                            "ip address add {gateway}/{length} dev {} $(case {gateway} in *:*) echo nodad;; esac)\n",
                            place.name
                        )
                    };
                    let plugs: String = place.gateways.iter().map(|gateway| plug(gateway)).collect();
                    let _ = router.shell(&format!("{plugs}ip link set {} up", place.name)).expect_success();
                }
            }
        }
        for (lab, place) in site.nodes() {
            let address = |address: &&str| {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                format!("ip address add {address} dev up0 {nodad}\n")
            };
            let gateway = |gateway: &&str| {
                format!("ip {} route add default via {gateway}\n", if gateway.contains(':') { "-6" } else { "" })
            };
            let addresses: String = place.addresses.iter().map(address).collect();
            let gateways: String = place.gateways.iter().map(gateway).collect();
            let _ = lab.shell(&format!("{addresses}ip link set up0 up\n{gateways}")).expect_success();
        }
        for (lab, _) in site.nodes() {
            // The kernel's own address on a cable that is up at both ends comes last.
            until("the cable", PATIENCE, || {
                let own = lab.shell("ip -6 address show dev up0 scope link -tentative").expect_success();
                own.contains("fe80::").then_some(())
            })
            .expect("up");
        }
        site
    }

    /// The same with a node on each that knows of the other, and a pod: `client` on the first, `server` on the second.
    pub(crate) fn with_pods(iptables: Iptables, underlay: Underlay) -> Self {
        let site = Self::new(iptables, underlay);
        site.start(&[]);
        site.introduce();
        for (lab, pod) in [(&site.one, "client"), (&site.two, "server")] {
            let run = ["run", pod, "--labels", &format!("app={pod}"), "--image", "minipod.local/tools:1.0"];
            let _ = lab.minipod(&run).expect_success();
        }
        site.one.wait_ready("client");
        site.two.wait_ready("server");
        site.wait_for_routes();
        site
    }

    /// Starts both nodes.
    pub(crate) fn start(&self, more: &[&str]) {
        for (lab, place) in self.nodes() {
            start(lab, place, more);
        }
    }

    /// Tells each node of the other.
    pub(crate) fn introduce(&self) {
        let [one, two] = self.places;
        introduce(&self.one, two);
        introduce(&self.two, one);
    }

    pub(crate) fn nodes(&self) -> [(&Lab, Place); 2] {
        [(&self.one, self.places[0]), (&self.two, self.places[1])]
    }

    /// Waits until each node has a route to each range of the other.
    pub(crate) fn wait_for_routes(&self) {
        for (lab, other) in [(&self.one, self.places[1]), (&self.two, self.places[0])] {
            until("routes to the other node", PATIENCE, || {
                let routes = routes(lab);
                other.ranges.iter().all(|range| routes.contains(&format!("{range} via "))).then_some(())
            })
            .unwrap_or_else(|error| unreachable!("{error}:\n{}\n{}", routes(lab), lab.node_log()));
        }
    }
}

pub(crate) fn start(lab: &Lab, place: Place, more: &[&str]) {
    let ranges = place.ranges.join(",");
    let _ = lab.minipod(&[&["node", "start", "--pod-cidr", &ranges], more].concat()).expect_success();
}

fn introduce(lab: &Lab, other: Place) {
    let internal = other.internal();
    let addresses: Vec<Value> = internal.iter().map(|a| json!({"type": "InternalIP", "address": a})).collect();
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": other.name},
        "spec": {"podCIDRs": other.ranges}, "status": {"addresses": addresses},
    });
    request(lab, "POST", "/api/v1/nodes", JSON, &node.to_string());
}

/// Forgets the other node.
pub(crate) fn forget(lab: &Lab, other: Place) {
    request(lab, "DELETE", &format!("/api/v1/nodes/{}", other.name), JSON, "");
}

/// Tells a node of a pod on the other one.
pub(crate) fn remote_pod(lab: &Lab, name: &str, labels: &Value, node: &str, addresses: &[IpAddr]) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "minipod.local/tools:1.0"}]},
    });
    request(lab, "POST", "/api/v1/namespaces/default/pods", JSON, &pod.to_string());
    let ips: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    let status = json!({"status": {"phase": "Running", "podIP": addresses[0], "podIPs": ips}});
    request(lab, "PATCH", &format!("/api/v1/namespaces/default/pods/{name}/status"), MERGE, &status.to_string());
}

/// Our routes, rules aside.
pub(crate) fn routes(lab: &Lab) -> String {
    lab.shell("ip route show proto 109; ip -6 route show proto 109").expect_success()
}

/// The node's network.
pub(crate) fn network(lab: &Lab) -> NetNs {
    NetNs::open(&PathBuf::from(format!("/proc/{}/ns/net", lab.anchor()))).expect("the node's network")
}

/// A pod's network.
pub(crate) fn network_of_pod(lab: &Lab, pod: &str) -> NetNs {
    NetNs::open(&integration::lab::Place::of_pod(lab, "default", pod).netns).expect("the pod's network")
}

/// A pod's addresses, IPv4 first.
pub(crate) fn addresses(lab: &Lab, pod: &str) -> Vec<IpAddr> {
    let args = ["get", "pod", pod, "-o", "jsonpath={.status.podIPs[*].ip}"];
    let said = lab.minipod(&args).expect_success();
    said.split_whitespace().map(|address| address.parse().expect("an address")).collect()
}

/// A cable with the end `up0` at a lab and `far` at the other one. The labs count their processes for themselves, so it is made
/// with the machine's numbers.
pub(crate) fn cable(lab: &Lab, other: &Lab, far: &str) {
    let mut command = lab.command_from_outside("ip");
    command.args(["link", "add", "up0", "type", "veth", "peer", "name", far, "netns", &other.anchor().to_string()]);
    let _ = Ran::run(&mut command).expect("ip can be started").expect_success();
}
