//! What is asked of netd over `netd.sock`: by the shim, by the CNI plugin, by the command line.
//!
//! One request a connection or many, answered in order. A request carries [`VERSION`]; a netd that does not speak it answers
//! [`Code::IncompatibleVersion`]. The verbs have the meaning of the CNI specification 1.1.0; `docs/cni.md` says what each owes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use serde::{Deserialize, Serialize};

use crate::drops::Dropped;
use crate::judge::{FirstPacket, Judgement, OwnNode, Tracked};
use crate::line::Connection;

/// The version of this protocol. Fields may be added without a new version; a new meaning needs one.
pub const VERSION: u32 = 1;

/// A request with its envelope.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`]
    pub version: u32,
    /// the request
    #[serde(flatten)]
    pub request: Request,
}

/// A question to netd.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// Attach a sandbox; answered by [`Response::Attached`] when its policy is in force.
    Attach(Attach),
    /// Release a sandbox's interface; succeeds when there is nothing left to release.
    Detach(Sandbox),
    /// Whether the attachment is as it was made; changes nothing.
    Check(Check),
    /// Whether an attach would work now.
    Status,
    /// Release everything that is not among these.
    Gc {
        /// attachments to keep
        valid: Vec<Sandbox>,
    },
    /// What netd sees and does, for `minipod node status` and tests; answered by [`Response::Report`].
    Report,
    /// Since when each policy is in force; answered by [`Response::Policies`].
    Policies,
    /// Whether packets would pass, by the policies and by what is installed; answered by [`Response::Judged`].
    Judge {
        /// the packets
        packets: Vec<FirstPacket>,
    },
    /// The last dropped packets; answered by [`Response::Drops`].
    Drops {
        /// and those that come, each with an answer of its own, until the asker closes the connection
        follow: bool,
    },
    /// The connections of this node's pods that the kernel tracks; answered by [`Response::Connections`].
    Connections,
}

/// One interface of one sandbox (pod).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sandbox {
    /// the runtime's name for the sandbox; for pods of ours the pod's UID
    pub container_id: String,
    /// the interface's name inside, `eth0` as a rule
    pub ifname: String,
}

/// The pod that a sandbox belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`, where the caller knows it; an attach for another UID is refused
    pub uid: Option<String>,
}

/// An attach.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attach {
    /// which interface
    #[serde(flatten)]
    pub sandbox: Sandbox,
    /// the network namespace, as a path that netd can open (`/proc/PID/ns/net`, `/run/netns/NAME`)
    pub netns: PathBuf,
    /// the pod in the API; none for a container that no API object describes
    pub pod: Option<PodRef>,
    /// labels of a container without an API object
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// requested addresses (CNI capability `ips`); netd chooses where none are given
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// requested MAC address (CNI capability `mac`) as `aa:bb:cc:dd:ee:ff`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// A check of an earlier attach.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Check {
    /// which interface
    #[serde(flatten)]
    pub sandbox: Sandbox,
    /// the network namespace
    pub netns: PathBuf,
    /// what the attach answered
    pub attached: Attached,
}

/// netd's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// done, with nothing to tell
    Done,
    /// the sandbox has its interface and its policy is in force
    Attached(Attached),
    /// the report; its shape is documented for people, not for programs
    Report {
        /// netd's state
        report: serde_json::Value,
    },
    /// every policy that netd knows
    Policies {
        /// in the order of namespace and name
        policies: Vec<PolicyState>,
    },
    /// what becomes of each packet, in the order of the question
    Judged {
        /// one for each packet
        judgements: Vec<Judgement>,
        /// where the installed rules and sets are not as they should be, for people
        differences: Vec<String>,
    },
    /// dropped packets, in the order in which they came
    Drops {
        /// the packets
        drops: Vec<Dropped>,
        /// so many more were dropped that the asker did not fetch in time
        missed: u64,
    },
    /// connections of this node's pods, without those that are over
    Connections {
        /// by their first packets
        connections: Vec<Tracked>,
        /// how many more there are than an answer can hold
        left_out: usize,
        /// what else is at this node
        node: OwnNode,
    },
    /// refused or failed; nothing is left half-made
    Error(Error),
}

/// A policy on its way into the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyState {
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// the newest `metadata.resourceVersion` that netd has heard of
    pub version: u64,
    /// how long it took from when netd heard of that version until it was in force; none as long as it is not
    pub milliseconds: Option<f64>,
    /// what of it was not understood and allows nothing
    pub problems: Vec<String>,
}

/// A finished attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// the node's end
    pub host_ifname: String,
    /// MAC address of the node's end
    pub host_mac: String,
    /// MAC address of the pod's end
    pub mac: String,
    /// MTU of both ends in bytes
    pub mtu: u32,
    /// the pod's addresses, one per family, IPv4 first
    pub addresses: Vec<Address>,
    /// what belongs into the pod's `resolv.conf`
    pub dns: Dns,
}

/// An address of a pod. It is always a /32 or /128.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// the address
    pub address: IpAddr,
    /// the next hop of the pod's default route
    pub gateway: IpAddr,
}

/// Resolver settings of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// `nameserver` lines
    pub nameservers: Vec<IpAddr>,
    /// the `search` line
    pub search: Vec<String>,
    /// the `options` line
    pub options: Vec<String>,
}

/// Why netd said no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// the kind of failure; the CNI plugin's error code
    pub code: Code,
    /// names the thing, the value and the next step
    pub message: String,
    /// causes, outermost first
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for detail in &self.details {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Error codes; the numbers are those of the CNI specification 1.1.0, 100 and up ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// 1: this netd does not speak the caller's version
    IncompatibleVersion,
    /// 3: the sandbox or its namespace is not there
    UnknownContainer,
    /// 4: something in the request is invalid
    InvalidRequest,
    /// 5: the kernel or a file refused
    Io,
    /// 7: the configuration cannot work
    InvalidConfig,
    /// 11: not now: no free address, pod not yet known, netd not ready
    TryAgainLater,
    /// 50: attaches do not work
    NotAvailable,
    /// 51: attaches do not work and running pods may be impaired
    LimitedConnectivity,
    /// 100: the attachment differs from what CHECK was told
    Differs,
}

impl Code {
    /// The number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnknownContainer => 3,
            Self::InvalidRequest => 4,
            Self::Io => 5,
            Self::InvalidConfig => 7,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::LimitedConnectivity => 51,
            Self::Differs => 100,
        }
    }
}

/// Asks netd one thing and waits for the answer.
///
/// # Errors
/// What the socket says; netd's own refusal is an `Ok(Response::Error(_))`.
pub fn ask(socket: &Path, request: Request, timeout: Duration) -> io::Result<Response> {
    let mut connection = Connection::open(socket, Some(timeout))?;
    connection.send(&Envelope { version: VERSION, request })?;
    connection.receive()
}

#[cfg(test)]
mod tests {
    use super::{Envelope, Request, Sandbox, VERSION};

    #[test]
    fn a_request_is_one_flat_document() {
        let sandbox = Sandbox { container_id: "c1".into(), ifname: "eth0".into() };
        let text =
            serde_json::to_string(&Envelope { version: VERSION, request: Request::Detach(sandbox) }).expect("json");
        assert_eq!(text, r#"{"version":1,"verb":"detach","container_id":"c1","ifname":"eth0"}"#);
        assert!(serde_json::from_str::<Envelope>(&text).is_ok());
    }
}
