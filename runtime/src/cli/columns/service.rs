//! Services.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use kube::api::DynamicObject;

use super::super::age;
use super::{Columns, Row, or_none, pairs, typed};

pub(super) const COLUMNS: Columns =
    Columns { headers: &["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"], wide: &["SELECTOR"], row };

fn row(object: &DynamicObject, now: Timestamp) -> Option<Row> {
    let service: Service = typed(object)?;
    let spec = service.spec.as_ref()?;
    let ports: Vec<String> = spec.ports.iter().flatten().map(port).collect();
    let external = match spec.type_.as_deref() {
        Some("ExternalName") => spec.external_name.clone(),
        _ => spec.external_ips.as_ref().map(|ips| ips.join(",")),
    };
    Some(Row {
        cells: vec![
            super::name(object),
            spec.type_.clone().unwrap_or_else(|| "ClusterIP".to_owned()),
            or_none(spec.cluster_ip.as_deref()),
            or_none(external.as_deref()),
            or_none(Some(&ports.join(","))),
            age::age(service.metadata.creation_timestamp.as_ref(), now),
        ],
        wide: vec![pairs(spec.selector.as_ref(), ",")],
    })
}

fn port(port: &ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.node_port {
        Some(node_port) if node_port != 0 => format!("{}:{node_port}/{protocol}", port.port),
        _ => format!("{}/{protocol}", port.port),
    }
}
