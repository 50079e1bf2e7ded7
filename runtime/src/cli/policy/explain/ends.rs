//! Which first packets a question is about. Pure.

use std::net::IpAddr;

use anyhow::{bail, ensure};
use k8s_openapi::api::core::v1::{ContainerPort, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use minipod_model::{IpFamily, Protocol};
use minipod_protocol::judge::FirstPacket;
use netd_policy::object;

use super::super::super::names;

/// What was written behind `--from` or `--to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Word {
    Address(IpAddr),
    Named { namespace: Option<String>, kind: Option<&'static str>, name: String },
}

/// An object's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Name {
    pub(in crate::cli) namespace: String,
    pub(in crate::cli) name: String,
}

/// The protocol of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Port(Protocol),
    Icmp,
}

/// A destination.
#[derive(Debug)]
pub(super) enum To {
    Address(IpAddr),
    Pod(Box<Pod>),
    Service(Box<Service>, Vec<EndpointSlice>),
}

/// Who opens a connection.
#[derive(Debug)]
pub(super) struct From {
    name: String,
    addresses: Vec<IpAddr>,
}

/// A first packet, with the names that it was asked for by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) from: String,
    pub(super) to: String,
    /// `service NAME port N`, if the connection goes to a service
    pub(super) through: Option<String>,
    pub(super) packet: FirstPacket,
}

const KINDS: [(&str, &[&str]); 2] = [("pod", &["pod", "pods", "po"]), ("service", &["service", "services", "svc"])];

impl Word {
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let kind = |word: &str| KINDS.iter().find(|(_, words)| words.contains(&word)).map(|(kind, _)| *kind);
        let parts: Vec<&str> = text.split('/').collect();
        let named = |namespace: Option<&str>, kind, name: &str| {
            let checked = names::check(name).and_then(|()| namespace.map_or(Ok(()), names::check_namespace));
            checked.map_err(|error| error.to_string())?;
            Ok(Self::Named { namespace: namespace.map(ToOwned::to_owned), kind, name: name.to_owned() })
        };
        match parts.as_slice() {
            _ if parts.contains(&"") => {}
            [name] => return named(None, None, name),
            [first, name] => match kind(first) {
                Some(kind) => return named(None, Some(kind), name),
                None => return named(Some(first), None, name),
            },
            [namespace, middle, name] if kind(middle).is_some() => return named(Some(namespace), kind(middle), name),
            _ => {}
        }
        Err("neither an address nor a name: use NAME, NAMESPACE/NAME, pod/NAME, service/NAME or NAMESPACE/pod/NAME"
            .to_owned())
    }

    /// The object of this kind that is meant, if it can be one.
    pub(in crate::cli) fn name_in(&self, namespace: &str, wanted: &str) -> Option<Name> {
        match self {
            Self::Named { namespace: given, kind, name } if kind.is_none_or(|kind| kind == wanted) => {
                Some(Name { namespace: given.clone().unwrap_or_else(|| namespace.to_owned()), name: name.clone() })
            }
            _ => None,
        }
    }

    pub(super) fn is_kind(&self, wanted: &str) -> bool {
        matches!(self, Self::Named { kind: Some(kind), .. } if *kind == wanted)
    }
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Named { namespace, kind, name } => {
                let parts = [namespace.as_deref(), *kind, Some(name.as_str())];
                f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join("/"))
            }
        }
    }
}

impl Transport {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let upper = text.to_uppercase();
        let known = Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == upper).map(Self::Port);
        let icmp = (upper == "ICMP").then_some(Self::Icmp);
        known.or(icmp).ok_or_else(|| "use TCP, UDP, SCTP or ICMP".to_owned())
    }
}

pub(super) fn from_address(word: &Word) -> anyhow::Result<From> {
    match word {
        Word::Address(address) => Ok(From { name: address.to_string(), addresses: vec![*address] }),
        Word::Named { name, .. } => bail!("--from `{name}`: a service opens no connections; give a pod or an address"),
    }
}

pub(super) fn from_pod(pod: &Pod) -> anyhow::Result<From> {
    let pod = object::Pod::read(pod);
    let addresses = addresses_of(&pod)?;
    Ok(From { name: pod.key.to_string(), addresses })
}

pub(super) fn to_address(word: &Word) -> anyhow::Result<To> {
    match word {
        Word::Address(address) => {
            let elsewhere = !(address.is_loopback() || address.is_unspecified() || address.is_multicast());
            ensure!(
                elsewhere,
                "--to `{address}`: no router forwards packets to that address; give that of a pod, a service or a host"
            );
            Ok(To::Address(*address))
        }
        Word::Named { name, .. } => bail!("--to `{name}`: neither a pod nor a service"),
    }
}

