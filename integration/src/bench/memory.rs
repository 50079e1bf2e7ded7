//! How much memory a process has to itself.

use anyhow::{Context, Result, ensure};

use super::figure::Figure;
use super::pod::figure;
use super::timing::Series;
use crate::lab::Lab;

/// The daemon with one pod and nothing to do, and that pod's shim. A lone shim bears all of the program's file pages; where there
/// are more of them each has its share.
pub(super) fn measure(lab: &Lab, rounds: usize) -> Result<Vec<Figure>> {
    let (mut node, mut shim) = (Series::default(), Series::default());
    let (daemon, pod) = (oldest(lab, "minipod")?, oldest(lab, "minipod-shim")?);
    for _ in 0..rounds {
        node.add_value(pss_megabytes(lab, &daemon)?);
        shim.add_value(pss_megabytes(lab, &pod)?);
    }
    Ok(vec![figure("minipod node idle, PSS", "MB", &node, 40.0), figure("lone shim, PSS", "MB", &shim, 4.0)])
}

/// The daemon as it is now.
pub(super) fn of_node(lab: &Lab) -> Result<f64> {
    pss_megabytes(lab, &oldest(lab, "minipod")?)
}

fn oldest(lab: &Lab, program: &str) -> Result<String> {
    let found = lab.shell(&format!("pgrep --oldest --exact {program}"));
    ensure!(found.succeeded(), "{found}");
    Ok(found.stdout.trim().to_owned())
}

/// Proportional set size of a process of the lab in MB: what it has alone, and its share of what it has with others.
fn pss_megabytes(lab: &Lab, pid: &str) -> Result<f64> {
    let rollup = lab.shell(&format!("cat /proc/{pid}/smaps_rollup")).expect_success();
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).context("no Pss line")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kilobytes / 1024.0)
}
