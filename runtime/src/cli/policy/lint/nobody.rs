//! What selects nobody, and what was not understood and so allows nobody anything. Pure.

use minipod_model::Selector;
use netd_policy::object::{Peer, PeerNamespaces, Policy, RulePeers};

use super::finding::{Check, Direction, Finding, Level};
use super::objects::Objects;

pub(super) fn find(objects: &Objects, policy: &Policy) -> Vec<Finding> {
    let warning = |check, field: &str, what: String, next: &str| Finding {
        level: Level::Warning,
        check,
        policy: policy.key.clone(),
        field: field.to_owned(),
        what,
        next: next.to_owned(),
    };
    let mut findings = Vec::new();
    for problem in &policy.problems {
        let field = problem.path.strip_prefix("spec.").unwrap_or(&problem.path);
        let what = format!("not understood, allows nothing: {} (value `{}`)", problem.problem, problem.value);
        findings.push(warning(Check::NotUnderstood, field, what, "correct the field"));
    }
    if objects.subjects(policy).is_empty() {
        let what = format!(
            "selects no pod: namespace {} has none {}",
            policy.key.namespace,
            labelled(&policy.subjects, "with a network of its own")
        );
        findings.push(warning(Check::SelectsNoPod, "podSelector", what, "correct it, or label the pods"));
    }
    for direction in Direction::BOTH {
        for rule in direction.rules(policy).into_iter().flatten() {
            let RulePeers::Listed(peers) = &rule.peers else { continue };
            for (index, peer) in peers.iter().enumerate() {
                let Peer::Pods { namespaces, pods } = peer else { continue };
                if !objects.peers(policy, peer).is_empty() {
                    continue;
                }
                let field = direction.peer(rule, index);
                let (what, next) = match namespaces {
                    PeerNamespaces::Selected(selector) if !objects.any_namespace(policy, namespaces) => (
                        format!("matches no namespace: none {}", labelled(selector, "")),
                        "correct it, or label the namespace",
                    ),
                    PeerNamespaces::Selected(selector) => {
                        let of = if selector.is_everything() {
                            "any namespace".to_owned()
                        } else {
                            format!("the namespaces {selector}")
                        };
                        (
                            format!("matches no pod: none in {of} {}", labelled(pods, "at all")),
                            "correct it, or label the pods",
                        )
                    }
                    PeerNamespaces::Own => {
                        let what = format!(
                            "matches no pod: none in namespace {} {}",
                            policy.key.namespace,
                            labelled(pods, "at all")
                        );
                        (what, "correct it, label the pods, or name other namespaces with namespaceSelector")
                    }
                };
                findings.push(warning(Check::PeerMatchesNobody, &field, what, next));
            }
        }
    }
    findings
}

fn labelled(selector: &Selector, everything: &str) -> String {
    if selector.is_everything() { everything.to_owned() } else { format!("with {selector}") }
}
