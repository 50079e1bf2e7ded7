//! What netd tells a Prometheus server: an HTTP endpoint where the node was given an address for it, and nowhere else.
//!
//! What is counted as it happens lives here; what is there at the moment, and what others count, the engine fills in when it is asked.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use netd_dataplane::Changes;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;

use crate::command::{Command, Engine};

/// `application/openmetrics-text`, as Prometheus asks for it.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is told.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    changes: Family<Change, Histogram, fn() -> Histogram>,
    pub(crate) enforcing: Gauge,
    pub(crate) pods: Gauge,
    pub(crate) policies: Gauge,
    pub(crate) signatures: Gauge,
    pub(crate) chains: Gauge,
    pub(crate) sets: Gauge,
    pub(crate) elements: Gauge,
    repairs: Counter,
    cut: Counter,
    restored: Counter,
    forbidden: Gauge,
    drops: Family<Dropped, Counter>,
    denied: Family<Denied, Counter>,
}

/// A change of rules and sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Change {
    kind: Kind,
}

/// What a change had to touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "these are the values of a label")]
pub(crate) enum Kind {
    /// elements of sets, without a program
    elements,
    /// chains, jumps or whole sets
    rules,
    /// nothing
    nothing,
}

/// Dropped packets of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Dropped {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) reason: &'static str,
}

/// Denied packets of pods with the same rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Denied {
    /// the tag in the names of its chains
    pub(crate) signature: String,
    pub(crate) direction: &'static str,
    /// those that isolate one of its pods, with commas between
    pub(crate) policies: String,
}

impl Kind {
    pub(crate) fn of(changes: &Changes) -> Self {
        match changes {
            changes if changes.is_empty() => Self::nothing,
            Changes { chains: 0, jumps: 0, sets: 0, .. } => Self::elements,
            _ => Self::rules,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("minipod");
        // From half a millisecond to two seconds.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 13));
        let metrics = Self {
            changes: Family::new_with_constructor(histogram),
            registry: Registry::default(),
            enforcing: Gauge::default(),
            pods: Gauge::default(),
            policies: Gauge::default(),
            signatures: Gauge::default(),
            chains: Gauge::default(),
            sets: Gauge::default(),
            elements: Gauge::default(),
            repairs: Counter::default(),
            cut: Counter::default(),
            restored: Counter::default(),
            forbidden: Gauge::default(),
            drops: Family::default(),
            denied: Family::default(),
        };
        registry.register("enforcing", "1 as long as the kernel enforces the newest state", metrics.enforcing.clone());
        registry.register("pods", "Pods with an interface on this node", metrics.pods.clone());
        registry.register("policies", "NetworkPolicy objects", metrics.policies.clone());
        registry.register("signatures", "Distinct sets of rules of pods", metrics.signatures.clone());
        registry.register("chains", "Chains of rules", metrics.chains.clone());
        registry.register("sets", "Sets", metrics.sets.clone());
        registry.register("set_elements", "Elements of all sets", metrics.elements.clone());
        registry.register("repairs", "Repairs of rules or sets that somebody else changed", metrics.repairs.clone());
        registry.register("connections_cut", "Live connections that became forbidden", metrics.cut.clone());
        registry.register("connections_restored", "Cut connections that are allowed again", metrics.restored.clone());
        registry.register("connections_forbidden", "Live connections that are cut now", metrics.forbidden.clone());
        registry.register(
            "drops_told",
            "Dropped packets of which the kernel told, which is a sample: it tells of some of many",
            metrics.drops.clone(),
        );
        registry.register(
            "denied_packets",
            "Packets that policies denied, as the kernel counts them for pods with the same rules since these were written",
            metrics.denied.clone(),
        );
        let help = "How long changes of rules and sets took";
        registry.register_with_unit("change_duration", help, Unit::Seconds, metrics.changes.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// A change of rules and sets took so long.
    pub(crate) fn changed(&self, kind: Kind, took: Duration) {
        self.changes.get_or_create(&Change { kind }).observe(took.as_secs_f64());
    }

    /// Live connections that were cut, those that came back, and those that are cut now.
    pub(crate) fn connections(&self, cut: u64, restored: u64, forbidden: i64) {
        set(&self.cut, cut);
        set(&self.restored, restored);
        self.forbidden.set(forbidden);
    }

    /// So many repairs.
    pub(crate) fn repaired(&self, times: u64) {
        set(&self.repairs, times);
    }

    /// Of so many dropped packets the kernel told.
    pub(crate) fn told(&self, dropped: &Dropped, packets: u64) {
        set(&self.drops.get_or_create(dropped), packets);
    }

    /// So many were denied; what is not among these is not there any more.
    pub(crate) fn denied(&self, all: impl IntoIterator<Item = (Denied, u64)>) {
        self.denied.clear();
        for (denied, packets) in all {
            set(&self.denied.get_or_create(&denied), packets);
        }
    }

    /// All of it in the text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// For what somebody else counts.
fn set(counter: &Counter, value: u64) {
    counter.inner().store(value, Ordering::Relaxed);
}

/// Answers `GET /metrics` until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, engine: Engine) {
    let metrics = move || {
        let engine = engine.clone();
        async move {
            match engine.ask(Command::Metrics).await {
                Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
                Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
            }
        }
    };
    if let Err(error) = axum::serve(listener, Router::new().route("/metrics", get(metrics))).await {
        tracing::warn!(%error, "metrics are not served any more");
    }
}

/// Takes the address.
pub(crate) async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Denied, Dropped, Kind, Metrics};

    #[test]
    fn what_is_counted_is_told_in_the_text_format() {
        let metrics = Metrics::default();
        metrics.pods.set(3);
        metrics.changed(Kind::elements, Duration::from_millis(1));
        metrics.told(&Dropped { namespace: "x".to_owned(), pod: "web".to_owned(), reason: "ingress" }, 1);
        let denied = |direction| Denied { signature: "s".to_owned(), direction, policies: "x/a,x/b".to_owned() };
        metrics.denied([(denied("egress"), 5)]);
        metrics.denied([(denied("ingress"), 7)]);
        let text = metrics.text();
        for line in [
            "minipod_pods 3",
            "minipod_repairs_total 0",
            r#"minipod_drops_told_total{namespace="x",pod="web",reason="ingress"} 1"#,
            r#"minipod_denied_packets_total{signature="s",direction="ingress",policies="x/a,x/b"} 7"#,
            r#"minipod_change_duration_seconds_count{kind="elements"} 1"#,
        ] {
            assert!(text.lines().any(|told| told == line), "{line}: {text}");
        }
        assert!(!text.contains(r#"direction="egress""#), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
