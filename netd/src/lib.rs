//! netd
pub mod consistent;
pub mod options;
pub mod versions;
pub mod watch;
