//! What is said of what would change. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Applied;
use super::connections::Cut;
use super::difference::{Pair, State};
use super::ports::{joined, words};

/// Everything that is said.
pub(super) struct Told<'a> {
    pub(super) applied: &'a [Applied],
    pub(super) pairs: Vec<Pair>,
    pub(super) cut: Vec<Cut>,
    /// connections that were not looked at
    pub(super) left_out: usize,
}

impl Told<'_> {
    /// For people.
    pub(super) fn lines(&self) -> String {
        let mut text = String::new();
        for Applied { kind, object, outcome, checked } in self.applied {
            let name = kind.object_name(object.metadata.name.as_deref().unwrap_or_default());
            let unchecked = if *checked { "" } else { ", not checked: its namespace is not there yet" };
            let _ = writeln!(text, "{name} {outcome} (policy dry run{unchecked})");
        }
        text += &pairs(&self.pairs);
        for Cut { from, to, tracked, because } in &self.cut {
            let protocol = tracked.packet.protocol.as_deref().unwrap_or("ICMP");
            let _ = writeln!(text, "would be cut: {from} -> {to} {protocol} ({because})");
        }
        if self.cut.is_empty() {
            text.push_str("No live connection of this node's pods would be cut.\n");
        }
        if self.left_out > 0 {
            let _ = writeln!(text, "{} more connections were not looked at", self.left_out);
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let object = |applied: &Applied| {
            let metadata = &applied.object.metadata;
            json!({
                "kind": applied.kind.kind, "namespace": metadata.namespace, "name": metadata.name,
                "outcome": applied.outcome, "checked": applied.checked,
            })
        };
        let pairs = self.pairs.iter().flat_map(|pair| {
            let name = |pod: &minipod_model::PodKey| json!({"namespace": pod.namespace, "name": pod.name});
            pair.changes.iter().map(move |change| {
                json!({
                    "from": name(&pair.from), "to": name(&pair.to), "ports": joined(&change.ports),
                    "family": change.family.map(|family| family.to_string()),
                    "before": change.turn.before, "after": change.turn.after, "because": change.turn.because,
                })
            })
        });
        let cut = self
            .cut
            .iter()
            .map(|cut| json!({"from": cut.from, "to": cut.to, "connection": cut.tracked, "because": cut.because}));
        let told = json!({
            "objects": self.applied.iter().map(object).collect::<Vec<Value>>(), "pairs": pairs.collect::<Vec<Value>>(),
            "wouldBeCut": cut.collect::<Vec<Value>>(), "connectionsLeftOut": self.left_out,
        });
        format!("{told:#}\n")
    }
}

