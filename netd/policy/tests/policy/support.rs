//! A small cluster: namespaces x, y and z with pods a, b and c each, all on node `here`, in both families. Namespace x has label `ns=x`, pod
//! a has label `pod=a`, and so on. Every pod has ports `http` (80/TCP), `alt` (81/TCP), `dgram` (80/UDP) and `stream` (80/SCTP).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use minipod_model::{LinkName, PodKey, Protocol};
use netd_policy::evaluate::verdict;
use netd_policy::interpret::Interpreter;
use netd_policy::object::{Attachment, Namespace, Pod, Policy};
use netd_policy::{Change, Index, Options, Packet, Transport};
use proptest::test_runner::{Config as ProptestConfig, FileFailurePersistence};
use serde_json::{Value, json};

pub(crate) const HTTP: Transport = Transport::Port(Protocol::Tcp, 80);
pub(crate) const ALT: Transport = Transport::Port(Protocol::Tcp, 81);
pub(crate) const DGRAM: Transport = Transport::Port(Protocol::Udp, 80);
pub(crate) const STREAM: Transport = Transport::Port(Protocol::Sctp, 80);
pub(crate) const PING: Transport = Transport::Other;
pub(crate) const ALL: [Transport; 5] = [HTTP, ALT, DGRAM, STREAM, PING];

pub(crate) const NAMES: [&str; 9] = ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"];

pub(crate) fn cluster_dns() -> Vec<IpAddr> {
    vec!["10.96.0.10".parse().expect("an address"), "fd00:10:96::a".parse().expect("an address")]
}

/// The addresses of a pod of the small cluster.
pub(crate) fn addresses(name: &str) -> [IpAddr; 2] {
    let number = NAMES.iter().position(|known| *known == name).expect("a pod of the cluster") + 1;
    addresses_of(1, u8::try_from(number).expect("a small number"))
}

pub(crate) fn addresses_of(node: u8, number: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(10, 244, node, number).into(),
        Ipv6Addr::new(0xfd00, 0x10, 0x244, node.into(), 0, 0, 0, number.into()).into(),
    ]
}

pub(crate) fn key(name: &str) -> PodKey {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    PodKey::new(namespace, name)
}

pub(crate) fn pod(object: Value) -> Pod {
    Pod::read(&serde_json::from_value::<v1::Pod>(object).expect("a pod"))
}

/// A pod of the small cluster, as an object that can be changed.
pub(crate) fn pod_object(name: &str) -> Value {
    let key = key(name);
    let port =
        |name: &str, number: u16, protocol: &str| json!({"name": name, "containerPort": number, "protocol": protocol});
    json!({
        "metadata": {"namespace": key.namespace, "name": key.name, "uid": format!("uid-{name}"), "labels": {"pod": key.name}},
        "spec": {"nodeName": "here", "containers": [{"name": "main", "ports": [
            port("http", 80, "TCP"), port("alt", 81, "TCP"), port("dgram", 80, "UDP"), port("stream", 80, "SCTP"),
        ]}]},
        "status": {"phase": "Running"},
    })
}

pub(crate) fn namespace(object: Value) -> Namespace {
    Namespace::read(&serde_json::from_value::<v1::Namespace>(object).expect("a namespace"))
}

pub(crate) fn policy(object: Value) -> Policy {
    Policy::read(&serde_json::from_value::<NetworkPolicy>(object).expect("a policy"))
}

/// Policy `name` in `namespace` with this `spec`.
pub(crate) fn policy_of(namespace: &str, name: &str, spec: &Value) -> Policy {
    policy(json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec}))
}

pub(crate) fn attachment(name: &str, addresses: &[IpAddr]) -> Attachment {
    Attachment {
        link: LinkName::for_sandbox(name, "eth0"),
        pod: key(name),
        uid: Some(format!("uid-{name}")),
        labels: None,
        addresses: addresses.to_vec(),
    }
}

pub(crate) fn options() -> Options {
    Options { cluster_dns: cluster_dns(), ..Options::new("here") }
}

pub(crate) fn small_cluster() -> Index {
    let mut index = Index::new(options());
    for name in ["x", "y", "z", "kube-system"] {
        index.apply(Change::Namespace(namespace(json!({"metadata": {"name": name, "labels": {"ns": name}}}))));
    }
    for name in NAMES {
        index.apply(Change::Pod(pod(pod_object(name))));
        index.apply(Change::Attached(attachment(name, &addresses(name))));
    }
    index
}

pub(crate) fn apply_all(index: &mut Index, changes: impl IntoIterator<Item = Change>) {
    for change in changes {
        index.apply(change);
    }
}

/// The small cluster with policies, each as (namespace, spec).
pub(crate) fn with_policies(policies: &[(&str, Value)]) -> Index {
    let mut index = small_cluster();
    for (number, (namespace, spec)) in policies.iter().enumerate() {
        let policy = policy_of(namespace, &format!("policy-{number}"), spec);
        assert_eq!(policy.problems, []);
        index.apply(Change::Policy(policy));
    }
    index
}

/// Whether a packet passes, by the evaluator and by the intent, which must agree.
#[track_caller]
pub(crate) fn passes(index: &Index, source: IpAddr, destination: IpAddr, transport: Transport) -> bool {
    let packet = Packet { source, destination, transport };
    let verdict = verdict(index.cluster(), &packet);
    let allowed = Interpreter::new(&index.clone().intent()).allows(&packet);
    assert_eq!(verdict.is_allowed(), allowed, "the intent differs from the evaluator for {packet:?}: {verdict:?}");
    allowed
}

/// Asserts the verdict for every pair of pods of the small cluster, in both families.
#[track_caller]
pub(crate) fn check_matrix(index: &Index, transport: Transport, expected: impl Fn(&str, &str) -> bool) {
    let intent = index.clone().intent();
    let mut wrong = BTreeSet::new();
    for from in NAMES {
        for to in NAMES {
            for (source, destination) in addresses(from).into_iter().zip(addresses(to)) {
                let packet = Packet { source, destination, transport };
                let by_objects = verdict(index.cluster(), &packet).is_allowed();
                let by_intent = Interpreter::new(&intent).allows(&packet);
                let expected = expected(from, to);
                if by_objects != expected || by_intent != expected {
                    wrong.insert(format!(
                        "{from} -> {to} ({source}): expected {expected}, objects say {by_objects}, intent {by_intent}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{transport:?}: {wrong:#?}");
}

/// The settings of random tests. `scripts/test --full` tries twenty times as many cases as usual.
pub(crate) fn cases(usual: u32) -> ProptestConfig {
    let cases = if std::env::var_os("MINIPOD_TEST_FULL").is_some() { usual * 20 } else { usual };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// The settings of the oracles: `scripts/test policy-oracle --cases N`. Failures are kept in `oracle-failures.txt` and tried first from then on.
pub(crate) fn oracle_cases() -> ProptestConfig {
    let cases = std::env::var("MINIPOD_TEST_CASES").ok().map(|number| number.parse().expect("a number of cases"));
    let failures = FileFailurePersistence::Direct("tests/policy/oracle-failures.txt");
    ProptestConfig {
        cases: cases.unwrap_or(100),
        failure_persistence: Some(Box::new(failures)),
        ..ProptestConfig::default()
    }
}
