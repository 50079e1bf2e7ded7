//! The `minipod` program. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    minipod::cli::main()
}
