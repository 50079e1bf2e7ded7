//! The daemon's log: lines on standard error, which `node start` sends to a file.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The DNS server logs two lines for each query: any pod could fill the disk with them.
const QUIET: &str = "hickory_server=warn";

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
    let _ = tracing_subscriber::fmt()
        .with_env_filter(parse(filter)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
    Ok(())
}

/// What the filter means. A library that tells every request tells only what is wrong, unless the filter names it.
fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let read = |text: &str| EnvFilter::builder().parse(text);
    let wrong = |source| LogError { filter: filter.to_owned(), source };
    let asked = read(filter).map_err(wrong)?;
    if asked.max_level_hint() < Some(LevelFilter::WARN) {
        return Ok(asked);
    }
    // Of two directives for one target the later holds.
    read(&format!("{QUIET},{filter}")).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_every_dns_query_says_is_logged_only_where_it_is_asked_for() {
        let meaning = |filter: &str| parse(filter).expect("a filter").to_string();
        assert!(meaning("info").contains("hickory_server=warn"));
        assert!(meaning("debug,netd=trace").contains("hickory_server=warn"));
        assert!(!meaning("error").contains("hickory_server"), "less was asked for");
        let named = meaning("info,hickory_server=debug");
        assert!(named.contains("hickory_server=debug") && !named.contains("hickory_server=warn"), "{named}");
        assert!(parse("a=b=c").is_err());
    }
}
