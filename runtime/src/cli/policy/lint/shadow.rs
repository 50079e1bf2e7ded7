//! Rules whose every connection another rule allows, for the same pods, whatever pods and namespaces there will be. Pure.

use netd_policy::object::{Policy, Rule};

use super::covers::{rule_covers, selector_covers};
use super::finding::{Check, Direction, Finding, Level};
use super::objects::Objects;

pub(super) fn find(objects: &Objects, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    for direction in Direction::BOTH {
        for rule in direction.rules(policy).into_iter().flatten() {
            let Some((other, by)) = shadowing(objects, policy, direction, rule) else { continue };
            let place = direction.rule(by);
            let by = if other.key == policy.key { place } else { format!("{place} of policy {}", other.key.name) };
            findings.push(Finding {
                level: Level::Note,
                check: Check::Shadowed,
                policy: policy.key.clone(),
                field: direction.rule(rule),
                what: format!("{by} allows all that it allows"),
                next: "remove the rule, or narrow the other".to_owned(),
            });
        }
    }
    findings
}

/// The first rule that makes this one needless. Of two that allow the same the first stays: so everything that is reported can be
/// removed at once.
fn shadowing<'a>(
    objects: &'a Objects,
    policy: &Policy,
    direction: Direction,
    rule: &Rule,
) -> Option<(&'a Policy, &'a Rule)> {
    let candidates = objects.policies.iter().filter(|other| other.key.namespace == policy.key.namespace);
    let rules = candidates.flat_map(|other| direction.rules(other).into_iter().flatten().map(move |by| (other, by)));
    let is_covered = |by: (&Policy, &Rule), rule: (&Policy, &Rule)| {
        selector_covers(&by.0.subjects, &rule.0.subjects) && rule_covers(by.1, rule.1, &policy.key.namespace)
    };
    rules.into_iter().find(|(other, by)| {
        let this = (policy, rule);
        let first = (&other.key, by.index) < (&policy.key, rule.index);
        let same = (&other.key, by.index) == (&policy.key, rule.index);
        !same && is_covered((other, by), this) && (first || !is_covered(this, (other, by)))
    })
}
