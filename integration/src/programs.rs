//! Where the programs under test are: beside this test's own binary, where `scripts/build` puts them.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The directory that holds `minipod`, `minipod-shim`, `netd`, `minipod-hello` and `minipod-cni`.
///
/// # Errors
/// When they have not been built.
pub fn directory() -> Result<PathBuf> {
    let test = std::env::current_exe().context("the test binary's own path")?;
    // target/debug/deps/NAME -> target/debug
    let directory = test.ancestors().nth(2).context("the test binary lies in no target folder")?.to_owned();
    for name in ["minipod", "minipod-shim", "minipod-hello"] {
        let path = directory.join(name);
        ensure!(path.exists(), "{} is missing: run ./scripts/build first", path.display());
    }
    Ok(directory)
}
