//! What is wanted of the kernel, how it is spelled, what changes do on the way, and the kernel's own verdict on it.

mod contract;
mod cost;
mod oracle;
mod packets;
mod random;
mod sample;
mod sequences;
mod text;
mod verdicts;
mod vxlan;
