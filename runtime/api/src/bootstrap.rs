//! What every cluster has: its namespaces and the service of the cluster DNS. Made if missing, never changed.

use std::sync::Arc;

use minipod_model::defaults::{DNS_LABEL, DNS_NAME, DNS_NAMESPACE};
use serde_json::{Value, json};

use crate::kinds::{self, Cluster, PERMANENT_NAMESPACES};
use crate::rest;
use crate::shared::Shared;
use crate::status::ApiError;

/// # Errors
/// Kind and name of the object that could not be made, and why.
pub(crate) async fn ensure_objects(shared: &Arc<Shared>) -> Result<(), (&'static str, &'static str, ApiError)> {
    for name in PERMANENT_NAMESPACES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        ensure(shared, "Namespace", None, name, namespace).await?;
    }
    let service = dns_service(&shared.cluster);
    ensure(shared, "Service", Some(DNS_NAMESPACE), DNS_NAME, service).await
}

async fn ensure(
    shared: &Arc<Shared>,
    kind: &'static str,
    namespace: Option<&str>,
    name: &'static str,
    object: Value,
) -> Result<(), (&'static str, &'static str, ApiError)> {
    let fail = |error| (kind, name, error);
    let kind = kinds::named(kind).ok_or_else(|| fail(ApiError::path_not_found()))?;
    let existing = shared.store.get(&kind.key(namespace, name)).await;
    if existing.map_err(|error| fail(ApiError::from_store(&error)))?.is_some() {
        return Ok(());
    }
    rest::create(shared, kind, namespace, object, false).await.map(drop).map_err(fail)
}

/// Without a selector: netd answers on its addresses itself.
fn dns_service(cluster: &Cluster) -> Value {
    let addresses: Vec<_> = cluster.dns_addresses().iter().map(ToString::to_string).collect();
    let families: Vec<_> = cluster.families().map(|family| family.to_string()).collect();
    let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    let (label, value) = DNS_LABEL;
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": DNS_NAME, "labels": {label: value}},
        "spec": {
            "clusterIP": addresses.first(),
            "clusterIPs": addresses,
            "ipFamilies": families,
            "ipFamilyPolicy": policy,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    })
}
