//! Four pods in two namespaces, packets between all of them and to a service, and changes in the middle of which the daemon is killed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use integration::api::try_request;
use integration::fixture::HELLO_IMAGE;
use integration::lab::{Iptables, Lab, Place};
use integration::wait::until;
use minipod_protocol::judge::{FirstPacket, Kernel};
use serde_json::{Value, json};

use crate::node;
use crate::streams::{Line, PORTS, Streams, Transport, Way};

const LIMIT: Duration = Duration::from_secs(30);
/// What is on its way arrives within this time.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// The pods, with their namespaces; each has its name as the label `pod`, and `app`.
pub(crate) const PODS: [(&str, &str, &str); 4] =
    [("x", "s1", "server"), ("x", "s2", "server"), ("x", "friend", "friend"), ("y", "other", "other")];
/// The service, which is there in some changes only.
pub(crate) const SERVICE: &str = "service";
const SERVICE_ADDRESSES: [&str; 2] = ["10.96.0.50", "fd00:10:96::50"];

/// Whether packets of a way pass.
pub(crate) type Verdict = fn(&Way) -> bool;

/// Nothing is isolated, and there is no service.
pub(crate) fn open(way: &Way) -> bool {
    way.to != SERVICE
}

/// A change of objects, and what passes after it.
pub(crate) struct Change<'a> {
    pub(crate) name: &'a str,
    pub(crate) make: Box<dyn Fn(&Lab) + 'a>,
    pub(crate) passes: Verdict,
    /// what else is to be so after it
    pub(crate) is_done: Box<dyn Fn(&Lab) -> bool + 'a>,
}

impl<'a> Change<'a> {
    pub(crate) fn new(name: &'a str, passes: Verdict, make: impl Fn(&Lab) + 'a) -> Self {
        Self { name, make: Box::new(make), passes, is_done: Box::new(|_| true) }
    }
}

/// A start of the daemon that changes rules or sets.
pub(crate) struct Start<'a> {
    pub(crate) name: &'a str,
    pub(crate) options: &'a [&'a str],
    /// what is done while no daemon runs
    pub(crate) before: &'a str,
}

/// The scene, with everything that runs in it.
pub(crate) struct Scene {
    streams: Streams,
    passes: Verdict,
    /// last: pods go after what runs in them
    pub(crate) lab: Lab,
}

impl Scene {
    pub(crate) fn new(iptables: Iptables) -> Self {
        let lab = Lab::started("faults", iptables).expect("a lab");
        let namespaces = ["x", "y"].map(|name| {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": name}}})
        });
        let pods = PODS.map(|(namespace, name, app)| pod(namespace, name, app));
        let items: Vec<Value> = namespaces.into_iter().chain(pods).collect();
        lab.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
        let mut places = BTreeMap::new();
        for (namespace, name, _) in PODS {
            let ready = ["wait", "-n", namespace, &format!("pod/{name}"), "--for=condition=Ready", "--timeout=30s"];
            let _ = lab.minipod(&ready).expect_success();
            places.insert(name, Place::of_pod(&lab, namespace, name));
        }
        let streams = Streams::start(&places, lines(&places));
        let scene = Self { streams, passes: open, lab };
        scene.settle("at first", open);
        scene
    }

    /// The pod's address of that family.
    pub(crate) fn address(&self, pod: &str, v6: bool) -> IpAddr {
        let mut lines = self.streams.lines().iter();
        lines.find(|line| line.way.to == pod && line.way.v6 == v6).expect("a line to every pod").to.ip()
    }

    /// Makes a change there and back again, each with a daemon that ends before its first operation, before its second, and so on until
    /// both are done without meeting an end. `twice`: the daemon that comes after it ends as well.
    pub(crate) fn sweep(&mut self, there: &Change<'_>, back: &Change<'_>, twice: bool) {
        let (mut count, mut operation) = ([0, 0], 0);
        let mut is_open = [true, true];
        while is_open.contains(&true) {
            operation += 1;
            for (index, change) in [there, back].into_iter().enumerate() {
                let fault = is_open[index].then_some(operation);
                is_open[index] &= self.change(change, fault, twice);
                count[index] += usize::from(is_open[index]);
            }
            assert!(operation < 200, "{}: it never ends", there.name);
        }
        for (change, count) in [there, back].into_iter().zip(count) {
            assert!(count > 0, "{}: no operation was met", change.name);
            tell(&format!("{}: killed before each of {count} operations", change.name));
        }
    }

