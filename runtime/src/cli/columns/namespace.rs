//! Namespaces.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DynamicObject;

use super::super::age;
use super::{Columns, Row, typed};

pub(super) const COLUMNS: Columns = Columns { headers: &["NAME", "STATUS", "AGE"], wide: &[], row };

fn row(object: &DynamicObject, now: Timestamp) -> Option<Row> {
    let namespace: Namespace = typed(object)?;
    let phase = namespace.status.and_then(|s| s.phase).unwrap_or_else(|| "Active".to_owned());
    let age = age::age(namespace.metadata.creation_timestamp.as_ref(), now);
    Some(Row { cells: vec![super::name(object), phase, age], wide: Vec::new() })
}
