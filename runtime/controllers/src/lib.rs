//! The reconcilers of a standalone node: endpoints of services, placement of pods, the end of namespaces and of pods
//! whose node is gone, old events.
//!
//! Decisions are pure functions over what the watches show ([`endpoints`], [`placement`], [`orphans`]); every write that follows is
//! conditional and idempotent, so that a stale view loses to the API server and is decided again. Nothing is written before
//! every kind has been listed once.

mod endpoints;
mod events;
mod facts;
mod namespaces;
mod orphans;
mod placement;
mod runner;
mod table;
mod world;

pub use runner::run;
