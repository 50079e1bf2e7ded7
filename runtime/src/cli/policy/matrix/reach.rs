//! Which ports of whom a pod reaches, by the reference evaluator. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use minipod_model::{IpFamily, PodKey, Protocol};
use netd_policy::evaluate::verdict;
use netd_policy::object::{PortNumbers, RulePorts};
use netd_policy::{Cluster, Packet, Transport, object};

/// A port of which no policy speaks.
const ANY: Port = Port { number: 80, protocol: Protocol::Tcp };

/// A destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cli) struct Port {
    pub(in crate::cli) number: u16,
    pub(in crate::cli) protocol: Protocol,
}

/// Every pod with every pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Matrix {
    /// sources and destinations, by name
    pub(super) pods: Vec<PodKey>,
    /// by source, then by destination
    pub(super) rows: Vec<Vec<Cell>>,
    /// what pods were asked for that declare no port, where none was given
    pub(super) supposed: Option<Supposed>,
    /// pods that no packet is sent to, with the reason
    pub(super) not_shown: Vec<(PodKey, &'static str)>,
}

/// Ports that nobody declares and nobody gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Supposed {
    /// policies name them
    Named(BTreeSet<Port>),
    /// no policy names a port: one is as good as another
    Any(Port),
}

/// One pair: every port that was asked for, with the families that both ends have, and whether they pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cell(pub(super) Vec<(Port, Vec<(IpFamily, bool)>)>);

/// What a cell comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// the two ends have no address family in common
    NoFamily,
    All,
    Nothing,
    /// these; with a family where the other one does not pass
    Some(Vec<(Port, Option<IpFamily>)>),
}

impl Port {
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
        let number = number.parse().ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| "give a number from 1 to 65535, as in `53/UDP`".to_owned())?;
        let protocol =
            protocol.to_uppercase().parse().map_err(|_| "use TCP, UDP or SCTP, as in `53/UDP`".to_owned())?;
        Ok(Self { number, protocol })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// A pod with addresses, and what it is asked for.
struct End {
    key: PodKey,
    addresses: Vec<IpAddr>,
    ports: BTreeSet<Port>,
}

impl Matrix {
    /// Between these pods of the cluster, `ports` and those that they declare; where there are neither, those that policies name.
    pub(super) fn of<'a>(cluster: &Cluster, pods: impl Iterator<Item = &'a v1::Pod>, ports: &[Port]) -> Self {
        let mut ends = Vec::new();
        let mut not_shown = Vec::new();
        let mut supposed = None;
        for pod in pods {
            let read = object::Pod::read(pod);
            match (read.host_network, read.finished, read.addresses.is_empty()) {
                (true, ..) => not_shown.push((read.key, "on the host's network: no policy applies")),
                (_, true, _) => not_shown.push((read.key, "has ended")),
                (.., true) => not_shown.push((read.key, "no address yet")),
                (false, false, false) => {
                    let mut ports: BTreeSet<Port> = declared(pod).chain(ports.iter().copied()).collect();
                    if ports.is_empty() {
                        ports = supposed.get_or_insert_with(|| Supposed::of(cluster)).ports();
                    }
                    ends.push(End { key: read.key, addresses: read.addresses, ports });
                }
            }
        }
        ends.sort_by(|a, b| a.key.cmp(&b.key));
        not_shown.sort();
        let row = |from: &End| ends.iter().map(|to| cell(cluster, from, to)).collect();
        let rows = ends.iter().map(row).collect();
        Self { pods: ends.into_iter().map(|end| end.key).collect(), rows, supposed, not_shown }
    }

    /// Source, destination and what lies between them.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&PodKey, &PodKey, &Cell)> {
        let rows = self.pods.iter().zip(&self.rows);
        rows.flat_map(|(from, row)| self.pods.iter().zip(row).map(move |(to, cell)| (from, to, cell)))
    }
}

impl Supposed {
    /// What the policies of a cluster name, of ranges the first and the last.
    fn of(cluster: &Cluster) -> Self {
        let rules = cluster.policies.values().flat_map(|policy| policy.ingress.iter().chain(&policy.egress).flatten());
        let listed = rules.filter_map(|rule| match &rule.ports {
            RulePorts::Listed(ports) => Some(ports),
            RulePorts::Every => None,
        });
        let ends = listed.flatten().filter_map(|port| match port.numbers {
            PortNumbers::Range(first, last) => {
                Some([first, last].map(|number| Port { number, protocol: port.protocol }))
            }
            PortNumbers::Every | PortNumbers::Named(_) => None,
        });
        let named: BTreeSet<Port> = ends.flatten().filter(|port| port.number > 0).collect();
        if named.is_empty() { Self::Any(ANY) } else { Self::Named(named) }
    }

