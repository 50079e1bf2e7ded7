//! Packets that were dropped, and why: what `minipod drops` asks netd.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A dropped packet. Of many packets only some are told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// when netd heard of it (RFC 3339)
    pub time: String,
    /// why
    pub reason: Reason,
    /// who sent it, as it says itself
    pub source: End,
    /// to whom: after service translation, a pod's address
    pub destination: End,
    /// `TCP`, `UDP`, `SCTP`, `ICMP`, or the protocol's number
    pub protocol: String,
    /// `NAMESPACE/NAME` of the pod whose policies denied it, or that sent it under another address
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// the policies that isolated that pod in this direction when netd heard of it, as `NAMESPACE/NAME`
    pub policies: Vec<String>,
}

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// the policies of the pod that sent it do not let it out
    Egress,
    /// the policies of the pod that it was for do not let it in
    Ingress,
    /// its connection was allowed once and is not any more
    Cut,
    /// its source was not the address of the pod that sent it
    Spoofed,
}

/// One end of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// the address
    pub address: IpAddr,
    /// of a protocol that has ports
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `NAMESPACE/NAME` of the pod that has the address
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

impl Reason {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
            Self::Cut => "cut",
            Self::Spoofed => "spoofed",
        }
    }
}
