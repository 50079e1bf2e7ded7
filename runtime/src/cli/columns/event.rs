//! Events.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::DynamicObject;

use super::super::age;
use super::{Columns, Row, typed};

pub(super) const COLUMNS: Columns =
    Columns { headers: &["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"], wide: &[], row };

fn row(object: &DynamicObject, now: Timestamp) -> Option<Row> {
    let event: Event = typed(object)?;
    let subject = &event.involved_object;
    let kind = subject.kind.clone().unwrap_or_default().to_ascii_lowercase();
    let seen = event.last_timestamp.as_ref().or(event.metadata.creation_timestamp.as_ref());
    Some(Row {
        cells: vec![
            age::age(seen, now),
            event.type_.clone().unwrap_or_default(),
            event.reason.clone().unwrap_or_default(),
            format!("{kind}/{}", subject.name.clone().unwrap_or_default()),
            event.message.unwrap_or_default().trim().to_owned(),
        ],
        wide: Vec::new(),
    })
}
