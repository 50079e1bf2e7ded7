//! What NetworkPolicy, Pod, Namespace, Service and EndpointSlice objects mean for one node. Pure: objects in, [`intent::Intent`] out; no
//! async, no client, no clock, no file system.

pub mod intent;
