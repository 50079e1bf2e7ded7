//! The options that commands with a session share.

use super::super::args::switch;

/// Which of the person's streams a session gets.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Streams {
    /// Pass standard input to the process
    #[arg(short = 'i', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    pub(crate) stdin: bool,

    /// Give the process a terminal, joined to this one
    #[arg(short = 't', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false",
          default_missing_value = "true", value_parser = switch)]
    pub(crate) tty: bool,

    /// Say nothing but what the process says
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// The container that a session is with.
#[derive(Debug, clap::Args)]
pub(crate) struct Container {
    /// The pod: `web` or `pod/web`
    #[arg(value_name = "POD")]
    pub(crate) pod: String,

    /// The container [default: the first]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
}