fn addresses_of(pod: &object::Pod) -> anyhow::Result<Vec<IpAddr>> {
    ensure!(
        !pod.host_network,
        "pod \"{}\" is on the host's network: no policy applies to it; give the node's address",
        pod.key
    );
    ensure!(!pod.addresses.is_empty(), "pod \"{}\" has no address yet: see `minipod describe pod`", pod.key);
    Ok(pod.addresses.clone())
}

/// The first packets that `from` sends to open a connection, one for each address family, port and backend.
pub(super) fn questions(
    from: &From,
    to: &To,
    port: Option<&str>,
    transport: Transport,
) -> anyhow::Result<Vec<Question>> {
    let destinations = match to {
        To::Address(address) => to_one(&address.to_string(), &[*address], &[], port, transport)?,
        To::Pod(pod) => {
            let read = object::Pod::read(pod);
            to_one(&read.key.to_string(), &addresses_of(&read)?, &declared(pod), port, transport)?
        }
        To::Service(service, slices) => to_service(service, slices, port, transport)?,
    };
    let mut questions = Vec::new();
    for destination in destinations {
        let same = |address: &&IpAddr| IpFamily::of(**address) == IpFamily::of(destination.address);
        for source in from.addresses.iter().filter(same) {
            questions.push(Question {
                from: from.name.clone(),
                to: destination.name.clone(),
                through: destination.through.clone(),
                packet: FirstPacket {
                    source: *source,
                    destination: destination.address,
                    protocol: destination.port.map(|(protocol, _)| protocol.as_str().to_owned()),
                    port: destination.port.map(|(_, port)| port),
                },
            });
        }
    }
    ensure!(!questions.is_empty(), "the two ends have no address family in common");
    Ok(questions)
}

struct Destination {
    name: String,
    through: Option<String>,
    address: IpAddr,
    port: Option<(Protocol, u16)>,
}

fn declared(pod: &Pod) -> Vec<ContainerPort> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.flat_map(|container| container.ports.iter().flatten()).cloned().collect()
}

fn to_one(
    name: &str,
    addresses: &[IpAddr],
    declared: &[ContainerPort],
    port: Option<&str>,
    transport: Transport,
) -> anyhow::Result<Vec<Destination>> {
    let destination =
        |address: &IpAddr, port| Destination { name: name.to_owned(), through: None, address: *address, port };
    let Transport::Port(protocol) = transport else {
        ensure!(port.is_none(), "--port `{}`: ICMP has no ports", port.unwrap_or_default());
        return Ok(addresses.iter().map(|address| destination(address, None)).collect());
    };
    let of_protocol = declared.iter().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == protocol.as_str());
    let of_protocol: Vec<(Option<&str>, u16)> =
        of_protocol.filter_map(|port| Some((port.name.as_deref(), u16::try_from(port.container_port).ok()?))).collect();
    let ports = match port.map(|text| (text, text.parse::<u16>())) {
        Some((_, Ok(number))) if number > 0 => vec![number],
        Some((text, _)) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            bail!("--port `{text}`: ports are 1 to 65535")
        }
        Some((text, _)) => {
            let named: Vec<u16> = of_protocol.iter().filter(|(name, _)| *name == Some(text)).map(|(_, n)| *n).collect();
            ensure!(!named.is_empty(), "--port `{text}`: {name} has no {} port of that name", protocol.as_str());
            named
        }
        None => of_protocol.iter().map(|(_, number)| *number).collect(),
    };
    ensure!(!ports.is_empty(), "{name} declares no {} port: give one with `--port`", protocol.as_str());
    let all = addresses.iter().flat_map(|address| ports.iter().map(move |port| (address, *port)));
    Ok(all.map(|(address, port)| destination(address, Some((protocol, port)))).collect())
}

