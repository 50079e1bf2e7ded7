//! What the policies of a namespace mean for its pods, in words (semantics.md).
//!
//! Pure: objects in, text out. Whether a single packet passes is not decided here.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use minipod_model::{Labels, Protocol, Selector};
use netd_policy::object::{Peer, PeerNamespaces, Policy, PortNumbers, Rule, RulePeers, RulePort, RulePorts};

use super::super::table::Table;

/// As many pods are named in a list.
const SHOWN: usize = 5;

/// One line per policy.
pub(super) fn table(policies: &[Policy], pods: &[Pod], with_namespace: bool) -> Table {
    let mut headers = vec!["NAME", "POD-SELECTOR", "ISOLATES", "PODS"];
    if with_namespace {
        headers.insert(0, "NAMESPACE");
    }
    let mut table = Table::new(&headers);
    for policy in policies {
        let mut cells = vec![
            policy.key.name.clone(),
            or_none(policy.subjects.to_string()),
            directions(policy).to_owned(),
            selected(policy, pods),
        ];
        if with_namespace {
            cells.insert(0, policy.key.namespace.clone());
        }
        table.push(cells);
    }
    table
}

fn directions(policy: &Policy) -> &'static str {
    match (&policy.ingress, &policy.egress) {
        (Some(_), Some(_)) => "Ingress,Egress",
        (Some(_), None) => "Ingress",
        (None, Some(_)) => "Egress",
        (None, None) => "<none>",
    }
}

/// The pods that a policy selects.
pub(super) fn selected(policy: &Policy, pods: &[Pod]) -> String {
    let names: Vec<&str> =
        pods.iter().filter(|pod| selects(policy, pod)).filter_map(|pod| pod.metadata.name.as_deref()).collect();
    match names.len() {
        0 => "<none>".to_owned(),
        n if n > SHOWN => format!("{} + {} more", names[..SHOWN].join(","), n - SHOWN),
        _ => names.join(","),
    }
}

/// Pods on the host's network are nobody's subjects (ruling 9).
fn selects(policy: &Policy, pod: &Pod) -> bool {
    let labels: Labels = pod.metadata.labels.clone().unwrap_or_default();
    pod.metadata.namespace.as_deref() == Some(policy.key.namespace.as_str())
        && !on_host_network(pod)
        && policy.subjects.matches(&labels)
}

fn on_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false)
}

/// What may come in to a pod and go out of it.
pub(super) fn describe(pod: &Pod, policies: &[Policy]) -> String {
    let metadata = &pod.metadata;
    let status = pod.status.iter();
    let ips: Vec<&str> = status.flat_map(|s| s.pod_ips.iter().flatten()).map(|ip| ip.ip.as_str()).collect();
    let mut text = format!(
        "Pod {}/{} ({})\n",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
        if ips.is_empty() { "no address yet".to_owned() } else { ips.join(", ") }
    );
    if on_host_network(pod) {
        text.push_str("  on the host's network: no policy applies\n");
        return text;
    }
    let selecting: Vec<&Policy> = policies.iter().filter(|policy| selects(policy, pod)).collect();
    text += &direction("Ingress", "from", "may come in", &selecting, |policy| policy.ingress.as_deref());
    text += &direction("Egress", "to", "may go out", &selecting, |policy| policy.egress.as_deref());
    text
}

