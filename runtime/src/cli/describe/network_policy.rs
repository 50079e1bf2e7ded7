//! A network policy in words, as kubectl words it.

use std::fmt::Write as _;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use minipod_model::Selector;

use super::text::Text;
use super::{labels, time};

/// The description.
pub(crate) fn describe(policy: &NetworkPolicy) -> String {
    let spec = policy.spec.clone().unwrap_or_default();
    let mut text = Text::default();
    text.field(0, "Name", policy.metadata.name.as_deref().unwrap_or_default());
    text.field(0, "Namespace", policy.metadata.namespace.as_deref().unwrap_or_default());
    text.field(0, "Created on", time(policy.metadata.creation_timestamp.as_ref()));
    text.list(0, "Labels", labels(policy.metadata.labels.as_ref()));
    text.list(0, "Annotations", super::annotations(&policy.metadata));
    let mut text = text.render();
    let types = effective_types(spec.policy_types.as_deref(), spec.egress.as_ref().is_some_and(|e| !e.is_empty()));
    let subjects = selector(spec.pod_selector.as_ref());
    let subjects = match subjects.as_str() {
        "<none>" => "<none> (Allowing the specific traffic to all pods in this namespace)",
        subjects => subjects,
    };
    let _ = write!(text, "Spec:\n  PodSelector:     {subjects}\n");
    if types.contains(&"Ingress") {
        let rules: Vec<String> = spec.ingress.iter().flatten().map(ingress_rule).collect();
        text.push_str(&direction("ingress", &rules));
    } else {
        text.push_str("  Not affecting ingress traffic\n");
    }
    if types.contains(&"Egress") {
        let rules: Vec<String> = spec.egress.iter().flatten().map(egress_rule).collect();
        text.push_str(&direction("egress", &rules));
    } else {
        text.push_str("  Not affecting egress traffic\n");
    }
    let _ = writeln!(text, "  Policy Types: {}", types.join(", "));
    text
}

/// `policyTypes`, and what a missing one means (semantics.md, "Reading the object").
fn effective_types(types: Option<&[String]>, has_egress: bool) -> Vec<&str> {
    match types {
        Some(types) if !types.is_empty() => types.iter().map(String::as_str).collect(),
        _ if has_egress => vec!["Ingress", "Egress"],
        _ => vec!["Ingress"],
    }
}

fn direction(name: &str, rules: &[String]) -> String {
    let rules = match rules {
        [] => format!("    <none> (Selected pods are isolated for {name} connectivity)\n"),
        rules => rules.join("    ----------\n"),
    };
    format!("  Allowing {name} traffic:\n{rules}")
}

fn ingress_rule(rule: &NetworkPolicyIngressRule) -> String {
    ports(rule.ports.as_deref()) + &peers("From", "source", rule.from.as_deref())
}

fn egress_rule(rule: &NetworkPolicyEgressRule) -> String {
    ports(rule.ports.as_deref()) + &peers("To", "destination", rule.to.as_deref())
}

fn ports(ports: Option<&[NetworkPolicyPort]>) -> String {
    match ports {
        None | Some([]) => "    To Port: <any> (traffic allowed to all ports)\n".to_owned(),
        Some(ports) => ports.iter().map(port).collect(),
    }
}

fn port(port: &NetworkPolicyPort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.port {
        None => "<any>".to_owned(),
        Some(IntOrString::Int(number)) => number.to_string(),
        Some(IntOrString::String(name)) => name.clone(),
    };
    match port.end_port {
        None => format!("    To Port: {number}/{protocol}\n"),
        Some(last) => format!("    To Port Range: {number}-{last}/{protocol}\n"),
    }
}

fn peers(word: &str, end: &str, peers: Option<&[NetworkPolicyPeer]>) -> String {
    match peers {
        None | Some([]) => format!("    {word}: <any> (traffic not restricted by {end})\n"),
        Some(peers) => peers.iter().map(|p| format!("    {word}:\n{}", peer(p))).collect::<Vec<_>>().concat(),
    }
}

fn peer(peer: &NetworkPolicyPeer) -> String {
    let mut text = String::new();
    if let Some(namespaces) = &peer.namespace_selector {
        let _ = writeln!(text, "      NamespaceSelector: {}", selector(Some(namespaces)));
    }
    if let Some(pods) = &peer.pod_selector {
        let _ = writeln!(text, "      PodSelector: {}", selector(Some(pods)));
    }
    if let Some(block) = &peer.ip_block {
        let except = block.except.clone().unwrap_or_default().join(", ");
        let _ = write!(text, "      IPBlock:\n        CIDR: {}\n        Except: {except}\n", block.cidr);
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn selector(selector: Option<&LabelSelector>) -> String {
    let text = selector.map(|s| Selector::from_object(s).map_or_else(|e| format!("<invalid: {e}>"), |s| s.to_string()));
    text.filter(|t| !t.is_empty()).unwrap_or_else(|| "<none>".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::describe;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "literals read better")]
    fn check(spec: Value, expected: &str) {
        let policy = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec,
        }))
        .expect("a policy");
        let head = "Name:         p\nNamespace:    default\nCreated on:   2026-01-01 00:00:00 +0000 UTC\nLabels:       <none>\nAnnotations:  <none>\nSpec:\n";
        assert_eq!(describe(&policy), format!("{head}{expected}"));
    }

    #[test]
    fn the_lessons_ingress_policy() {
        check(
            json!({"podSelector": {"matchLabels": {"app": "hello"}}, "policyTypes": ["Ingress"],
                   "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "foo"}}}]}]}),
            "  PodSelector:     app=hello\n  Allowing ingress traffic:\n    To Port: <any> (traffic allowed to all ports)\n    From:\n      PodSelector: app=foo\n  Not affecting egress traffic\n  Policy Types: Ingress\n",
        );
    }

    #[test]
    fn the_lessons_egress_policy() {
        check(
            json!({"podSelector": {"matchLabels": {"app": "foo"}}, "policyTypes": ["Egress"],
                   "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "hello"}}}]},
                              {"ports": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}]}),
            "  PodSelector:     app=foo\n  Not affecting ingress traffic\n  Allowing egress traffic:\n    To Port: <any> (traffic allowed to all ports)\n    To:\n      PodSelector: app=hello\n    ----------\n    To Port: 53/TCP\n    To Port: 53/UDP\n    To: <any> (traffic not restricted by destination)\n  Policy Types: Egress\n",
        );
    }

    #[test]
    fn isolation_ranges_blocks_and_namespaces() {
        check(
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                   "egress": [{"ports": [{"port": 32000, "endPort": 32768}, {"port": "http"}],
                               "to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}},
                                      {"namespaceSelector": {}, "podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "y"]}]}}]}]}),
            "  PodSelector:     <none> (Allowing the specific traffic to all pods in this namespace)\n  Allowing ingress traffic:\n    <none> (Selected pods are isolated for ingress connectivity)\n  Allowing egress traffic:\n    To Port Range: 32000-32768/TCP\n    To Port: http/TCP\n    To:\n      IPBlock:\n        CIDR: 10.0.0.0/8\n        Except: 10.1.0.0/16, 10.2.0.0/16\n    To:\n      NamespaceSelector: <none>\n      PodSelector: a in (x,y)\n  Policy Types: Ingress, Egress\n",
        );
    }
}
