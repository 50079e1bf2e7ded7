//! Tells a person in front of a shell why no name resolves: the pod's egress is isolated without DNS
//! (semantics.md, ruling 19).
//!
//! The decision is pure. A server that does not answer the question is no reason not to run the command.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, Client};
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::{Labels, Selector};

use super::out;

/// Where the cluster DNS lives for policy.
const DNS_NAMESPACE: &str = "kube-system";
/// The label that the cluster DNS has for policy.
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
/// DNS.
const PORT: i32 = 53;

/// Says so if the pod cannot resolve names.
pub(crate) async fn say(client: &Client, pod: &Pod) {
    if pod.spec.as_ref().and_then(|s| s.host_network).unwrap_or(false) {
        return;
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), &namespace);
    let Ok(policies) = policies.list(&ListParams::default()).await else { return };
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    if policies.items.iter().all(|policy| isolating(policy, &labels).is_none()) {
        return;
    }
    let dns_namespace = Api::<Namespace>::all(client.clone()).get(DNS_NAMESPACE).await;
    let dns_labels = dns_namespace.ok().and_then(|n| n.metadata.labels).unwrap_or_default();
    if let Some(names) = blocked_by(&policies.items, &namespace, &labels, &dns_labels) {
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
    policies: &[NetworkPolicy],
    namespace: &str,
    labels: &Labels,
    dns_namespace_labels: &Labels,
) -> Option<Vec<String>> {
    let mut dns_namespace = dns_namespace_labels.clone();
    dns_namespace.insert(NAMESPACE_NAME_LABEL.to_owned(), DNS_NAMESPACE.to_owned());
    let mut names = Vec::new();
    for policy in policies {
        let Some(spec) = isolating(policy, labels) else { continue };
        if spec.egress.iter().flatten().any(|rule| allows_dns(rule, namespace, &dns_namespace)) {
            return None;
        }
        names.push(policy.metadata.name.clone().unwrap_or_default());
    }
    (!names.is_empty()).then_some(names)
}

/// The policy's spec, if it selects a pod with these labels and isolates its egress.
fn isolating<'a>(policy: &'a NetworkPolicy, labels: &Labels) -> Option<&'a NetworkPolicySpec> {
    let spec = policy.spec.as_ref()?;
    let isolates = match &spec.policy_types {
        Some(types) => types.iter().any(|t| t == "Egress"),
        None => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    };
    (isolates && matches(spec.pod_selector.as_ref(), labels)).then_some(spec)
}

fn allows_dns(rule: &NetworkPolicyEgressRule, namespace: &str, dns_namespace: &Labels) -> bool {
    let to = rule.to.as_deref().unwrap_or_default();
    let ports = rule.ports.as_deref().unwrap_or_default();
    (to.is_empty() || to.iter().any(|peer| is_dns(peer, namespace, dns_namespace)))
        && (ports.is_empty() || ports.iter().any(covers_dns))
}

fn is_dns(peer: &NetworkPolicyPeer, namespace: &str, dns_namespace: &Labels) -> bool {
    if peer.ip_block.is_some() {
        return false;
    }
    let in_namespace = match &peer.namespace_selector {
        Some(selector) => matches(Some(selector), dns_namespace),
        None => namespace == DNS_NAMESPACE,
    };
    let dns_pod = Labels::from([(DNS_LABEL.0.to_owned(), DNS_LABEL.1.to_owned())]);
    in_namespace && matches(peer.pod_selector.as_ref(), &dns_pod)
}

fn covers_dns(port: &NetworkPolicyPort) -> bool {
    if port.protocol.as_deref() != Some("UDP") {
        return false;
    }
    match (&port.port, port.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&PORT),
        (Some(IntOrString::Int(number)), None) => *number == PORT,
        (Some(IntOrString::String(name)), _) => name == "dns",
    }
}

/// A missing selector selects everything; an invalid one nothing.
fn matches(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    match selector {
        None => true,
        Some(selector) => Selector::from_object(selector).is_ok_and(|selector| selector.matches(labels)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use minipod_model::Labels;
    use serde_json::{Value, json};

    use super::blocked_by;

    fn policy(name: &str, spec: &Value) -> NetworkPolicy {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a policy")
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