fn direction<'a>(
    name: &str,
    preposition: &str,
    open: &str,
    selecting: &[&'a Policy],
    rules: impl Fn(&'a Policy) -> Option<&'a [Rule]>,
) -> String {
    let isolating: Vec<(&'a Policy, &'a [Rule])> =
        selecting.iter().filter_map(|policy| Some((*policy, rules(policy)?))).collect();
    if isolating.is_empty() {
        return format!("  {name}: not isolated, everything {open}\n");
    }
    let names: Vec<&str> = isolating.iter().map(|(policy, _)| policy.key.name.as_str()).collect();
    let mut text = format!("  {name}: isolated by {}\n", names.join(", "));
    if isolating.iter().all(|(_, rules)| rules.is_empty()) {
        let _ = writeln!(text, "    nothing {open}");
    }
    for (policy, rules) in isolating {
        for rule in rules {
            let _ = writeln!(
                text,
                "    {preposition} {}, {}  ({}, rule {})",
                peers(&rule.peers, &policy.key.namespace),
                ports(&rule.ports),
                policy.key.name,
                rule.index + 1
            );
        }
    }
    text
}

fn peers(peers: &RulePeers, own: &str) -> String {
    match peers {
        RulePeers::Everyone => "everyone".to_owned(),
        RulePeers::Listed(peers) => peers.iter().map(|p| peer(p, own)).collect::<Vec<_>>().join(" or "),
    }
}

fn peer(peer: &Peer, own: &str) -> String {
    match peer {
        Peer::Pods { namespaces, pods } => {
            let pods = if pods.is_everything() { "all pods".to_owned() } else { format!("pods {pods}") };
            let namespaces = match namespaces {
                PeerNamespaces::Own => format!("namespace {own}"),
                PeerNamespaces::Selected(selector) => namespaces_text(selector),
            };
            format!("{pods} in {namespaces}")
        }
        Peer::Block(block) if block.except.is_empty() => block.cidr.to_string(),
        Peer::Block(block) => {
            let except: Vec<String> = block.except.iter().map(ToString::to_string).collect();
            format!("{} except {}", block.cidr, except.join(", "))
        }
    }
}

fn namespaces_text(selector: &Selector) -> String {
    if selector.is_everything() { "all namespaces".to_owned() } else { format!("namespaces {selector}") }
}

fn ports(ports: &RulePorts) -> String {
    match ports {
        RulePorts::Every => "every port".to_owned(),
        RulePorts::Listed(ports) => format!("port {}", ports.iter().map(port).collect::<Vec<_>>().join(", ")),
    }
}

fn port(port: &RulePort) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    match &port.numbers {
        PortNumbers::Every => format!("any/{protocol}"),
        PortNumbers::Range(first, last) if first == last => format!("{first}/{protocol}"),
        PortNumbers::Range(first, last) => format!("{first}-{last}/{protocol}"),
        PortNumbers::Named(name) => format!("{name}/{protocol}"),
    }
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use netd_policy::object::Policy;
    use serde_json::{Value, json};

    use super::{describe, table};

    fn policy(name: &str, spec: &Value) -> Policy {
        let object = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}));
        Policy::read(&object.expect("a policy"))
    }

    fn pod(name: &str, app: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": app}},
            "spec": {"containers": []}, "status": {"podIPs": [{"ip": "10.244.0.5"}]}}))
        .expect("a pod")
    }

    fn lesson() -> Vec<Policy> {
        vec![
            policy(
                "hello-allow-from-foo",
                &json!({"podSelector": {"matchLabels": {"app": "hello"}}, "policyTypes": ["Ingress"],
                    "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "foo"}}}]}]}),
            ),
            policy(
                "foo-allow-to-hello",
                &json!({"podSelector": {"matchLabels": {"app": "foo"}}, "policyTypes": ["Egress"],
                    "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "hello"}}}]},
                               {"ports": [{"port": 53}, {"port": 53, "protocol": "UDP"}]}]}),
            ),
            policy("default-deny", &json!({"podSelector": {}, "policyTypes": ["Ingress"]})),
        ]
    }

    #[test]
    fn policies_are_listed_with_their_pods() {
        let text = table(&lesson(), &[pod("hello-web", "hello"), pod("test", "foo")], false).render();
        let expected = "\
NAME                   POD-SELECTOR   ISOLATES   PODS
hello-allow-from-foo   app=hello      Ingress    hello-web
foo-allow-to-hello     app=foo        Egress     test
default-deny           <none>         Ingress    hello-web,test
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_meaning_for_a_pod_is_told_in_both_directions() {
        let expected = "\
Pod default/hello-web (10.244.0.5)
  Ingress: isolated by hello-allow-from-foo, default-deny
    from pods app=foo in namespace default, every port  (hello-allow-from-foo, rule 1)
  Egress: not isolated, everything may go out
";
        assert_eq!(describe(&pod("hello-web", "hello"), &lesson()), expected);
        let expected = "\
Pod default/test (10.244.0.5)
  Ingress: isolated by default-deny
    nothing may come in
  Egress: isolated by foo-allow-to-hello
    to pods app=hello in namespace default, every port  (foo-allow-to-hello, rule 1)
    to everyone, port 53/TCP, 53/UDP  (foo-allow-to-hello, rule 2)
";
        assert_eq!(describe(&pod("test", "foo"), &lesson()), expected);
    }

    #[test]
    fn pods_on_the_hosts_network_are_nobodys_subjects() {
        let mut host = pod("host", "hello");
        host.spec.get_or_insert_default().host_network = Some(true);
        assert_eq!(
            describe(&host, &lesson()),
            "Pod default/host (10.244.0.5)\n  on the host's network: no policy applies\n"
        );
    }
}