    fn ports(&self) -> BTreeSet<Port> {
        match self {
            Self::Named(ports) => ports.clone(),
            Self::Any(port) => [*port].into(),
        }
    }
}

/// Ports of containers, and of init containers that go on beside them.
pub(in crate::cli) fn declared(pod: &v1::Pod) -> impl Iterator<Item = Port> + '_ {
    let spec = pod.spec.iter();
    let containers = spec.clone().flat_map(|spec| &spec.containers);
    let sidecars = spec.flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    containers.chain(sidecars).flat_map(|container| container.ports.iter().flatten()).filter_map(|port| {
        Some(Port {
            number: u16::try_from(port.container_port).ok()?,
            protocol: port.protocol.as_deref().unwrap_or("TCP").parse().ok()?,
        })
    })
}

fn cell(cluster: &Cluster, from: &End, to: &End) -> Cell {
    let passes = |port: &Port, family: IpFamily| {
        let address = |end: &End| end.addresses.iter().copied().find(|address| IpFamily::of(*address) == family);
        let (source, destination) = (address(from)?, address(to)?);
        let packet = Packet { source, destination, transport: Transport::Port(port.protocol, port.number) };
        Some((family, verdict(cluster, &packet).is_allowed()))
    };
    let families = |port: &Port| IpFamily::ALL.into_iter().filter_map(|family| passes(port, family)).collect();
    Cell(to.ports.iter().map(|port| (*port, families(port))).collect())
}

impl Cell {
    pub(super) fn reach(&self) -> Reach {
        if self.0.iter().all(|(_, families)| families.is_empty()) {
            return Reach::NoFamily;
        }
        let of_port = |(port, families): &(Port, Vec<(IpFamily, bool)>)| {
            let passing: Vec<IpFamily> =
                families.iter().filter(|(_, passes)| *passes).map(|(family, _)| *family).collect();
            match passing.as_slice() {
                [] => None,
                [only] if families.len() > 1 => Some((*port, Some(*only))),
                _ => Some((*port, None)),
            }
        };
        let ports: Vec<(Port, Option<IpFamily>)> = self.0.iter().filter_map(of_port).collect();
        match ports.len() {
            0 => Reach::Nothing,
            all if all == self.0.len() && ports.iter().all(|(_, family)| family.is_none()) => Reach::All,
            _ => Reach::Some(ports),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::api::core::v1;
    use netd_policy::{Cluster, Options, object};
    use serde_json::{Value, json};

    use super::{Matrix, Port};

    pub(in super::super) fn pod(name: &str, ips: &[&str], ports: &Value) -> v1::Pod {
        let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": ports}]}, "status": {"podIPs": ips},
        }))
        .expect("a pod")
    }

    /// `web` takes its first port from `client`, and the second from `client` over IPv6.
    pub(in super::super) fn shop() -> Matrix {
        let mut host = pod("host", &["192.0.2.1"], &json!([]));
        host.spec.get_or_insert_default().host_network = Some(true);
        let pods = [
            pod(
                "web",
                &["10.0.0.1", "fd00::1"],
                &json!([{"containerPort": 80}, {"containerPort": 81}, {"containerPort": 53, "protocol": "UDP"}]),
            ),
            pod("client", &["10.0.0.2", "fd00::2"], &json!([])),
            pod("old", &["10.0.0.3"], &json!([{"containerPort": 1}])),
            pod("new", &[], &json!([])),
            host,
        ];
        let policy = serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "p"}, "spec": {
        "podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 80}]},
            {"from": [{"ipBlock": {"cidr": "fd00::/64"}}], "ports": [{"port": 81}]},
        ]}}));
        let policy = object::Policy::read(&policy.expect("a policy"));
        let mut cluster = Cluster::new(Options::new(String::new()));
        cluster.pods = pods.iter().map(object::Pod::read).map(|pod| (pod.key.clone(), pod)).collect();
        cluster.policies = [(policy.key.clone(), policy)].into();
        Matrix::of(&cluster, pods.iter(), &[])
    }

    #[test]
    fn ports_are_given_as_number_and_protocol() {
        let text = |text: &str| Port::parse(text).map(|port| port.to_string());
        assert_eq!(text("80"), Ok("80/TCP".to_owned()));
        assert_eq!(text("53/udp"), Ok("53/UDP".to_owned()));
        for wrong in ["", "0", "65536", "http", "80/ICMP", "80/"] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }
}
