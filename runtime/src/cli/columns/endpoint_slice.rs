//! Endpoint slices.

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::DynamicObject;

use super::super::age;
use super::{Columns, Row, typed};

pub(super) const COLUMNS: Columns =
    Columns { headers: &["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"], wide: &[], row };

/// As many are shown.
const SHOWN: usize = 3;

fn row(object: &DynamicObject, now: Timestamp) -> Option<Row> {
    let slice: EndpointSlice = typed(object)?;
    let ports: Vec<String> =
        slice.ports.iter().flatten().map(|p| p.port.map_or("*".to_owned(), |p| p.to_string())).collect();
    let addresses: Vec<String> = slice.endpoints.iter().flatten().flat_map(|e| e.addresses.iter().cloned()).collect();
    Some(Row {
        cells: vec![
            super::name(object),
            slice.address_type.clone(),
            list(&ports),
            list(&addresses),
            age::age(slice.metadata.creation_timestamp.as_ref(), now),
        ],
        wide: Vec::new(),
    })
}

fn list(items: &[String]) -> String {
    match items.len() {
        0 => "<unset>".to_owned(),
        n if n > SHOWN => format!("{} + {} more...", items[..SHOWN].join(","), n - SHOWN),
        _ => items.join(","),
    }
}
