//! The two local protocols: what is said to netd ([`netd`]) and what is said to a pod's shim ([`shim`]).
//!
//! Both run over unix sockets that only root may open. A request and its answer are one JSON document a line ([`line`]);
//! a shim's terminal and exec streams continue on the same connection as binary frames ([`frame`]). Blocking and without
//! tokio, because the CNI plugin and the shim are small single-threaded programs; the daemon reads the same bytes with tokio.

pub mod drops;
pub mod frame;
pub mod judge;
pub mod line;
pub mod netd;
pub mod queue;
pub mod shim;
