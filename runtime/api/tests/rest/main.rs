//! The REST interface, asked in the process as any client asks it.

#![expect(clippy::needless_pass_by_value, reason = "bodies are written where they are used")]

mod conflicts;
mod harness;
mod kinds;
mod pods;
mod policies;
mod services;
mod watches;
