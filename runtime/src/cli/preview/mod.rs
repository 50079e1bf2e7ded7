//! `apply --dry-run=policy`: who could reach whom before and after, where that differs, and which live connections would be cut.
//!
//! This file asks; [`addresses`] says where pods would be that are nowhere yet, [`ports`] which ports have to be asked for,
//! [`difference`] compares all pairs of pods, [`connections`] judges those that there are, [`text`] is what is said.

mod addresses;
mod connections;
mod difference;
mod ports;
mod text;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::DynamicObject;
use netd_policy::{Change, object};

use super::cluster;
use super::context::Context;
use super::kind::Kind;
use super::{out, verdict};

/// An object as it would be.
pub(crate) struct Applied {
    pub(crate) kind: &'static Kind,
    pub(crate) object: DynamicObject,
    /// `created`, `configured`, `unchanged`
    pub(crate) outcome: &'static str,
    /// `false`: it would be in a namespace that is not there yet, where the server checks nothing
    pub(crate) checked: bool,
}

/// Shows what objects would change.
pub(crate) async fn show(client: &Client, context: &Context, applied: &[Applied], as_json: bool) -> anyhow::Result<()> {
    let mut index = cluster::read(client).await?.index;
    let mut before = index.cluster().clone();
    for applied in applied {
        if let Some(change) = change(applied.kind, &applied.object)? {
            index.apply(change);
        }
    }
    let mut after = index.cluster().clone();
    let (tracked, left_out, node) = verdict::connections(&context.directories.netd_socket())?;
    for cluster in [&mut before, &mut after] {
        cluster.options.cluster_dns.clone_from(&node.cluster_dns);
    }
    addresses::assume(&mut before, &mut after);
    let told = text::Told {
        applied,
        pairs: difference::between(&before, &after),
        cut: connections::cut(&tracked, &before, &after, &node),
        left_out,
    };
    out::print(&if as_json { told.json() } else { told.lines() })
}

/// What an object means for policies, if it means anything for them.
fn change(kind: &Kind, object: &DynamicObject) -> anyhow::Result<Option<Change>> {
    let object = object.clone();
    Ok(match kind.kind {
        "Pod" => Some(Change::Pod(object::Pod::read(&object.try_parse::<v1::Pod>()?))),
        "Namespace" => Some(Change::Namespace(object::Namespace::read(&object.try_parse::<v1::Namespace>()?))),
        "NetworkPolicy" => Some(Change::Policy(object::Policy::read(&object.try_parse::<NetworkPolicy>()?))),
        _ => None,
    })
}
