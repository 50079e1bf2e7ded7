//! The real shim with a fake netd: pods that live and end, their streams, and what they can and cannot do.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod harness;
mod isolation;
mod life;
mod streams;
#[path = "../../src/testing.rs"]
mod testing;
