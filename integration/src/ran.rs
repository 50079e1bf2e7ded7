//! A command that has ended.

use std::fmt;
use std::process::{Command, Output};

use anyhow::{Context, Result};

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// the command line, for messages
    pub line: String,
    /// exit code; `None` when a signal ended it
    pub code: Option<i32>,
    /// standard output
    pub stdout: String,
    /// standard error
    pub stderr: String,
}

impl Ran {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(command: &mut Command) -> Result<Self> {
        let line = format!("{command:?}");
        let Output { status, stdout, stderr } = command.output().with_context(|| format!("cannot start {line}"))?;
        Ok(Self {
            line,
            code: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    /// Whether it ended with exit code 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output, if it succeeded.
    ///
    /// # Panics
    /// With everything it said, if it did not.
    #[track_caller]
    #[must_use]
    pub fn expect_success(self) -> String {
        assert!(self.succeeded(), "should have succeeded:\n{self}");
        self.stdout
    }

    /// Its standard error, if it failed.
    ///
    /// # Panics
    /// With everything it said, if it succeeded.
    #[track_caller]
    #[must_use]
    pub fn expect_failure(self) -> String {
        assert!(!self.succeeded(), "should have failed:\n{self}");
        self.stderr
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ {}", self.line)?;
        writeln!(f, "exit code {:?}", self.code)?;
        writeln!(f, "--- stdout\n{}", self.stdout)?;
        writeln!(f, "--- stderr\n{}", self.stderr)
    }
}
