//! `scripts/bench pod`: how long a pod takes, and how much memory it costs.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use minipod_protocol::netd::{self, Attach, Request, Response, Sandbox};

use super::figure::{Figure, Goal, Peer};
use super::memory::pss_megabytes;
use super::podman::{IMAGE, Podman};
use super::timing::Series;
use crate::fixture::HELLO_IMAGE;
use crate::lab::{Iptables, Lab};
use crate::programs;
use crate::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Measures everything, `rounds` times each.
///
/// # Errors
/// When something that is measured does not work.
pub fn measure(rounds: usize) -> Result<Vec<Figure>> {
    let lab = Lab::started("bench", Iptables::Nft)?;
    // The first pod of a node unpacks the image: the node is warm after it.
    lab.pod("warm", "app=warm");
    let mut figures = memory(&lab)?;
    figures.push(first_process(&lab, rounds)?);
    figures.push(two_containers(&lab, rounds)?);
    figures.extend(attach(&lab, rounds)?);
    figures.push(hundred_pods(&lab)?);
    Ok(figures)
}

/// From the command to the first instruction of the container's process, which prints the time.
fn first_process(lab: &Lab, rounds: usize) -> Result<Figure> {
    let mut series = Series::default();
    for round in 0..rounds {
        let name = format!("first-{round}");
        let begin = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let run = ["run", &name, "--image", HELLO_IMAGE, "--restart=Never", "--", "now"];
        let _ = lab.minipod(&run).expect_success();
        let printed =
            until("the container's time", LIMIT, || lab.minipod(&["logs", &name]).stdout.trim().parse::<u64>().ok())?;
        series.add(Duration::from_nanos(printed).saturating_sub(begin));
        delete(lab, &[&name])?;
    }
    Ok(Figure {
        name: "command to first process".into(),
        unit: "ms",
        ours: series.median(),
        spread: series.spread(),
        peer: None,
        goal: Goal::AtMost(60.0),
    })
}

/// A pod of two containers, from the command until both run.
fn two_containers(lab: &Lab, rounds: usize) -> Result<Figure> {
    let (mut ours, mut peers) = (Series::default(), Series::default());
    let root = lab.directory().join("bench-root");
    std::fs::create_dir_all(root.join("bin"))?;
    std::fs::copy(programs::directory()?.join("minipod-hello"), root.join("bin/sleep"))?;
    let podman = Podman::new(lab, &root)?;
    // One round that is not counted: podman builds its pause image in it.
    for round in 0..=rounds {
        let name = format!("two-{round}");
        let yaml = two_container_pod(&name);
        let start = Instant::now();
        lab.apply(&yaml);
        until("both containers", LIMIT, || {
            let path = "jsonpath={.status.containerStatuses[*].state.running.startedAt}";
            (lab.minipod(&["get", "pod", &name, "-o", path]).stdout.split_whitespace().count() == 2).then_some(())
        })?;
        let our_time = start.elapsed();
        let start = Instant::now();
        podman.run(&["pod", "create", "--name", &name])?;
        for _ in 0..2 {
            podman.run(&["run", "-d", "--pod", &name, IMAGE, "/bin/sleep", "1000000"])?;
        }
        let peer_time = start.elapsed();
        podman.run(&["pod", "rm", "--force", "--time", "0", &name])?;
        delete(lab, &[&name])?;
        if round > 0 {
            ours.add(our_time);
            peers.add(peer_time);
        }
    }
    Ok(Figure {
        name: "pod of two containers".into(),
        unit: "ms",
        ours: ours.median(),
        spread: ours.spread(),
        peer: Some(Peer { name: "podman pod create, 2 x run".into(), value: peers.median() }),
        goal: Goal::TimesFaster(8.0),
    })
}

fn two_container_pod(name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [\
         {{name: a, image: '{HELLO_IMAGE}', command: [sleep, '1000000']}}, {{name: b, image: '{HELLO_IMAGE}', command: [sleep, '1000000']}}]}}}}"
    )
}

