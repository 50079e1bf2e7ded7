//! Watch: one line of JSON per change, for as long as the client stays.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::read;
use crate::fields::Filter;
use crate::kinds::Kind;
use crate::request::Params;
use crate::shared::Shared;
use crate::status::ApiError;
use crate::store::{Change, StoreError, Watch};

/// How long a watch lasts if the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Time between bookmarks while nothing is written at all.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// Lines that wait for a slow client; changes wait in the store's log.
const LINES: usize = 64;

/// The annotation of the bookmark that ends the initial objects.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

pub(super) async fn watch(
    shared: &Arc<Shared>,
    kind: &'static Kind,
    namespace: Option<&str>,
    params: &Params,
) -> Result<Response, ApiError> {
    let filter = params.filter(kind)?;
    let revision = params.number::<u64>("resourceVersion")?;
    let initial = initial_events(params, revision)?;
    let bookmarks = params.flag("allowWatchBookmarks")?;
    let timeout =
        params.number("timeoutSeconds")?.filter(|seconds| *seconds > 0).map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let prefix = kind.prefix(namespace);

    let mut first = Vec::new();
    let start = match revision {
        Some(revision) if initial == Initial::No => revision,
        _ => {
            let listing = shared.store.list(&prefix, None).await.map_err(|error| ApiError::from_store(&error))?;
            for (_, record) in &listing.records {
                let object = read::object(record)?;
                if filter.matches(&object) {
                    first.push(line("ADDED", &object));
                }
            }
            if initial == Initial::WithEnd {
                first.push(bookmark(kind, listing.revision, true));
            }
            listing.revision
        }
    };
    let (lines, received) = mpsc::channel(LINES);
    match shared.store.watch(&prefix, start).await {
        Ok(source) => {
            let stream = Stream { kind, filter, bookmarks: bookmarks.then_some(BOOKMARKS), lines };
            let stopping = shared.stopping.clone();
            tokio::spawn(async move {
                let until = Instant::now() + timeout;
                tokio::select! {
                    () = stream.run(first, source, until) => {}
                    () = stopping.cancelled() => {}
                }
            });
        }
        // As Kubernetes' watch cache does: the watch begins and ends with the error.
        Err(error) => {
            let _ = lines.try_send(error_line(&error));
        }
    }
    let body = ReceiverStream::new(received).map(Ok::<_, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Whether a watch begins with the objects that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Initial {
    No,
    Yes,
    /// with a bookmark after them
    WithEnd,
}

fn initial_events(params: &Params, revision: Option<u64>) -> Result<Initial, ApiError> {
    let not_older = params.get("resourceVersionMatch") == Some("NotOlderThan");
    match params.get("sendInitialEvents") {
        None if params.get("resourceVersionMatch").is_some() => Err(ApiError::bad_request(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        None if revision.is_none_or(|revision| revision == 0) => Ok(Initial::Yes),
        Some(_) if !not_older => Err(ApiError::bad_request(
            "sendInitialEvents: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        Some(_) if params.flag("sendInitialEvents")? => {
            Ok(if params.flag("allowWatchBookmarks")? { Initial::WithEnd } else { Initial::Yes })
        }
        _ => Ok(Initial::No),
    }
}

struct Stream {
    kind: &'static Kind,
    filter: Filter,
    bookmarks: Option<Duration>,
    lines: mpsc::Sender<Bytes>,
}

impl Stream {
    /// Ends when the client has gone, at the deadline, or when the store cannot go on.
    async fn run(self, first: Vec<Bytes>, mut source: Box<dyn Watch>, until: Instant) {
        for line in first {
            if self.lines.send(line).await.is_err() {
                return;
            }
        }
        let period = self.bookmarks.unwrap_or(BOOKMARKS);
        let mut ticks = interval_at(Instant::now() + period, period);
        loop {
            let lines = tokio::select! {
                changes = source.next() => match changes {
                    Ok(changes) => self.lines_of(&changes, source.revision()),
                    Err(error) => {
                        let _ = self.lines.send(error_line(&error)).await;
                        return;
                    }
                },
                _ = ticks.tick(), if self.bookmarks.is_some() => vec![bookmark(self.kind, source.revision(), false)],
                () = sleep_until(until) => {
                    if self.bookmarks.is_some() {
                        let _ = self.lines.send(bookmark(self.kind, source.revision(), false)).await;
                    }
                    return;
                }
                () = self.lines.closed() => return,
            };
            for line in lines {
                if self.lines.send(line).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The events of these changes. Where they end before the revision that the watch has come to, because other objects were
    /// written, a bookmark says how far that is: a client that has to know everything acknowledged so far waits for nothing else.
    fn lines_of(&self, changes: &[Change], revision: u64) -> Vec<Bytes> {
        let mut told = 0;
        let mut lines = Vec::new();
        for change in changes {
            if let Some(line) = self.event(change) {
                told = change.revision;
                lines.push(line);
            }
        }
        if self.bookmarks.is_some() && told < revision {
            lines.push(bookmark(self.kind, revision, false));
        }
        lines
    }

    /// A change as the client sees it through its selectors.
    fn event(&self, change: &Change) -> Option<Bytes> {
        let selected = |bytes: &Bytes| {
            let object = read::at_revision(bytes, change.revision).ok()?;
            self.filter.matches(&object).then_some(object)
        };
        let before = change.before.as_ref().and_then(|record| selected(&record.value));
        let after = change.after.as_ref().and_then(selected);
        match (before, after) {
            (None, None) => None,
            (None, Some(object)) => Some(line("ADDED", &object)),
            (Some(_), Some(object)) => Some(line("MODIFIED", &object)),
            (Some(object), None) => Some(line("DELETED", &object)),
        }
    }
}

fn line(event: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": event, "object": object})).into()
}

fn error_line(error: &StoreError) -> Bytes {
    let error = match error {
        // A watch cannot wait for a revision that may never come: the client lists again.
        StoreError::Future { wanted, current } => {
            ApiError::expired(format!("too new resource version: {wanted} ({current})"))
        }
        error => ApiError::from_store(error),
    };
    line("ERROR", &error.to_value())
}

fn bookmark(kind: &Kind, revision: u64, initial_end: bool) -> Bytes {
    let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
    if initial_end {
        metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
    }
    let object = json!({"kind": kind.resource.kind, "apiVersion": kind.api_version(), "metadata": metadata});
    line("BOOKMARK", &object)
}
