//! How much memory a process has to itself.

use anyhow::{Context, Result};

use crate::lab::Lab;

/// Proportional set size of a process of the lab in MB: what it has alone, and its share of what it has with others.
///
/// # Errors
/// When the process is not there.
pub fn pss_megabytes(lab: &Lab, pid: &str) -> Result<f64> {
    let rollup = lab.shell(&format!("cat /proc/{pid}/smaps_rollup")).expect_success();
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).context("no Pss line")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kilobytes / 1024.0)
}