/// A line for each pair and each way in which something changes between them.
fn pairs(pairs: &[Pair]) -> String {
    let mut rows: Vec<[String; 3]> = Vec::new();
    for pair in pairs {
        for change in &pair.changes {
            let family = change.family.map(|family| format!(" {family}")).unwrap_or_default();
            rows.push([
                format!("{} -> {}", pair.from, pair.to),
                words(&change.ports, &pair.all) + &family,
                format!("{} -> {} ({})", state(change.turn.before), state(change.turn.after), change.turn.because),
            ]);
        }
    }
    if rows.is_empty() {
        return "Between pods nothing would change.\n".to_owned();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let (first, second) = (width(0), width(1));
    let mut text = String::new();
    for [pair, ports, turn] in &rows {
        let _ = writeln!(text, "{pair:first$}   {ports:second$}   {turn}");
    }
    text
}

fn state(state: State) -> &'static str {
    match state {
        State::Allowed => "allowed",
        State::Denied => "denied",
        State::Absent => "not there",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use minipod_protocol::judge::{FirstPacket, OwnNode, Tracked};
    use netd_policy::{Change, Cluster, Index, Options, object};
    use serde_json::{Value, json};

    use super::super::{addresses, connections, difference};
    use super::{Told, pairs};

    fn pod(name: &str, app: &str, addresses: &[&str]) -> Change {
        let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let pod = json!({
            "metadata": {"namespace": "shop", "name": name, "labels": {"app": app}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"containerPort": 80, "name": "http"}]}]},
            "status": {"podIPs": ips},
        });
        Change::Pod(object::Pod::read(&serde_json::from_value(pod).expect("a pod")))
    }

    fn policy(name: &str, spec: &Value) -> Change {
        let policy = json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec});
        Change::Policy(object::Policy::read(&serde_json::from_value(policy).expect("a policy")))
    }

    fn namespace(team: &str) -> Change {
        let namespace = json!({"metadata": {"name": "shop", "labels": {"team": team}}});
        Change::Namespace(object::Namespace::read(&serde_json::from_value(namespace).expect("a namespace")))
    }

    fn shop() -> Index {
        let mut index = Index::new(Options::new(String::new()));
        let node = json!({"metadata": {"name": "n1"}, "spec": {"podCIDRs": ["10.0.0.0/24"]}});
        let node = object::Node::read(&serde_json::from_value(node).expect("a node"));
        for change in [
            Change::Node(node),
            namespace("a"),
            pod("db", "db", &["10.0.0.2", "fd00::2"]),
            pod("web", "web", &["10.0.0.3", "fd00::3"]),
        ] {
            index.apply(change);
        }
        index
    }

    fn changed(index: &Index, changes: Vec<Change>) -> (Cluster, Cluster) {
        let (mut before, mut index) = (index.cluster().clone(), index.clone());
        for change in changes {
            index.apply(change);
        }
        let mut after = index.cluster().clone();
        addresses::assume(&mut before, &mut after);
        (before, after)
    }

    #[track_caller]
    fn check(index: &Index, changes: Vec<Change>, expected: &str) {
        let (before, after) = changed(index, changes);
        assert_eq!(pairs(&difference::between(&before, &after)), expected);
    }

    fn to_db(from: &Value, ports: &Value) -> Value {
        json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": from, "ports": ports}]})
    }

    const NOTHING: &str = "Between pods nothing would change.\n";

    #[test]
    fn what_a_new_policy_forbids_is_told_and_what_it_allows_is_not() {
        check(
            &shop(),
            vec![policy("deny-all", &json!({"podSelector": {}}))],
            "shop/db -> shop/web   every port   allowed -> denied (ingress isolated by shop/deny-all)\n\
             shop/web -> shop/db   every port   allowed -> denied (ingress isolated by shop/deny-all)\n",
        );
        let web = json!([{"podSelector": {"matchLabels": {"app": "web"}}}]);
        check(
            &shop(),
            vec![policy("http", &to_db(&web, &json!([{"port": "http"}])))],
            "shop/web -> shop/db   every port but 80/TCP   allowed -> denied (ingress isolated by shop/http)\n",
        );
        check(&shop(), vec![policy("all", &json!({"podSelector": {}, "ingress": [{}]}))], NOTHING);
        let sealed = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"]});
        check(
            &shop(),
            vec![policy("both", &json!({"podSelector": {}})), policy("sealed", &sealed)],
            "shop/db -> shop/web   every port   allowed -> denied (ingress isolated by shop/both, shop/sealed)\n\
             shop/web -> shop/db   every port   allowed -> denied (egress isolated by shop/sealed, ingress isolated by shop/both)\n",
        );
    }

    #[test]
    fn what_a_further_policy_allows_is_told_by_family_where_families_differ() {
        let mut index = shop();
        index.apply(policy("deny-all", &json!({"podSelector": {}})));
        let block = json!([{"ipBlock": {"cidr": "10.0.0.0/24"}}]);
        check(
            &index,
            vec![policy("range", &to_db(&block, &json!([{"port": 80, "endPort": 90}])))],
            "shop/web -> shop/db   80-90/TCP IPv4   denied -> allowed (ingress allowed by shop/range rule 1)\n",
        );
    }

    #[test]
    fn labels_of_pods_and_namespaces_and_new_pods_count() {
        let mut index = shop();
        let peers = json!([{"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {"matchLabels": {"team": "a"}}}]);
        index.apply(policy("web", &to_db(&peers, &json!([]))));
        let denied = "shop/web -> shop/db   every port   allowed -> denied (ingress isolated by shop/web)\n";
        check(&index, vec![pod("web", "other", &["10.0.0.3", "fd00::3"])], denied);
        check(&index, vec![namespace("b")], denied);
        check(
            &index,
            vec![pod("new", "other", &[])],
            "shop/db -> shop/new    every port   not there -> allowed (not isolated)\n\
             shop/new -> shop/db    every port   not there -> denied (ingress isolated by shop/web)\n\
             shop/new -> shop/web   every port   not there -> allowed (not isolated)\n\
             shop/web -> shop/new   every port   not there -> allowed (not isolated)\n",
        );
        check(&index, vec![namespace("a"), pod("web", "web", &["10.0.0.3", "fd00::3"])], NOTHING);
    }

    #[test]
    fn connections_that_are_allowed_and_would_be_forbidden_are_told() {
        let tracked = |source: &str, destination: &str, port: u16| Tracked {
            packet: FirstPacket {
                source: source.parse().expect("an address"),
                destination: destination.parse().expect("an address"),
                protocol: Some("TCP".to_owned()),
                port: Some(port),
            },
            source_port: Some(40000),
        };
        let web = json!([{"podSelector": {"matchLabels": {"app": "web"}}}]);
        let (before, after) = changed(&shop(), vec![policy("http", &to_db(&web, &json!([{"port": 80}])))]);
        let node = OwnNode { addresses: ["192.0.2.1".parse().expect("an address")].into(), ..OwnNode::default() };
        let connections = [
            tracked("10.0.0.3", "10.0.0.2", 80),
            tracked("fd00::3", "fd00::2", 22),
            tracked("192.0.2.1", "10.0.0.2", 22),
            tracked("192.0.2.9", "10.0.0.2", 80),
            tracked("10.0.0.2", "10.0.0.3", 22),
        ];
        let told = Told {
            applied: &[],
            pairs: Vec::new(),
            cut: connections::cut(&connections, &before, &after, &node),
            left_out: 0,
        };
        assert_eq!(
            told.lines(),
            "Between pods nothing would change.\n\
             would be cut: 192.0.2.9:40000 -> shop/db (10.0.0.2:80) TCP (ingress isolated by shop/http)\n\
             would be cut: shop/web ([fd00::3]:40000) -> shop/db ([fd00::2]:22) TCP (ingress isolated by shop/http)\n"
        );
        let json: BTreeMap<String, Value> = serde_json::from_str(&told.json()).expect("JSON");
        assert_eq!(json["wouldBeCut"][0]["connection"]["source_port"], 40000);
    }
}
