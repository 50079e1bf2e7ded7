//! What the cluster's domain holds. Pure: a snapshot is made from the objects and never changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use minipod_model::IpFamily;
use minipod_model::defaults::CLUSTER_DOMAIN;
use netd_policy::Cluster;
use netd_policy::object::{Endpoint, EndpointSlice, Service, ServiceKind};

/// The version of the specification that the names follow, told under `dns-version`.
const SPECIFICATION: &str = "1.1.0";

/// Names of the cluster's domain and their records. Names are in lower case, without the dot at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    /// every name that exists, also those with nothing but names beneath them
    names: BTreeMap<String, Entry>,
    pointers: BTreeMap<IpAddr, BTreeSet<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    addresses: BTreeSet<IpAddr>,
    services: BTreeSet<Target>,
    alias: Option<String>,
    text: Option<&'static str>,
}

/// Where a service is: the content of an SRV record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// the name that has the address
    pub name: String,
    /// the port
    pub port: u16,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A or AAAA
    Address(IpFamily),
    /// SRV
    Service,
    /// TXT
    Text,
    /// any other type: no name has such records
    Other,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// addresses of the family that was asked for, at least one
    Addresses(Vec<IpAddr>),
    /// at least one
    Services(Vec<Target>),
    /// the text
    Text(&'static str),
    /// the name stands for another, inside the cluster or outside
    Alias(String),
    /// the name exists and has no such records
    NoData,
    /// the name does not exist
    NoName,
    /// the name is not in the cluster's domain
    NotOurs,
}

impl Records {
    /// The names that the objects ask for.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        let mut records = Self::default();
        records.entry(&format!("dns-version.{CLUSTER_DOMAIN}")).text = Some(SPECIFICATION);
        for base in ["svc", "pod"] {
            records.entry(&format!("{base}.{CLUSTER_DOMAIN}"));
            for namespace in cluster.namespaces.keys() {
                records.entry(&format!("{namespace}.{base}.{CLUSTER_DOMAIN}"));
            }
        }
        let mut slices: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in cluster.slices.values() {
            if let Some(service) = &slice.service {
                slices.entry((&slice.key.namespace, service)).or_default().push(slice);
            }
        }
        for service in cluster.services.values() {
            let key = (service.key.namespace.as_str(), service.key.name.as_str());
            records.add_service(service, slices.get(&key).map_or(&[], Vec::as_slice));
        }
        records.add_pods(cluster);
        // A service keeps a cluster IP of a family that the host has lost since; nobody could reach it.
        let runs = |address: &IpAddr| cluster.options.families.contains(&IpFamily::of(*address));
        records.names.values_mut().for_each(|entry| entry.addresses.retain(runs));
        records.pointers.retain(|address, _| runs(address));
        records
    }

    /// Whether `name` lies in the cluster's domain.
    #[must_use]
    pub fn is_ours(name: &str) -> bool {
        name.strip_suffix(CLUSTER_DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// Answers a question about `name`, given in lower case and without the dot at the end.
    #[must_use]
    pub fn answer(&self, name: &str, question: Question) -> Answer {
        if !Self::is_ours(name) {
            return Answer::NotOurs;
        }
        let Some(entry) = self.names.get(name) else { return Answer::NoName };
        if let Some(alias) = &entry.alias {
            return Answer::Alias(alias.clone());
        }
        match question {
            Question::Address(family) => {
                let addresses: Vec<IpAddr> =
                    entry.addresses.iter().filter(|address| IpFamily::of(**address) == family).copied().collect();
                if addresses.is_empty() { Answer::NoData } else { Answer::Addresses(addresses) }
            }
            Question::Service if !entry.services.is_empty() => {
                Answer::Services(entry.services.iter().cloned().collect())
            }
            Question::Text => entry.text.map_or(Answer::NoData, Answer::Text),
            Question::Service | Question::Other => Answer::NoData,
        }
    }

    /// All addresses of a name, of both families.
    #[must_use]
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.names.get(name).map(|entry| entry.addresses.iter().copied().collect()).unwrap_or_default()
    }

    /// The names of an address (PTR); empty if it is nobody's here.
    #[must_use]
    pub fn names_of(&self, address: IpAddr) -> Vec<String> {
        self.pointers.get(&address).map(|names| names.iter().cloned().collect()).unwrap_or_default()
    }

    /// The entry of a name, made if it is not there, with all names above it: those exist from then on.
    fn entry(&mut self, name: &str) -> &mut Entry {
        let mut above = name;
        while let Some((_, parent)) = above.split_once('.') {
            // What exists has had its own names above made before.
            if !Self::is_ours(parent) || self.names.contains_key(parent) {
                break;
            }
            self.names.insert(parent.to_owned(), Entry::default());
            above = parent;
        }
        self.names.entry(name.to_owned()).or_default()
    }

    fn add_service(&mut self, service: &Service, slices: &[&EndpointSlice]) {
        let name = format!("{}.{}.svc.{CLUSTER_DOMAIN}", service.key.name, service.key.namespace);
        match &service.kind {
            ServiceKind::ExternalName(target) => {
                let target = target.trim_end_matches('.').to_lowercase();
                if !target.is_empty() {
                    self.entry(&name).alias = Some(target);
                }
            }
            ServiceKind::ClusterIp(addresses) => {
                self.entry(&name).addresses.extend(addresses);
                for address in addresses {
                    self.pointers.entry(*address).or_default().insert(name.clone());
                }
                for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
                    let owner = service_port_name(&name, &port.name, port.protocol);
                    self.entry(&owner).services.insert(Target { name: name.clone(), port: port.port });
                }
            }
            ServiceKind::Headless => {
                for slice in slices {
                    for endpoint in slice.endpoints.iter().filter(|e| e.ready || service.publish_not_ready) {
                        self.add_endpoint(&name, slice, endpoint);
                    }
                }
            }
        }
    }

    /// An endpoint of a headless service: an address of the service's name, and a name of its own beneath it. Without any the service's name
    /// does not exist.
    fn add_endpoint(&mut self, service: &str, slice: &EndpointSlice, endpoint: &Endpoint) {
        let label = endpoint.hostname.clone().unwrap_or_else(|| dashed(endpoint.address));
        let name = format!("{label}.{service}");
        self.entry(service).addresses.insert(endpoint.address);
        self.entry(&name).addresses.insert(endpoint.address);
        self.pointers.entry(endpoint.address).or_default().insert(name.clone());
        for port in slice.ports.iter().filter(|port| !port.name.is_empty()) {
            let owner = service_port_name(service, &port.name, port.protocol);
            self.entry(&owner).services.insert(Target { name: name.clone(), port: port.port });
        }
    }

    /// `10-244-1-7.NAMESPACE.pod`: only for pods that are there, so that a name never vouches for somebody else's address.
    fn add_pods(&mut self, cluster: &Cluster) {
        let attached =
            cluster.attachments.values().map(|attachment| (&attachment.pod.namespace, &attachment.addresses));
        let elsewhere = cluster
            .pods
            .values()
            .filter(|pod| !pod.host_network && !pod.finished && pod.node.as_ref() != Some(&cluster.options.node));
        let elsewhere = elsewhere.map(|pod| (&pod.key.namespace, &pod.addresses));
        for (namespace, addresses) in attached.chain(elsewhere) {
            for address in addresses {
                let name = format!("{}.{namespace}.pod.{CLUSTER_DOMAIN}", dashed(*address));
                self.entry(&name).addresses.insert(*address);
            }
        }
    }
}