fn to_service(
    service: &Service,
    slices: &[EndpointSlice],
    port: Option<&str>,
    transport: Transport,
) -> anyhow::Result<Vec<Destination>> {
    let service = object::Service::read(service);
    let Transport::Port(protocol) = transport else { bail!("service \"{}\" takes no ICMP: give a pod", service.key) };
    let is_asked = |candidate: &object::ServicePort| {
        candidate.protocol == protocol
            && port.is_none_or(|port| candidate.name == port || candidate.port.to_string() == port)
    };
    let ports: Vec<&object::ServicePort> = service.ports.iter().filter(|port| is_asked(port)).collect();
    ensure!(
        !ports.is_empty(),
        "service \"{}\" has no {} port{}: see `minipod describe service {}`",
        service.key,
        protocol.as_str(),
        port.map(|port| format!(" `{port}`")).unwrap_or_default(),
        service.key.name
    );
    let mut destinations = Vec::new();
    for slice in slices.iter().map(object::EndpointSlice::read) {
        for (wanted, target) in ports.iter().flat_map(|port| slice.ports.iter().map(move |target| (port, target))) {
            if target.name != wanted.name || target.protocol != wanted.protocol {
                continue;
            }
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
                let backend = endpoint.pod.as_ref().map(|pod| format!("{}/{pod}", service.key.namespace));
                destinations.push(Destination {
                    name: backend.unwrap_or_else(|| endpoint.address.to_string()),
                    through: Some(format!("service {} port {}", service.key, wanted.port)),
                    address: endpoint.address,
                    port: Some((protocol, target.port)),
                });
            }
        }
    }
    ensure!(
        !destinations.is_empty(),
        "service \"{}\" has no ready endpoint: no connection to it is answered",
        service.key
    );
    Ok(destinations)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{From, Question, To, Transport, Word, from_pod, questions};

    fn pod(name: &str, addresses: &[&str], ports: &Value) -> k8s_openapi::api::core::v1::Pod {
        let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        serde_json::from_value(json!({
            "metadata": {"namespace": "x", "name": name},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": ports}]},
            "status": {"podIPs": ips},
        }))
        .expect("a pod")
    }

    fn client() -> From {
        from_pod(&pod("client", &["10.0.0.9", "fd00::9"], &json!([]))).expect("a client")
    }

    fn short(questions: &[Question]) -> Vec<String> {
        let text = |question: &Question| {
            let packet = &question.packet;
            let port = packet.port.map_or_else(|| "ICMP".to_owned(), |port| port.to_string());
            format!("{} {} {port}", question.to, packet.destination)
        };
        questions.iter().map(text).collect()
    }

    #[test]
    fn names_are_read_in_each_of_their_forms() {
        let named = |namespace: Option<&str>, kind, name: &str| {
            Ok(Word::Named { namespace: namespace.map(ToOwned::to_owned), kind, name: name.to_owned() })
        };
        assert_eq!(Word::parse("web"), named(None, None, "web"));
        assert_eq!(Word::parse("pod/web"), named(None, Some("pod"), "web"));
        assert_eq!(Word::parse("svc/web"), named(None, Some("service"), "web"));
        assert_eq!(Word::parse("shop/web"), named(Some("shop"), None, "web"));
        assert_eq!(Word::parse("shop/service/web"), named(Some("shop"), Some("service"), "web"));
        assert_eq!(Word::parse("fd00::1"), Ok(Word::Address("fd00::1".parse().expect("an address"))));
        for wrong in ["", "/web", "a/b/c", "a/pod/", "a/b/c/d"] {
            assert!(Word::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pod_is_asked_for_at_each_of_its_addresses_and_declared_ports() {
        let ports = json!([{"containerPort": 80, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}]);
        let to = To::Pod(Box::new(pod("web", &["10.0.0.1", "fd00::1"], &ports)));
        let tcp = Transport::parse("tcp").expect("a protocol");
        let ask = |port| questions(&client(), &to, port, tcp);
        assert_eq!(short(&ask(None).expect("questions")), ["x/web 10.0.0.1 80", "x/web fd00::1 80"]);
        assert_eq!(short(&ask(Some("http")).expect("questions")).len(), 2);
        assert_eq!(short(&ask(Some("9")).expect("questions")), ["x/web 10.0.0.1 9", "x/web fd00::1 9"]);
        assert_eq!(
            ask(Some("nope")).expect_err("no such port").to_string(),
            "--port `nope`: x/web has no TCP port of that name"
        );
        for bad in ["0", "70000"] {
            let refusal = ask(Some(bad)).expect_err("no port").to_string();
            assert_eq!(refusal, format!("--port `{bad}`: ports are 1 to 65535"));
        }
        let icmp = questions(&client(), &to, None, Transport::Icmp).expect("questions");
        assert_eq!(short(&icmp), ["x/web 10.0.0.1 ICMP", "x/web fd00::1 ICMP"]);
    }

    #[test]
    fn a_service_is_asked_for_at_each_backend_after_translation() {
        let service: k8s_openapi::api::core::v1::Service = serde_json::from_value(json!({
            "metadata": {"namespace": "x", "name": "web"},
            "spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"port": 80, "targetPort": 8080}]},
        }))
        .expect("a service");
        let slice = |ready: bool| {
            serde_json::from_value(json!({
                "metadata": {"namespace": "x", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "ports": [{"port": 8080}],
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": "web-a"}}],
            }))
            .expect("a slice")
        };
        let tcp = Transport::parse("TCP").expect("a protocol");
        let service = Box::new(service);
        let to = To::Service(service.clone(), vec![slice(true)]);
        let all = questions(&client(), &to, Some("80"), tcp).expect("questions");
        assert_eq!(short(&all), ["x/web-a 10.0.0.1 8080"]);
        assert_eq!(all[0].through.as_deref(), Some("service x/web port 80"));
        let error = questions(&client(), &To::Service(service, vec![slice(false)]), None, tcp).expect_err("nobody");
        assert_eq!(error.to_string(), "service \"x/web\" has no ready endpoint: no connection to it is answered");
    }
}
