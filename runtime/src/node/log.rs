//! The daemon's log: lines on standard error, which `node start` sends to a file.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`--log {filter}`: not a log filter; give a level, or targets with levels, e.g. `info` or `warn,netd=debug`")]
pub struct LogError {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Logs from now on. A log that a caller has set up before stays.
pub(super) fn start(filter: &str) -> Result<(), LogError> {
    let parsed = EnvFilter::builder().parse(filter).map_err(|source| LogError { filter: filter.to_owned(), source })?;
    let _ = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
    Ok(())
}