/// `_PORT._PROTOCOL.SERVICE`, the owner of SRV records.
fn service_port_name(service: &str, port: &str, protocol: minipod_model::Protocol) -> String {
    format!("_{port}._{}.{service}", protocol.as_str().to_lowercase())
}

/// An address as a DNS label.
fn dashed(address: IpAddr) -> String {
    let text = address.to_string().replace(['.', ':'], "-");
    // A label may not begin or end with a dash, which an IPv6 address with `::` at an end would give.
    let head = if text.starts_with('-') { "0" } else { "" };
    let tail = if text.ends_with('-') { "0" } else { "" };
    format!("{head}{text}{tail}")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "literals read better without a reference")]

    use std::net::IpAddr;

    use minipod_model::IpFamily::{V4, V6};
    use netd_policy::object::{EndpointSlice, Namespace, Pod, Service};
    use netd_policy::{Change, Index, Options};
    use serde_json::{Value, json};

    use super::{Answer, Question, Records, Target};

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    fn service(name: &str, spec: Value) -> Change {
        Change::Service(Service::read(&object(json!({"metadata": {"namespace": "x", "name": name}, "spec": spec}))))
    }

    fn slice(service: &str, endpoints: Value) -> Change {
        Change::Slice(EndpointSlice::read(&object(json!({
            "metadata": {"namespace": "x", "name": service, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
        }))))
    }

    fn index(options: Options) -> Index {
        let mut index = Index::new(options);
        let ports = json!([{"name": "http", "port": 80}]);
        for change in [
            Change::Namespace(Namespace::read(&object(json!({"metadata": {"name": "x"}})))),
            service(
                "web",
                json!({"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20", "fd00:10:96::14"], "ports": ports}),
            ),
            service("old", json!({"clusterIP": "10.96.0.21", "ports": ports})),
            service("db", json!({"clusterIP": "None", "ports": ports})),
            service("empty", json!({"clusterIP": "None", "ports": ports})),
            service("out", json!({"type": "ExternalName", "externalName": "Example.com."})),
            slice(
                "db",
                json!([
                    {"addresses": ["10.244.1.1"], "hostname": "db-0"},
                    {"addresses": ["10.244.1.2"]},
                    {"addresses": ["10.244.1.3"], "conditions": {"ready": false}},
                ]),
            ),
            slice("empty", json!([{"addresses": ["10.244.1.3"], "conditions": {"ready": false}}])),
            Change::Pod(Pod::read(&object(json!({
                "metadata": {"namespace": "x", "name": "far"}, "spec": {"nodeName": "there", "containers": []},
                "status": {"podIPs": [{"ip": "10.244.2.9"}, {"ip": "fd00:10:244:2::"}]},
            })))),
        ] {
            index.apply(change);
        }
        index
    }

    fn records() -> Records {
        Records::of(index(Options::new("here")).cluster())
    }

    fn ips(texts: &[&str]) -> Answer {
        Answer::Addresses(texts.iter().map(|text| text.parse().expect("an address")).collect())
    }

    #[track_caller]
    fn check(name: &str, question: Question, expected: Answer) {
        assert_eq!(records().answer(name, question), expected, "{name}");
    }

    #[test]
    fn a_service_has_its_cluster_ips() {
        check("web.x.svc.cluster.local", Question::Address(V4), ips(&["10.96.0.20"]));
        check("web.x.svc.cluster.local", Question::Address(V6), ips(&["fd00:10:96::14"]));
    }

    #[test]
    fn a_name_without_records_of_the_type_exists_all_the_same() {
        check("old.x.svc.cluster.local", Question::Address(V6), Answer::NoData);
        check("web.x.svc.cluster.local", Question::Text, Answer::NoData);
        check("web.x.svc.cluster.local", Question::Other, Answer::NoData);
        for above in [
            "x.svc.cluster.local",
            "svc.cluster.local",
            "cluster.local",
            "_tcp.web.x.svc.cluster.local",
            "x.pod.cluster.local",
        ] {
            check(above, Question::Address(V4), Answer::NoData);
        }
    }

    #[test]
    fn a_name_that_is_nobodys_does_not_exist() {
        for name in [
            "nope.x.svc.cluster.local",
            "web.y.svc.cluster.local",
            "y.svc.cluster.local",
            "web.x.cluster.local",
            "10-244-1-9.x.pod.cluster.local",
        ] {
            check(name, Question::Address(V4), Answer::NoName);
        }
    }

    #[test]
    fn names_outside_the_domain_are_not_ours() {
        for name in ["example.com", "notcluster.local", "local", "cluster.local.example.com", ""] {
            check(name, Question::Address(V4), Answer::NotOurs);
        }
    }

    #[test]
    fn a_headless_service_has_the_addresses_of_its_ready_endpoints() {
        check("db.x.svc.cluster.local", Question::Address(V4), ips(&["10.244.1.1", "10.244.1.2"]));
        check("db-0.db.x.svc.cluster.local", Question::Address(V4), ips(&["10.244.1.1"]));
        check("10-244-1-2.db.x.svc.cluster.local", Question::Address(V4), ips(&["10.244.1.2"]));
        check("empty.x.svc.cluster.local", Question::Address(V4), Answer::NoName);
    }

    #[test]
    fn service_ports_have_srv_records() {
        let target = |name: &str, port| Target { name: name.to_owned(), port };
        let web = target("web.x.svc.cluster.local", 80);
        check("_http._tcp.web.x.svc.cluster.local", Question::Service, Answer::Services(vec![web]));
        let db = vec![target("10-244-1-2.db.x.svc.cluster.local", 8080), target("db-0.db.x.svc.cluster.local", 8080)];
        check("_http._tcp.db.x.svc.cluster.local", Question::Service, Answer::Services(db));
        check("_http._udp.web.x.svc.cluster.local", Question::Service, Answer::NoName);
    }

    #[test]
    fn addresses_of_a_family_that_the_host_lacks_are_not_told() {
        let records = Records::of(index(Options { families: [V4].into(), ..Options::new("here") }).cluster());
        let ask = |family| records.answer("web.x.svc.cluster.local", Question::Address(family));
        assert_eq!((ask(V4), ask(V6)), (ips(&["10.96.0.20"]), Answer::NoData));
        assert!(records.names_of("fd00:10:96::14".parse().expect("an address")).is_empty());
    }

    #[test]
    fn an_external_name_stands_for_another() {
        check("out.x.svc.cluster.local", Question::Address(V4), Answer::Alias("example.com".into()));
    }

    #[test]
    fn pods_have_names_by_address_in_their_own_namespace_only() {
        check("10-244-2-9.x.pod.cluster.local", Question::Address(V4), ips(&["10.244.2.9"]));
        check("fd00-10-244-2--0.x.pod.cluster.local", Question::Address(V6), ips(&["fd00:10:244:2::"]));
        check("10-244-2-9.y.pod.cluster.local", Question::Address(V4), Answer::NoName);
    }

    #[test]
    fn addresses_lead_back_to_names() {
        let names = |ip: &str| records().names_of(ip.parse::<IpAddr>().expect("an address"));
        assert_eq!(names("10.96.0.20"), ["web.x.svc.cluster.local"]);
        assert_eq!(names("10.244.1.1"), ["db-0.db.x.svc.cluster.local"]);
        assert!(names("192.0.2.1").is_empty());
    }

    #[test]
    fn the_version_of_the_specification_is_told() {
        check("dns-version.cluster.local", Question::Text, Answer::Text("1.1.0"));
    }
}
