//! What `get` shows of an object: one row per kind, as kubectl prints it.
//!
//! Pure: the object and the time in, cells out. An object that does not have the form of its kind is shown with its name
//! and age rather than not at all.

mod endpoint_slice;
mod event;
mod namespace;
mod network_policy;
mod node;
mod pod;
mod service;

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde::de::DeserializeOwned;

use super::age;
use super::kind::Kind;
use super::table::Table;

/// How wide a table is and what it begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(crate) struct Layout {
    /// `-o wide`
    pub(crate) wide: bool,
    /// `-A`
    pub(crate) with_namespace: bool,
    /// `--show-labels`
    pub(crate) with_labels: bool,
    /// names as `pod/web`: several kinds are shown
    pub(crate) with_kind: bool,
    /// `--no-headers`
    pub(crate) without_headers: bool,
}

/// The columns of one kind.
struct Columns {
    headers: &'static [&'static str],
    wide: &'static [&'static str],
    row: fn(&DynamicObject, Timestamp) -> Option<Row>,
}

/// The cells of one object.
struct Row {
    cells: Vec<String>,
    wide: Vec<String>,
}

fn columns(kind: &Kind) -> Columns {
    match kind.kind {
        "Pod" => pod::COLUMNS,
        "Service" => service::COLUMNS,
        "Namespace" => namespace::COLUMNS,
        "Node" => node::COLUMNS,
        "Event" => event::COLUMNS,
        "NetworkPolicy" => network_policy::COLUMNS,
        "EndpointSlice" => endpoint_slice::COLUMNS,
        _ => Columns { headers: &["NAME", "AGE"], wide: &[], row: |_, _| None },
    }
}

/// The table of some objects of one kind.
pub(crate) fn table(kind: &Kind, objects: &[DynamicObject], layout: Layout, now: Timestamp) -> Table {
    let columns = columns(kind);
    let mut headers: Vec<&str> = Vec::new();
    if layout.with_namespace {
        headers.push("NAMESPACE");
    }
    headers.extend(columns.headers);
    if layout.wide {
        headers.extend(columns.wide);
    }
    if layout.with_labels {
        headers.push("LABELS");
    }
    let mut table = Table::new(if layout.without_headers { &[] } else { &headers });
    for object in objects {
        table.push(cells(kind, &columns, object, layout, now));
    }
    table
}

fn cells(kind: &Kind, columns: &Columns, object: &DynamicObject, layout: Layout, now: Timestamp) -> Vec<String> {
    let row = (columns.row)(object, now).unwrap_or_else(|| fallback(columns, object, now));
    let mut cells = Vec::new();
    if layout.with_namespace {
        cells.push(object.metadata.namespace.clone().unwrap_or_default());
    }
    let name_column = columns.headers.iter().position(|h| *h == "NAME");
    for (index, cell) in row.cells.into_iter().enumerate() {
        let is_name = layout.with_kind && Some(index) == name_column;
        cells.push(if is_name { kind.object_name(&cell) } else { cell });
    }
    if layout.wide {
        cells.extend(row.wide);
    }
    if layout.with_labels {
        cells.push(pairs(object.metadata.labels.as_ref(), ","));
    }
    cells
}

fn fallback(columns: &Columns, object: &DynamicObject, now: Timestamp) -> Row {
    let cell = |header: &&str| match *header {
        "NAME" => name(object),
        "AGE" => age::age(object.metadata.creation_timestamp.as_ref(), now),
        _ => "<unknown>".to_owned(),
    };
    Row { cells: columns.headers.iter().map(cell).collect(), wide: columns.wide.iter().map(cell).collect() }
}

fn name(object: &DynamicObject) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

fn typed<K: kube::Resource + DeserializeOwned>(object: &DynamicObject) -> Option<K> {
    object.clone().try_parse().ok()
}

/// `a=1,b=2`; `<none>` for none.
pub(crate) fn pairs(labels: Option<&BTreeMap<String, String>>, separator: &str) -> String {
    match labels {
        Some(labels) if !labels.is_empty() => {
            labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(separator)
        }
        _ => "<none>".to_owned(),
    }
}

