//! What objects mean, tested on whole values: `docs/semantics.md` row by row and ruling by ruling, and the compiler against the
//! reference evaluator.

mod matrix;
mod narrowing;
mod oracle;
mod reading;
mod rulings;
mod sequences;
mod services;
mod support;
