//! What a change costs netd, from when its batch begins to when it is in force.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use minipod_protocol::netd::{self, Request, Response};
use serde_json::{Value, json};

use super::cluster::{delete_policy, label, local_pod, policies, policy, remote_pods};
use super::latency;
use crate::bench::figure::Figure;
use crate::bench::memory;
use crate::bench::pod::figure;
use crate::bench::timing::Series;
use crate::lab::{Iptables, Lab};
use crate::wait::until;

const LIMIT: Duration = Duration::from_secs(60);
/// Pods of the cluster.
const REMOTE: usize = 10_000;
/// Pods of the node.
const LOCAL: usize = 100;
/// Labels by which the large sets select; each pod has half of them.
const LARGE: usize = 10;

/// All figures of this kind.
pub(super) fn measure(rounds: usize) -> Result<Vec<Figure>> {
    let lab = Lab::started("policies", Iptables::Nft)?;
    remote_pods(&lab, REMOTE, labels);
    let mut addresses = Vec::new();
    for number in 0..LOCAL {
        addresses.push(local_pod(&lab, &format!("local-{number}"), &json!({"app": format!("l{number}")}))?);
    }
    policies(
        &lab,
        "large",
        0..LARGE,
        |number| json!({"podSelector": {"matchLabels": {"subject": "large"}}, "ingress": [{"from": [peer(&format!("in-{number}"), "yes")]}]}),
    );
    label(&lab, "local-0", &json!({"subject": "large"}));
    let mut figures = vec![join(&lab, rounds)?];
    let mut structural = Vec::new();
    let mut there = LARGE;
    for wanted in [1000, 10_000] {
        policies(&lab, "some", there..wanted, some_policy);
        there = wanted;
        settle(&lab)?;
        structural.push(change_structure(&lab, rounds)?);
        if wanted == 1000 {
            figures.extend(latency::measure(&lab, ("local-50", "l50"), ("local-60", "l60"), addresses[60], rounds)?);
            figures.extend(cold_start(&lab)?);
        }
    }
    for (series, wanted) in structural.iter().zip([1000, 10_000]) {
        figures.push(figure(&format!("one new policy among {wanted}, in netd"), "ms", series, 40.0));
    }
    let mut growth = Series::default();
    growth.add_value(structural[1].median() / structural[0].median());
    figures.push(figure("one new policy: 10,000 / 1,000 policies", "x", &growth, 1.5));
    Ok(figures)
}

/// Half of the large sets hold the pod; `peer` is one of a hundred.
fn labels(number: usize) -> Value {
    let mut labels = json!({"peer": format!("p{}", number % 100)});
    for set in (0..LARGE).filter(|set| (number + set).is_multiple_of(2)) {
        labels[format!("in-{set}")] = json!("yes");
    }
    labels
}

fn peer(key: &str, value: &str) -> Value {
    json!({"podSelector": {"matchLabels": {key: value}}})
}

/// Policies that share the local pods among them, ten ports and a hundred peers.
fn some_policy(number: usize) -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": format!("l{}", number % LOCAL)}},
        "ingress": [{
            "from": [peer("peer", &format!("p{}", number / LOCAL))],
            "ports": [{"port": 8000 + number % 10}],
        }],
    })
}

/// One pod that joins five large sets and the policies of others, then leaves them again.
fn join(lab: &Lab, rounds: usize) -> Result<Figure> {
    let joined = |value: Value| {
        let mut labels = json!({"subject": if value.is_null() { Value::Null } else { json!("large") }});
        for set in 0..LARGE / 2 {
            labels[format!("in-{set}")] = value.clone();
        }
        labels
    };
    settle(lab)?;
    let mut series = Series::default();
    for _ in 0..rounds {
        for value in [json!("yes"), Value::Null] {
            series.add_value(after(lab, || label(lab, "local-1", &joined(value)))?);
        }
    }
    Ok(figure("one pod joins or leaves policies, 100,000 members, in netd", "ms", &series, 1.0))
}

fn change_structure(lab: &Lab, rounds: usize) -> Result<Series> {
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "l7"}},
        "ingress": [{"from": [peer("peer", "p77")], "ports": [{"port": 9999}]}],
    });
    let mut series = Series::default();
    for _ in 0..rounds {
        series.add_value(after(lab, || policy(lab, "one-more", &spec))?);
        series.add_value(after(lab, || delete_policy(lab, "one-more"))?);
    }
    Ok(series)
}

/// As after a boot: no rules, no sets; the cluster is in the store, the sandboxes are there.
fn cold_start(lab: &Lab) -> Result<Vec<Figure>> {
    let stopped = lab.minipod(&["node", "stop"]);
    anyhow::ensure!(stopped.succeeded(), "{stopped}");
    let flush = "for program in iptables ip6tables; do for table in raw mangle nat filter security; do \
                 $program-nft -t $table -F; $program-nft -t $table -X; done; done; ipset flush; ipset destroy";
    let _ = lab.shell(flush).expect_success();
    let begin = Instant::now();
    lab.start_node()?;
    until("rules in force", LIMIT, || report(lab).ok().filter(|report| report["changes"]["count"].as_u64() > Some(0)))?;
    let (mut time, mut memory) = (Series::default(), Series::default());
    time.add_value(begin.elapsed().as_secs_f64());
    settle(lab)?;
    memory.add_value(memory::of_node(lab)?);
    Ok(vec![
        figure("cold start, 10,000 pods, 1,000 policies, 100 pods here", "s", &time, 2.0),
        figure("the whole of `minipod node` then, PSS", "MB", &memory, 120.0),
    ])
}

/// What netd says that a change took.
fn after(lab: &Lab, change: impl FnOnce()) -> Result<f64> {
    let before = changes(lab)?.0;
    change();
    let took = until("netd to carry out a change", LIMIT, || {
        changes(lab).ok().filter(|(count, _)| *count > before).map(|(_, took)| took)
    })?;
    Ok(took)
}

/// Waits until netd has nothing more to do.
fn settle(lab: &Lab) -> Result<()> {
    let mut last = (0, Instant::now());
    until("netd to settle", LIMIT, || {
        let count = changes(lab).ok()?.0;
        if count != last.0 {
            last = (count, Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(1)).then_some(())
    })
}

fn changes(lab: &Lab) -> Result<(u64, f64)> {
    let report = report(lab)?;
    let changes = &report["changes"];
    let count = changes["count"].as_u64().context("no count of changes")?;
    Ok((count, changes["lastMilliseconds"].as_f64().unwrap_or(0.0)))
}

fn report(lab: &Lab) -> Result<Value> {
    let socket = format!("/proc/{}/root/run/minipod/netd.sock", lab.anchor());
    match netd::ask(Path::new(&socket), Request::Report, LIMIT)? {
        Response::Report { report } => Ok(report),
        other => bail!("netd answers a request for its report with {other:?}"),
    }
}
