//! Where the programs under test are: beside this test's own binary, where `scripts/build` puts them.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The directory that holds `minipod`, `minipod-shim`, `netd`, `minipod-hello` and `minipod-cni`.
///
/// # Errors
/// When they have not been built.
pub fn directory() -> Result<PathBuf> {
    let test = std::env::current_exe().context("the test binary's own path")?;
    // Tests are in target/debug/deps, programs in target/debug.
    let mut directory = test.parent().context("the binary lies in no folder")?.to_owned();
    if directory.ends_with("deps") {
        directory.pop();
    }
    for name in ["minipod", "minipod-shim", "minipod-hello"] {
        let path = directory.join(name);
        ensure!(path.exists(), "{} is missing: run ./scripts/build first", path.display());
    }
    Ok(directory)
}
