//! netd's answer to an attach, over its socket: for a pod whose rules others have too, and for one that needs rules of its own.
//!
//! The pods are objects in the API, which netd reads at every attach, and are placed on another node, so that nobody else attaches
//! them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use minipod_protocol::netd::{self, Attach, PodRef, Request, Response, Sandbox};

use super::figure::Figure;
use super::pod::{LIMIT, figure};
use super::timing::Series;
use crate::fixture::HELLO_IMAGE;
use crate::lab::Lab;

/// Both figures.
pub(super) fn measure(lab: &Lab, rounds: usize) -> Result<Vec<Figure>> {
    let kinds = ["known", "new"];
    let names: Vec<String> = (0..rounds).flat_map(|round| kinds.map(|kind| format!("{kind}-{round}"))).collect();
    let mut documents = vec![policy("known"), pod("keep", "known")];
    for name in &names {
        match name.strip_prefix("known-") {
            Some(_) => documents.push(pod(name, "known")),
            None => documents.extend([policy(name), pod(name, name)]),
        }
    }
    lab.apply(&documents.join("\n---\n"));
    // The first attached pod with the label makes the signature known.
    let _ = attach(lab, "keep")?;
    let (mut known, mut new) = (Series::default(), Series::default());
    for name in &names {
        let series = if name.starts_with("known-") { &mut known } else { &mut new };
        series.add(attach(lab, name)?.0);
    }
    // Not in between: the kernel takes namespaces apart in the background, under the lock that making a link needs.
    for name in names.iter().map(String::as_str).chain(["keep"]) {
        detach(lab, name)?;
    }
    let _ = lab.minipod(&["delete", "networkpolicy", "--all"]).expect_success();
    let pods: Vec<&str> = names.iter().map(String::as_str).chain(["keep"]).collect();
    // No agent confirms the end of a pod on a node that does not exist.
    let deleted = lab.minipod(&[&["delete", "pod", "--force"], pods.as_slice()].concat());
    ensure!(deleted.succeeded(), "{deleted}");
    Ok(vec![figure("attach, known signature", "ms", &known, 3.0), figure("attach, new signature", "ms", &new, 50.0)])
}

/// Lets pods with the label speak to those that it is for.
fn policy(label: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {label}}}, spec: {{podSelector: {{matchLabels: {{bench: {label}}}}}, \
         ingress: [{{from: [{{podSelector: {{matchLabels: {{speaks-to: {label}}}}}}}]}}]}}}}"
    )
}

fn pod(name: &str, label: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{bench: {label}}}}}, spec: {{nodeName: elsewhere, \
         containers: [{{name: a, image: '{HELLO_IMAGE}'}}]}}}}"
    )
}

fn sandbox(name: &str) -> Sandbox {
    Sandbox { container_id: name.to_owned(), ifname: "eth0".to_owned() }
}

fn ask(lab: &Lab, request: Request) -> Result<Response> {
    // The lab's /run is reached through its first process.
    let socket = format!("/proc/{}/root/run/minipod/netd.sock", lab.anchor());
    Ok(netd::ask(Path::new(&socket), request, LIMIT)?)
}

/// Attaches a network namespace of the pod's name, made for it: how long netd took, and the pod's first address.
pub(super) fn attach(lab: &Lab, name: &str) -> Result<(Duration, IpAddr)> {
    let made = lab.shell(&format!("ip netns add {name}"));
    ensure!(made.succeeded(), "{made}");
    let request = Request::Attach(Attach {
        sandbox: sandbox(name),
        netns: format!("/run/netns/{name}").into(),
        pod: Some(PodRef { namespace: "default".to_owned(), name: name.to_owned(), uid: None }),
        labels: BTreeMap::new(),
        addresses: Vec::new(),
        mac: None,
    });
    let start = Instant::now();
    let answer = ask(lab, request)?;
    let took = start.elapsed();
    match answer {
        Response::Attached(attached) => {
            let first = attached.addresses.first().map(|address| address.address);
            Ok((took, first.context("the pod has no address")?))
        }
        other => anyhow::bail!("the attach of `{name}` was answered with {other:?}"),
    }
}

fn detach(lab: &Lab, name: &str) -> Result<()> {
    ask(lab, Request::Detach(sandbox(name)))?;
    let removed = lab.shell(&format!("ip netns delete {name}"));
    ensure!(removed.succeeded(), "{removed}");
    Ok(())
}
