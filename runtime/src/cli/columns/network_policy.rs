//! Network policies.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::DynamicObject;
use minipod_model::Selector;

use super::super::age;
use super::{Columns, Row, or_none, typed};

pub(super) const COLUMNS: Columns = Columns { headers: &["NAME", "POD-SELECTOR", "AGE"], wide: &[], row };

fn row(object: &DynamicObject, now: Timestamp) -> Option<Row> {
    let policy: NetworkPolicy = typed(object)?;
    let selector = policy.spec.and_then(|s| s.pod_selector).unwrap_or_default();
    let selector = Selector::from_object(&selector).map_or_else(|e| format!("<invalid: {e}>"), |s| s.to_string());
    let age = age::age(policy.metadata.creation_timestamp.as_ref(), now);
    Some(Row { cells: vec![super::name(object), or_none(Some(&selector)), age], wide: Vec::new() })
}
