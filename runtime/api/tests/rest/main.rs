//! The REST interface, asked in the process as any client asks it.

mod conflicts;
mod harness;
mod kinds;
mod pods;
mod policies;
mod services;
mod watches;