/// netd's answer to an attach: for a pod whose rules others have too, and for one that needs rules of its own.
fn attach(lab: &Lab, rounds: usize) -> Result<Vec<Figure>> {
    lab.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: known}, spec: {podSelector: {matchLabels: {bench: known}}, ingress: [{from: [{podSelector: {}}]}]}}",
    );
    for round in 0..rounds {
        lab.apply(&format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: new-{round}}}, spec: {{podSelector: {{matchLabels: {{bench: new-{round}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{a: b{round}}}}}}}]}}]}}}}"
        ));
    }
    let (mut known, mut new) = (Series::default(), Series::default());
    // The first pod with the label makes the signature known.
    one_attach(lab, "keep", "known")?;
    for round in 0..rounds {
        let id = format!("known-{round}");
        known.add(one_attach(lab, &id, "known")?);
        detach(lab, &id)?;
        let id = format!("new-{round}");
        new.add(one_attach(lab, &id, &id)?);
        detach(lab, &id)?;
    }
    detach(lab, "keep")?;
    let _ = lab.minipod(&["delete", "networkpolicy", "--all"]).expect_success();
    let figure = |name: &str, series: &Series, limit| Figure {
        name: name.into(),
        unit: "ms",
        ours: series.median(),
        spread: series.spread(),
        peer: None,
        goal: Goal::AtMost(limit),
    };
    Ok(vec![figure("attach, known signature", &known, 3.0), figure("attach, new signature", &new, 50.0)])
}

fn sandbox(id: &str) -> Sandbox {
    Sandbox { container_id: id.to_owned(), ifname: "eth0".to_owned() }
}

fn ask(lab: &Lab, request: Request) -> Result<Response> {
    // The lab's /run is reached through its first process.
    let socket = format!("/proc/{}/root/run/minipod/netd.sock", lab.anchor());
    Ok(netd::ask(Path::new(&socket), request, LIMIT)?)
}

fn one_attach(lab: &Lab, id: &str, label: &str) -> Result<Duration> {
    let made = lab.shell(&format!("ip netns add {id}"));
    ensure!(made.succeeded(), "{made}");
    let request = Request::Attach(Attach {
        sandbox: sandbox(id),
        netns: format!("/run/netns/{id}").into(),
        pod: None,
        labels: [("bench".to_owned(), label.to_owned())].into(),
        addresses: Vec::new(),
        mac: None,
    });
    let start = Instant::now();
    match ask(lab, request)? {
        Response::Attached(_) => Ok(start.elapsed()),
        other => anyhow::bail!("the attach was answered with {other:?}"),
    }
}

fn detach(lab: &Lab, id: &str) -> Result<()> {
    ask(lab, Request::Detach(sandbox(id)))?;
    let removed = lab.shell(&format!("ip netns delete {id}"));
    ensure!(removed.succeeded(), "{removed}");
    Ok(())
}

/// A hundred pods created at once, until all of them run.
fn hundred_pods(lab: &Lab) -> Result<Figure> {
    let names: Vec<String> = (0..100).map(|n| format!("many-{n}")).collect();
    let documents: Vec<String> = names
        .iter()
        .map(|name| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: many}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: a, image: '{HELLO_IMAGE}', command: [sleep, '1000000']}}]}}}}"
            )
        })
        .collect();
    let start = Instant::now();
    lab.apply(&documents.join("\n---\n"));
    until("a hundred running pods", LIMIT, || {
        let path = "jsonpath={.items[*].status.phase}";
        let phases = lab.minipod(&["get", "pods", "-l", "app=many", "-o", path]).stdout;
        (phases.split_whitespace().filter(|phase| *phase == "Running").count() == 100).then_some(())
    })?;
    let time = start.elapsed().as_secs_f64();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    delete(lab, &names)?;
    Ok(Figure {
        name: "100 pods at once, all running".into(),
        unit: "s",
        ours: time,
        spread: (time, time),
        peer: None,
        goal: Goal::AtMost(8.0),
    })
}

fn memory(lab: &Lab) -> Result<Vec<Figure>> {
    let pid = |pattern: &str| -> Result<String> {
        let found = lab.shell(&format!("pgrep -o {pattern}"));
        ensure!(found.succeeded(), "{found}");
        Ok(found.stdout.trim().to_owned())
    };
    let figure = |name: &str, value: f64, limit| Figure {
        name: name.into(),
        unit: "MB",
        ours: value,
        spread: (value, value),
        peer: None,
        goal: Goal::AtMost(limit),
    };
    let node = pss_megabytes(lab, &pid("-x minipod")?)?;
    let shim = pss_megabytes(lab, &pid("-x minipod-shim")?)?;
    Ok(vec![figure("minipod node idle, PSS", node, 40.0), figure("shim, PSS", shim, 4.0)])
}

fn delete(lab: &Lab, names: &[&str]) -> Result<()> {
    let deleted = lab.minipod(&[&["delete", "pod", "--grace-period=0"], names].concat());
    ensure!(deleted.succeeded(), "{deleted}");
    until("the pods to be gone", LIMIT, || {
        let left = lab.minipod(&["get", "pods", "-o", "name"]).stdout;
        (!names.iter().any(|name| left.lines().any(|line| line == format!("pod/{name}")))).then_some(())
    })
    .context("deleted pods stay")
}