    /// The same for a start of the daemon.
    pub(crate) fn sweep_starts(&mut self, starts: &[Start<'_>]) {
        for start in starts {
            let mut operation = 0;
            let is_killed = |scene: &mut Self, operation| scene.start(start, operation);
            while is_killed(self, operation + 1) {
                operation += 1;
                assert!(operation < 200, "{}: it never ends", start.name);
            }
            assert!(operation > 0, "{}: no operation was met", start.name);
            tell(&format!("{}: killed before each of {operation} operations", start.name));
        }
    }

    /// Makes a change with a daemon that lives on.
    pub(crate) fn make(&mut self, change: &Change<'_>) {
        let _ = self.change(change, None, false);
    }

    /// Whether the daemon was killed.
    fn change(&mut self, change: &Change<'_>, fault: Option<u32>, twice: bool) -> bool {
        let (name, since) = (format!("{}, operation {fault:?}", change.name), self.streams.next());
        if let Some(operation) = fault {
            node::arm(&self.lab, operation);
        }
        (change.make)(&self.lab);
        until(&name, LIMIT, || {
            let is_over = node::is_dead(&self.lab) || (change.is_done)(&self.lab) && self.is_installed(change.passes);
            is_over.then_some(())
        })
        .unwrap_or_else(|error| unreachable!("{error}\n{}", self.lab.node_log()));
        // What a change leaves to be cleaned up goes on after it is in force: the end may come only now.
        let is_killed = fault.is_some() && !node::disarm(&self.lab);
        assert!(is_killed || !node::is_dead(&self.lab), "{name}: the daemon has ended by itself");
        if is_killed {
            until("the daemon to be dead", LIMIT, || node::is_dead(&self.lab).then_some(())).expect("dead");
            self.lie_dead();
            if twice {
                node::arm(&self.lab, fault.unwrap_or(1));
                let _ = self.lab.minipod(&["node", "start"]);
                let _ = node::disarm(&self.lab);
            }
            self.lab.start_node().expect("a new daemon");
        }
        self.settle(&name, change.passes);
        until(&name, LIMIT, || (change.is_done)(&self.lab).then_some(())).expect("done after the restart as well");
        self.check(&name, &since, change.passes);
        self.passes = change.passes;
        is_killed
    }

    fn start(&mut self, start: &Start<'_>, operation: u32) -> bool {
        let (name, since) = (format!("{}, operation {operation}", start.name), self.streams.next());
        node::kill(&self.lab);
        let _ = self.lab.shell(start.before).expect_success();
        node::arm(&self.lab, operation);
        let words = [&["node", "start"], start.options].concat();
        let is_killed = !self.lab.minipod(&words).succeeded();
        let _ = node::disarm(&self.lab);
        if is_killed {
            assert!(node::is_dead(&self.lab), "{name}: {}", self.lab.node_log());
            self.lie_dead();
            let _ = self.lab.minipod(&words).expect_success();
        }
        self.settle(&name, self.passes);
        self.check(&name, &since, self.passes);
        is_killed
    }

    /// Packets meet what the daemon has left, for a while.
    fn lie_dead(&self) {
        let since = self.streams.next();
        until("packets while no daemon runs", LIMIT, || self.streams.have_sent_since(&since).then_some(()))
            .expect("packets");
        assert!(node::is_dead(&self.lab));
    }

    /// Waits until packets, objects, rules and sets are as they should be.
    fn settle(&self, name: &str, passes: Verdict) {
        let settled = until(name, LIMIT, || {
            let since = self.streams.next();
            until("packets", LIMIT, || self.streams.have_sent_since(&since).then_some(())).expect("packets");
            let now = self.streams.next();
            let is_right = self
                .streams
                .lines()
                .iter()
                .zip(since)
                .zip(now)
                .all(|((line, since), now)| (line.arrived(since, now) > 0) == passes(&line.way));
            (is_right && self.is_installed(passes)).then_some(())
        });
        settled.unwrap_or_else(|error| {
            let said = node::judge(&self.lab, Vec::new());
            unreachable!("{error}\n{said:?}\n{}", self.lab.node_log())
        });
    }

    /// Whether the objects and the kernel say of every pair of pods what they should.
    fn is_installed(&self, passes: Verdict) -> bool {
        let lines: Vec<&Line> = self.streams.lines().iter().filter(|line| line.way.to != SERVICE).collect();
        let packets = lines.iter().map(|line| FirstPacket {
            source: self.address(line.way.from, line.way.v6),
            destination: line.to.ip(),
            protocol: Some(if line.way.transport == Transport::Udp { "UDP" } else { "TCP" }.to_owned()),
            port: Some(line.way.port),
        });
        let Some((judgements, differences)) = node::judge(&self.lab, packets.collect()) else { return false };
        let mut all = lines.iter().zip(&judgements);
        differences.is_empty() && all.all(|(line, j)| j.allowed == passes(&line.way) && j.kernel == Kernel::Agrees)
    }

    /// What has passed since is what may have.
    fn check(&self, name: &str, since: &[u32], passes: Verdict) {
        let now = self.streams.next();
        let lines = || self.streams.lines().iter().zip(since).zip(&now);
        let lost = || -> Vec<String> {
            let both = lines().filter(|((line, _), _)| passes(&line.way) && (self.passes)(&line.way));
            let lost = both.map(|((line, since), now)| (line, line.arrived(*since, *now), (now - since) as usize));
            let lost = lost.filter(|(_, arrived, sent)| arrived < sent);
            lost.map(|(line, arrived, sent)| format!("{:?}: {arrived} of {sent} came", line.way)).collect()
        };
        let all = until("what is on its way", ON_ITS_WAY, || lost().is_empty().then_some(()));
        assert!(all.is_ok(), "{name}: both states allow this:\n{}", lost().join("\n"));
        let neither = lines().filter(|((line, _), _)| !passes(&line.way) && !(self.passes)(&line.way));
        let leaked = neither.filter(|((line, since), now)| line.arrived(**since, **now) > 0);
        let leaked: Vec<String> = leaked.map(|((line, _), _)| format!("{:?}", line.way)).collect();
        assert!(leaked.is_empty(), "{name}: neither state allows this:\n{}", leaked.join("\n"));
    }
}

#[expect(clippy::print_stderr, reason = "the reader of a test's output wants to know how much it has shown")]
fn tell(line: &str) {
    eprintln!("{line}");
}

/// From every pod to every other one, and to the service.
fn lines(places: &BTreeMap<&'static str, Place>) -> Vec<Line> {
    let mut lines = Vec::new();
    let address = |name: &str, v6: bool| -> IpAddr {
        match places.get(name) {
            Some(place) => *place.addresses.iter().find(|address| address.is_ipv6() == v6).expect("an address"),
            None => SERVICE_ADDRESSES[usize::from(v6)].parse().expect("an address"),
        }
    };
    for (_, from, _) in PODS {
        let others = PODS.into_iter().map(|(_, to, _)| to).filter(|to| *to != from);
        for (to, v6) in others.chain([SERVICE]).flat_map(|to| [(to, false), (to, true)]) {
            let way = |transport, port| Way { from, to, transport, port, v6 };
            // A connection outlives a service, also one of datagrams.
            let udp = PORTS.into_iter().filter(|_| to != SERVICE).map(|port| way(Transport::Udp, port));
            // The service never leads back to the pod that asks.
            let tcp = (to != SERVICE || from != "s1" && from != "s2").then(|| way(Transport::Tcp, 80));
            lines.extend(udp.chain(tcp).map(|way| Line::new(way, address(to, v6))));
        }
    }
    lines
}

/// A pod that waits.
pub(crate) fn pod(namespace: &str, name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"pod": name, "app": app}},
        "spec": {"terminationGracePeriodSeconds": 0,
                 "containers": [{"name": "c", "image": HELLO_IMAGE, "command": ["sleep", "infinity"]}]},
    })
}

/// The service before these pods.
pub(crate) fn service(selector: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "x", "name": SERVICE},
        "spec": {"ipFamilyPolicy": "RequireDualStack", "clusterIP": SERVICE_ADDRESSES[0], "clusterIPs": SERVICE_ADDRESSES,
                 "selector": selector, "ports": [{"port": 80}]},
    })
}

/// Makes a request that is accepted, if the daemon lives long enough to say so.
pub(crate) fn ask(lab: &Lab, method: &str, path: &str, content: &str, body: &Value) {
    if let Ok(answer) = try_request(lab, method, path, content, &body.to_string()) {
        assert!(answer.is_accepted, "{method} {path}: {}", answer.text);
    }
}
