//! From the command to the first instruction of the containers' processes, which print the time.
//!
//! Both sides run the same static program, and both are read off what it printed: nothing is asked of a daemon while it starts
//! something, and neither side's commands have to return for the clock to stop.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::figure::{Figure, Goal, Peer};
use super::pod::{LIMIT, delete, figure};
use super::podman::{IMAGE, Podman};
use super::timing::Series;
use crate::fixture::HELLO_IMAGE;
use crate::lab::Lab;
use crate::programs;
use crate::wait::until;

/// A pod of one container.
pub(super) fn first_process(lab: &Lab, rounds: usize) -> Result<Figure> {
    let mut series = Series::default();
    for round in 0..rounds {
        let name = format!("first-{round}");
        let begin = now()?;
        let run = ["run", &name, "--image", HELLO_IMAGE, "--restart=Never", "--", "now", "infinity"];
        let _ = lab.minipod(&run).expect_success();
        series.add(last_start(lab, 1, begin)?.saturating_sub(begin));
        delete(lab, &[&name])?;
    }
    Ok(figure("command to first process", "ms", &series, 60.0))
}

/// A pod of two containers, until both run.
pub(super) fn two_containers(lab: &Lab, rounds: usize) -> Result<Figure> {
    let (mut ours, mut peers) = (Series::default(), Series::default());
    let root = lab.directory().join("bench-root");
    fs::create_dir_all(root.join("bin"))?;
    fs::copy(programs::directory()?.join("minipod-hello"), root.join("bin/now"))?;
    let podman = Podman::new(lab, &root)?;
    // One round that is not counted: podman builds its pause image in it.
    for round in 0..=rounds {
        let name = format!("two-{round}");
        let our_time = our_pod(lab, &name)?;
        let peer_time = peer_pod(&podman, &name)?;
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

fn our_pod(lab: &Lab, name: &str) -> Result<Duration> {
    let container = |name| format!("{{name: {name}, image: '{HELLO_IMAGE}', command: [now, infinity]}}");
    let yaml = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{}, {}]}}}}",
        container("a"),
        container("b")
    );
    let begin = now()?;
    lab.apply(&yaml);
    let end = last_start(lab, 2, begin)?;
    delete(lab, &[name])?;
    Ok(end.saturating_sub(begin))
}

fn peer_pod(podman: &Podman<'_>, name: &str) -> Result<Duration> {
    let containers = [format!("{name}-a"), format!("{name}-b")];
    let begin = now()?;
    podman.run(&["pod", "create", "--name", name])?;
    for container in &containers {
        podman.run(&["run", "-d", "--pod", name, "--name", container, IMAGE, "/bin/now", "infinity"])?;
    }
    let mut end = begin;
    for container in &containers {
        let printed = podman.run(&["logs", container])?;
        end = end.max(parse(&printed).with_context(|| format!("`{container}` printed `{printed}`"))?);
    }
    podman.run(&["pod", "rm", "--force", "--time", "0", name])?;
    Ok(end.saturating_sub(begin))
}

/// When the last of so many containers began that began after `begin`, as the files of their logs say.
fn last_start(lab: &Lab, containers: usize, begin: Duration) -> Result<Duration> {
    let logs = lab.directory().join("state/logs");
    until("the containers' times", LIMIT, || {
        let times: Vec<Duration> = printed_times(&logs).into_iter().filter(|time| *time >= begin).collect();
        times.iter().copied().max().filter(|_| times.len() == containers)
    })
}

/// The times in all logs below a directory. A log that vanishes meanwhile is another pod's.
fn printed_times(directory: &Path) -> Vec<Duration> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let times = entries.flat_map(|path| {
        if path.is_dir() {
            return printed_times(&path);
        }
        // `TIME STREAM TAG TEXT`, a line
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.lines().filter_map(|line| parse(line.splitn(4, ' ').nth(3)?)).collect()
    });
    times.collect()
}

fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

fn parse(printed: &str) -> Option<Duration> {
    printed.trim().parse().ok().map(Duration::from_nanos)
}
