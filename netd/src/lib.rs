//! netd
pub mod attach;
pub mod command;
pub mod consistent;
pub mod dns;
pub mod hostnet;
pub mod ipam;
pub mod links;
pub mod options;
pub mod routes;
pub mod socket;
pub mod versions;
pub mod watch;
