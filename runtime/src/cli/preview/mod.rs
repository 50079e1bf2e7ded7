//! `apply --dry-run=policy`: who could reach whom before and after, where that differs, and which live connections would be cut.
//!
//! This file asks; [`addresses`] says where pods would be that are nowhere yet, [`ports`] which ports have to be asked for,
//! [`difference`] compares all pairs of pods, [`connections`] judges those that there are, [`text`] is what is said.

mod addresses;
mod connections;
mod difference;
mod ports;
mod text;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use kube::api::DynamicObject;
use minipod_protocol::judge::{OwnNode, Tracked};
use minipod_protocol::netd::{self, Request, Response};
use netd_policy::{Change, object};

use super::cluster;
use super::context::Context;
use super::kind::Kind;
use super::out;

/// netd answers between two changes of the node's rules.
const PATIENCE: Duration = Duration::from_secs(30);

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
    let (tracked, left_out, node) = ask(&context.directories.netd_socket())?;
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

fn ask(socket: &Path) -> anyhow::Result<(Vec<Tracked>, usize, OwnNode)> {
    let answer = netd::ask(socket, Request::Connections, PATIENCE)
        .with_context(|| format!("netd does not answer on `{}`; see `minipod node status`", socket.display()))?;
    match answer {
        Response::Connections { connections, left_out, node } => Ok((connections, left_out, node)),
        Response::Error(error) => Err(error.into()),
        _ => anyhow::bail!("netd gives an answer that belongs to another question: use programs of one release"),
    }
}
