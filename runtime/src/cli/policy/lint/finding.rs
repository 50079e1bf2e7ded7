//! What is found, and where.

use std::fmt;

use netd_policy::object::{ObjectKey, Policy, Rule};
use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// probably not what was meant
    Warning,
    /// right, and needed by nobody
    Note,
}

/// The rulebook's entry, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Check {
    NotUnderstood,
    SelectsNoPod,
    PeerMatchesNobody,
    PortNameUnknown,
    NoDns,
    Shadowed,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) check: Check,
    pub(super) policy: ObjectKey,
    /// the field below `spec`, e.g. `ingress[0].from[1]`
    pub(super) field: String,
    pub(super) what: String,
    /// what to do about it
    pub(super) next: String,
}

/// One of the two halves of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The rules; `None` where the policy does not isolate this direction.
    pub(super) fn rules(self, policy: &Policy) -> Option<&[Rule]> {
        match self {
            Self::Ingress => policy.ingress.as_deref(),
            Self::Egress => policy.egress.as_deref(),
        }
    }

    /// `ingress[0]`
    pub(super) fn rule(self, rule: &Rule) -> String {
        format!("{self}[{}]", rule.index)
    }

    /// `ingress[0].from[1]`
    pub(super) fn peer(self, rule: &Rule, index: usize) -> String {
        let list = match self {
            Self::Ingress => "from",
            Self::Egress => "to",
        };
        format!("{self}[{}].{list}[{index}]", rule.index)
    }

    /// `ingress[0].ports[1]`
    pub(super) fn port(self, rule: &Rule, index: usize) -> String {
        format!("{self}[{}].ports[{index}]", rule.index)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}
