//! Pods of two nodes reach each other: directly on one segment, by VXLAN through a router; and nobody else gets in by that.

mod checksums;
mod forgery;
mod packet;
mod pods;
mod repair;
mod site;
mod wire;
