//! How findings are told. Pure.

use serde_json::{Value, json};

use super::super::super::table::Table;
use super::finding::{Finding, Level};

/// For people: a line for each finding.
pub(super) fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(&["LEVEL", "POLICY", "FIELD", "FINDING", "NEXT STEP"]);
    for finding in findings {
        let level = match finding.level {
            Level::Warning => "warning",
            Level::Note => "note",
        };
        let policy = finding.policy.to_string();
        table.push([level, &policy, &finding.field, &finding.what, &finding.next]);
    }
    table
}

/// For programs.
pub(super) fn json(findings: &[Finding]) -> String {
    let items: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "level": finding.level, "check": finding.check, "namespace": finding.policy.namespace,
                "policy": finding.policy.name, "field": finding.field, "finding": finding.what, "nextStep": finding.next,
            })
        })
        .collect();
    format!("{:#}\n", json!({"findings": items}))
}
