//! The events at the end of a description.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use super::super::age;
use super::text::Text;

/// The section, oldest event first.
pub(super) fn section(events: &[Event], now: Timestamp) -> String {
    if events.is_empty() {
        return "Events:  <none>\n".to_owned();
    }
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| seen(event).map(|time| time.0));
    let mut text = Text::default();
    text.line("Events:");
    text.line("  Type\tReason\tAge\tFrom\tMessage");
    text.line("  ----\t------\t---\t----\t-------");
    for event in events {
        let source = event.source.as_ref().and_then(|s| s.component.clone());
        text.line(format!(
            "  {}\t{}\t{}\t{}\t{}",
            event.type_.as_deref().unwrap_or_default(),
            event.reason.as_deref().unwrap_or_default(),
            ages(event, now),
            source.or_else(|| event.reporting_component.clone()).unwrap_or_default(),
            event.message.as_deref().unwrap_or_default().trim().replace(['\n', '\t'], " ")
        ));
    }
    text.render()
}

fn seen(event: &Event) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> {
    event.last_timestamp.as_ref().or(event.first_timestamp.as_ref()).or(event.metadata.creation_timestamp.as_ref())
}

/// `10s`, or `10s (x3 over 5m)` for one that happened more than once.
fn ages(event: &Event, now: Timestamp) -> String {
    let last = age::age(seen(event), now);
    match event.count {
        Some(count) if count > 1 => {
            let first = event.first_timestamp.as_ref().or_else(|| seen(event));
            format!("{last} (x{count} over {})", age::age(first, now))
        }
        _ => last,
    }
}
