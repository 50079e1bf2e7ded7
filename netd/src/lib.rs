//! netd
pub mod command;
pub mod consistent;
pub mod options;
pub mod socket;
pub mod versions;
pub mod watch;
