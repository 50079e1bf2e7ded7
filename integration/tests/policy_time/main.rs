//! Policy in time: what a change forbids stops, what it does not forbid goes on.

mod api;
mod first_packet;
mod reject;
mod revocation;
