//! Tells a person in front of a shell why no name resolves: the pod's egress is isolated without DNS
//! (semantics.md, ruling 19).
//!
//! The decision is pure. A server that does not answer the question is no reason not to run the command.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Client};
use minipod_model::defaults::{DNS_LABEL, DNS_NAMESPACE};
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::{Labels, Protocol};
use netd_policy::object::{Peer, PeerNamespaces, Policy, PortNumbers, Rule, RulePeers, RulePort, RulePorts};

use super::{cluster, out};

/// DNS.
const PORT: u16 = 53;
/// What the port is called on the cluster DNS.
const PORT_NAME: &str = "dns";

/// Says so if the pod cannot resolve names.
pub(crate) async fn say(client: &Client, pod: &Pod) {
    if pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false) {
        return;
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let Ok(policies) = cluster::policies(client, Some(&namespace)).await else { return };
    let policies: Vec<Policy> = policies.iter().map(Policy::read).collect();
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    if !policies.iter().any(|policy| isolates(policy, &labels)) {
        return;
    }
    let dns_namespace = Api::<Namespace>::all(client.clone()).get(DNS_NAMESPACE).await;
    let dns_labels = dns_namespace.ok().and_then(|n| n.metadata.labels).unwrap_or_default();
    if let Some(names) = blocked_by(&policies, &namespace, &labels, &dns_labels) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        out::say(&text(name, &names));
    }
}

fn text(pod: &str, policies: &[String]) -> String {
    let policies: Vec<String> = policies.iter().map(|name| format!("\"{name}\"")).collect();
    format!(
        "note: names do not resolve in pod \"{pod}\": its egress is isolated by network policy {} and no rule allows port {PORT}; \
         add an egress rule with ports UDP {PORT} and TCP {PORT}, or use addresses",
        policies.join(", ")
    )
}

/// The policies that isolate the pod's egress, if none of them lets it ask the cluster DNS over UDP.
pub(crate) fn blocked_by(
    policies: &[Policy],
    namespace: &str,
    labels: &Labels,
    dns_namespace_labels: &Labels,
) -> Option<Vec<String>> {
    let mut dns_namespace = dns_namespace_labels.clone();
    dns_namespace.insert(NAMESPACE_NAME_LABEL.to_owned(), DNS_NAMESPACE.to_owned());
    let isolating: Vec<&Policy> = policies.iter().filter(|policy| isolates(policy, labels)).collect();
    let allowed = isolating
        .iter()
        .flat_map(|p| p.egress.iter().flatten())
        .any(|rule| allows_dns(rule, namespace, &dns_namespace));
    (!allowed && !isolating.is_empty()).then(|| isolating.iter().map(|policy| policy.key.name.clone()).collect())
}

/// Whether the policy isolates the egress of a pod with these labels.
fn isolates(policy: &Policy, labels: &Labels) -> bool {
    policy.egress.is_some() && policy.subjects.matches(labels)
}

fn allows_dns(rule: &Rule, namespace: &str, dns_namespace: &Labels) -> bool {
    let peers = match &rule.peers {
        RulePeers::Everyone => true,
        RulePeers::Listed(peers) => peers.iter().any(|peer| is_dns(peer, namespace, dns_namespace)),
    };
    let ports = match &rule.ports {
        RulePorts::Every => true,
        RulePorts::Listed(ports) => ports.iter().any(covers_dns),
    };
    peers && ports
}

fn is_dns(peer: &Peer, namespace: &str, dns_namespace: &Labels) -> bool {
    let Peer::Pods { namespaces, pods } = peer else { return false };
    let in_namespace = match namespaces {
        PeerNamespaces::Own => namespace == DNS_NAMESPACE,
        PeerNamespaces::Selected(selector) => selector.matches(dns_namespace),
    };
    let dns_pod = Labels::from([(DNS_LABEL.0.to_owned(), DNS_LABEL.1.to_owned())]);
    in_namespace && pods.matches(&dns_pod)
}

fn covers_dns(port: &RulePort) -> bool {
    port.protocol == Protocol::Udp
        && match &port.numbers {
            PortNumbers::Every => true,
            PortNumbers::Range(first, last) => (*first..=*last).contains(&PORT),
            PortNumbers::Named(name) => name == PORT_NAME,
        }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use minipod_model::Labels;
    use serde_json::{Value, json};

    use super::{Policy, blocked_by};

    fn policy(name: &str, spec: &Value) -> Policy {
        let object: NetworkPolicy =
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec}))
                .expect("a policy");
        Policy::read(&object)
    }

    #[track_caller]
    fn check(specs: &[Value], expected: Option<&[&str]>) {
        let policies: Vec<_> = specs.iter().zip(["a", "b"]).map(|(spec, name)| policy(name, spec)).collect();
        let labels = Labels::from([("app".to_owned(), "foo".to_owned())]);
        let blocked = blocked_by(&policies, "default", &labels, &Labels::new());
        assert_eq!(blocked, expected.map(|names| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>()));
    }

    fn egress(rules: &Value) -> Value {
        json!({"podSelector": {"matchLabels": {"app": "foo"}}, "policyTypes": ["Egress"], "egress": rules})
    }

    #[test]
    fn a_pod_that_may_go_anywhere_resolves_names() {
        check(&[], None);
        check(&[json!({"podSelector": {}, "policyTypes": ["Ingress"], "egress": []})], None);
        check(&[json!({"podSelector": {}, "ingress": [{}]})], None);
        check(&[json!({"podSelector": {"matchLabels": {"app": "other"}}, "policyTypes": ["Egress"]})], None);
    }

    #[test]
    fn isolated_egress_without_port_53_is_told_with_the_policies() {
        check(&[egress(&json!([]))], Some(&["a"]));
        check(&[json!({"podSelector": {}, "policyTypes": ["Egress"]})], Some(&["a"]));
        check(
            &[egress(&json!([{"to": [{"podSelector": {"matchLabels": {"app": "hello"}}}]}])), egress(&json!([]))],
            Some(&["a", "b"]),
        );
        check(&[egress(&json!([{"ports": [{"port": 53, "protocol": "TCP"}]}]))], Some(&["a"]));
        check(&[egress(&json!([{"ports": [{"port": 53}]}]))], Some(&["a"]));
        check(&[egress(&json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]))], Some(&["a"]));
        check(&[egress(&json!([{"to": [{"podSelector": {}}]}]))], Some(&["a"]));
    }

    #[test]
    fn a_rule_for_the_cluster_dns_is_enough() {
        check(&[egress(&json!([])), egress(&json!([{"ports": [{"port": 53, "protocol": "UDP"}]}]))], None);
        check(&[egress(&json!([{}]))], None);
        check(&[egress(&json!([{"ports": [{"port": 1, "endPort": 100, "protocol": "UDP"}]}]))], None);
        check(&[egress(&json!([{"to": [{"namespaceSelector": {}}]}]))], None);
        check(
            &[egress(
                &json!([{"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}], "ports": [{"protocol": "UDP"}]}]),
            )],
            None,
        );
    }
}
