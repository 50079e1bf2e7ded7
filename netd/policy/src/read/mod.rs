//! From API objects to [`crate::object`]. Nothing is refused here, that is the API server's part: what cannot be read is left out in the
//! direction that allows less, and a policy says so in its `problems` (semantics, "Reading the object").

mod pod;
mod policy;
mod service;
mod unknown;

use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::range::node_address;
use minipod_model::{IpFamily, Protocol};

use crate::object::{Namespace, Node, ObjectKey};

pub use unknown::unknown_fields;

impl Namespace {
    /// Reads a Namespace. It carries its own name as a label, also where the server did not add it.
    #[must_use]
    pub fn read(namespace: &v1::Namespace) -> Self {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let mut labels = namespace.metadata.labels.clone().unwrap_or_default();
        labels.insert(NAMESPACE_NAME_LABEL.to_owned(), name.clone());
        Self { name, labels }
    }
}

impl Node {
    /// Reads a Node. Host names among its addresses do not count.
    #[must_use]
    pub fn read(node: &v1::Node) -> Self {
        let given = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let given: Vec<(&str, IpAddr)> =
            given.filter_map(|address| Some((address.type_.as_str(), address.address.parse().ok()?))).collect();
        let spec = node.spec.as_ref();
        let pod_cidrs = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
        let own = pod_cidrs.iter().filter_map(|cidr| cidr.parse().ok()).map(node_address);
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            addresses: given.iter().map(|(_, address)| *address).chain(own).collect(),
            internal: given.iter().filter(|(kind, _)| *kind == "InternalIP").map(|(_, address)| *address).collect(),
            pod_cidrs,
        }
    }
}

fn object_key(metadata: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// A protocol as it stands in an object; missing means TCP.
fn protocol(name: Option<&str>) -> Option<Protocol> {
    name.unwrap_or("TCP").parse().ok()
}

/// A port number as it stands in an object.
fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number > 0)
}

/// Keeps the first address of each family, IPv4 first.
fn one_per_family(addresses: &[IpAddr]) -> Vec<IpAddr> {
    IpFamily::ALL.into_iter().filter_map(|f| addresses.iter().find(|a| IpFamily::of(**a) == f).copied()).collect()
}
