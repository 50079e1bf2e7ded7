//! `describe`: objects in words, with what happened to them.
//!
//! This file fetches; the files beside it are pure.

mod cluster;
mod events;
mod network_policy;
mod pod;
mod service;
mod text;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};

use super::context::Context;
use super::kind::Kind;
use super::output;
use super::target::Target;
use super::{failure, out};

pub(crate) use network_policy::describe as describe_network_policy;

/// What `apply` remembers is for programs.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Options of `describe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to describe: `pod web`, `pod/web`, `pods`
    #[arg(value_name = "KIND[/NAME]", required = true)]
    target: Vec<String>,

    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    /// Objects with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
}

impl Args {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let target = Target::parse(&self.target)?;
        let client = context.client().await?;
        let mut objects: Vec<(&'static Kind, DynamicObject)> = Vec::new();
        let mut errors = Vec::new();
        match target {
            Target::Named(names) => {
                anyhow::ensure!(!self.all_namespaces, "a resource cannot be retrieved by name across all namespaces");
                for (kind, name) in names {
                    match kind.api(client.clone(), Some(context.namespace())).get(&name).await {
                        Ok(object) => objects.push((kind, object)),
                        Err(error) => errors.push(error.into()),
                    }
                }
            }
            Target::Kinds(kinds) => {
                let params = ListParams { label_selector: self.selector.clone(), ..ListParams::default() };
                for kind in kinds {
                    let api = kind.api(client.clone(), (!self.all_namespaces).then(|| context.namespace()));
                    objects.extend(api.list(&params).await?.items.into_iter().map(|object| (kind, object)));
                }
                if objects.is_empty() {
                    out::say(&format!("No resources found in {} namespace.", context.namespace()));
                }
            }
        }
        for (index, (kind, object)) in objects.into_iter().enumerate() {
            let gap = if index > 0 { "\n\n" } else { "" };
            out::print(&format!("{gap}{}", describe(&client, kind, object).await?))?;
        }
        failure::all(errors)
    }
}

async fn describe(client: &Client, kind: &Kind, object: DynamicObject) -> anyhow::Result<String> {
    let now = Timestamp::now();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    Ok(match kind.kind {
        "Pod" => {
            let happened = events_of(client, kind, &object.metadata).await?;
            pod::describe(&object.try_parse()?, &happened, now)
        }
        "Service" => {
            let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &namespace);
            let params = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
            service::describe(&object.try_parse()?, &slices.list(&params).await?.items)
        }
        "NetworkPolicy" => network_policy::describe(&object.try_parse()?),
        "Namespace" => cluster::namespace(&object.try_parse()?),
        "Node" => {
            let happened = events_of(client, kind, &object.metadata).await?;
            let params = ListParams::default().fields(&format!("spec.nodeName={name}"));
            let mut pods = Api::<Pod>::all(client.clone()).list(&params).await?.items;
            pods.retain(|pod| !super::container::is_completed(pod));
            cluster::node(&object.try_parse()?, &pods, &happened, now)
        }
        _ => output::yaml(&output::complete(kind, &object)),
    })
}

/// What happened to an object.
async fn events_of(client: &Client, kind: &Kind, metadata: &ObjectMeta) -> anyhow::Result<Vec<Event>> {
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let name = metadata.name.as_deref().unwrap_or_default();
    let fields = format!("involvedObject.kind={},involvedObject.name={name}", kind.kind);
    let mut events = match events.list(&ListParams::default().fields(&fields)).await {
        Ok(list) => list.items,
        // A server without events.
        Err(kube::Error::Api(status)) if status.is_not_found() => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    // Of an older object of the same name.
    events.retain(|e| e.involved_object.uid.is_none() || kind.kind == "Node" || e.involved_object.uid == metadata.uid);
    Ok(events)
}

/// `a=1`, one per label.
fn labels(labels: Option<&BTreeMap<String, String>>) -> Vec<String> {
    labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect()
}

/// `a: 1`, one per annotation.
fn annotations(metadata: &ObjectMeta) -> Vec<String> {
    let all = metadata.annotations.iter().flatten().filter(|(key, _)| *key != LAST_APPLIED);
    all.map(|(key, value)| format!("{key}: {}", value.replace('\n', " "))).collect()
}

/// `2026-01-01 00:00:00 +0000 UTC`
fn time(time: Option<&Time>) -> String {
    time.map_or_else(|| "<unset>".to_owned(), |time| time.0.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string())
}

/// A port's number or name.
fn port_text(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}