/// The text, or `<none>`.
pub(crate) fn or_none(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty()).unwrap_or("<none>").to_owned()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::super::kind::{ENDPOINT_SLICE, EVENT, Kind, NAMESPACE, NETWORK_POLICY, NODE, POD, SERVICE};
    use super::{Layout, table};

    #[track_caller]
    fn check(kind: &Kind, layout: Layout, objects: &[Value], expected: &[&str]) {
        let objects: Vec<DynamicObject> =
            objects.iter().map(|o| serde_json::from_value(o.clone()).expect("an object")).collect();
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().expect("a time");
        let text = table(kind, &objects, layout, now).render();
        assert_eq!(text.lines().map(str::trim_end).collect::<Vec<_>>(), expected);
    }

    fn meta(name: &str) -> Value {
        json!({"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "x"}})
    }

    #[test]
    fn pods() {
        let running = json!({"metadata": meta("web"), "spec": {"nodeName": "n1", "containers": [{"name": "web"}]},
            "status": {"phase": "Running", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}, {"ip": "fd00::5"}],
                "containerStatuses": [{"name": "web", "ready": true, "restartCount": 2, "image": "", "imageID": "",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:01Z"}},
                    "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:05:00Z"}}}]}});
        let pending =
            json!({"metadata": meta("next"), "spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Pending"}});
        check(
            &POD,
            Layout::default(),
            &[running.clone(), pending.clone()],
            &[
                "NAME   READY   STATUS    RESTARTS     AGE",
                "web    1/1     Running   2 (5m ago)   10m",
                "next   0/1     Pending   0            10m",
            ],
        );
        check(
            &POD,
            Layout { wide: true, with_namespace: true, with_labels: true, ..Layout::default() },
            &[running, pending],
            &[
                "NAMESPACE   NAME   READY   STATUS    RESTARTS     AGE   IP           NODE     NOMINATED NODE   READINESS GATES   LABELS",
                "default     web    1/1     Running   2 (5m ago)   10m   10.244.0.5   n1       <none>           <none>            app=x",
                "default     next   0/1     Pending   0            10m   <none>       <none>   <none>           <none>            app=x",
            ],
        );
    }

    #[test]
    fn services() {
        let web = json!({"metadata": meta("web"), "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.7",
            "selector": {"app": "x"}, "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]}});
        check(
            &SERVICE,
            Layout { wide: true, ..Layout::default() },
            &[web],
            &[
                "NAME   TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)               AGE   SELECTOR",
                "web    ClusterIP   10.96.0.7    <none>        80/TCP,53:30053/UDP   10m   app=x",
            ],
        );
    }

    #[test]
    fn policies_namespaces_nodes() {
        let policy = |name: &str, selector: Value| json!({"metadata": meta(name), "spec": {"podSelector": selector}});
        check(
            &NETWORK_POLICY,
            Layout::default(),
            &[policy("a", json!({"matchLabels": {"app": "hello"}})), policy("deny", json!({}))],
            &["NAME   POD-SELECTOR   AGE", "a      app=hello      10m", "deny   <none>         10m"],
        );
        check(
            &NAMESPACE,
            Layout::default(),
            &[json!({"metadata": meta("default"), "status": {"phase": "Active"}})],
            &["NAME      STATUS   AGE", "default   Active   10m"],
        );
        let node = json!({"metadata": meta("n1"), "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "nodeInfo": {"kubeletVersion": "minipod-0.1.0", "osImage": "Debian", "kernelVersion": "6.1", "containerRuntimeVersion": "minipod://0.1.0",
                "architecture": "", "bootID": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "systemUUID": ""}}});
        check(
            &NODE,
            Layout { wide: true, ..Layout::default() },
            &[node],
            &[
                "NAME   STATUS   ROLES    AGE   VERSION         INTERNAL-IP   EXTERNAL-IP   OS-IMAGE   KERNEL-VERSION   CONTAINER-RUNTIME",
                "n1     Ready    <none>   10m   minipod-0.1.0   192.0.2.1     <none>        Debian     6.1              minipod://0.1.0",
            ],
        );
    }

    #[test]
    fn slices_and_events() {
        let slice = json!({"metadata": meta("web-x"), "addressType": "IPv4", "ports": [{"port": 80, "protocol": "TCP"}],
            "endpoints": (1..=5).map(|i| json!({"addresses": [format!("10.0.0.{i}")]})).collect::<Vec<_>>()});
        check(
            &ENDPOINT_SLICE,
            Layout::default(),
            &[slice],
            &[
                "NAME    ADDRESSTYPE   PORTS   ENDPOINTS                                 AGE",
                "web-x   IPv4          80      10.0.0.1,10.0.0.2,10.0.0.3 + 2 more...   10m",
            ]
            .map(|l| {
                if l.starts_with("NAME") {
                    "NAME    ADDRESSTYPE   PORTS   ENDPOINTS                                AGE"
                } else {
                    l
                }
            }),
        );
        let event = json!({"metadata": meta("web.1"), "type": "Warning", "reason": "Failed", "message": "no\n",
            "lastTimestamp": "2026-01-01T00:09:00Z", "involvedObject": {"kind": "Pod", "name": "web"}});
        check(
            &EVENT,
            Layout::default(),
            &[event],
            &["LAST SEEN   TYPE      REASON   OBJECT    MESSAGE", "60s         Warning   Failed   pod/web   no"],
        );
    }

    #[test]
    fn several_kinds_are_told_apart_and_strange_objects_are_shown() {
        check(
            &POD,
            Layout { with_kind: true, without_headers: true, ..Layout::default() },
            &[json!({"metadata": meta("odd"), "spec": 1})],
            &["pod/odd   <unknown>   <unknown>   <unknown>   10m"],
        );
    }
}
