//! Why the node's own network could not be made ready or put back.

use std::io;
use std::path::PathBuf;

use ipnet::IpNet;
use minipod_kernel::netlink::{NetlinkError, RtnlError};
use minipod_kernel::sysctl::SysctlError;
use minipod_model::IpFamily;
use minipod_protocol::netd::{Code, Error};

use crate::routes::Overlap;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum HostNetError {
    /// A range collides with a route.
    #[error(transparent)]
    Overlap(#[from] Overlap),
    /// A range of a family that this host does not have, and no other.
    #[error("this host has no {family}, and `{range}` is the only pod range of this node; add one of the other family")]
    NoFamily {
        /// the family
        family: IpFamily,
        /// the range
        range: IpNet,
    },
    /// No netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A listing failed.
    #[error("cannot read the node's links and routes")]
    List(#[source] RtnlError),
    /// A change was refused.
    #[error("cannot {what}")]
    Change {
        /// what was to be done
        what: &'static str,
        /// why
        #[source]
        source: RtnlError,
    },
    /// A kernel without the kind of link that services need.
    #[error(
        "this kernel has no bridges, and the interface `{link}`, to which the routes of services lead, is one; load the kernel module bridge"
    )]
    NoBridge {
        /// its name
        link: &'static str,
    },
    /// A link that somebody deleted as soon as it was made.
    #[error("interface `{link}` is gone again as soon as it was made; is there a program that deletes it?")]
    Vanished {
        /// its name
        link: &'static str,
    },
    /// A device whose packets would be dropped by others.
    #[error("cannot have `{link}` compute checksums itself, which this kernel (before 5.7) needs")]
    Checksums {
        /// its name
        link: &'static str,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
    /// A setting.
    #[error("cannot prepare the node for forwarding")]
    Setting(#[from] SysctlError),
    /// A file.
    #[error("cannot {verb} `{path}`")]
    File {
        /// read, write, remove
        verb: &'static str,
        /// which
        path: PathBuf,
        /// why
        #[source]
        source: io::Error,
    },
}

impl From<HostNetError> for Error {
    fn from(error: HostNetError) -> Self {
        let code = match &error {
            HostNetError::Overlap(_) | HostNetError::NoFamily { .. } => Code::InvalidConfig,
            _ => Code::Io,
        };
        let mut details = Vec::new();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            details.push(source.to_string());
            cause = source.source();
        }
        Self { code, message: error.to_string(), details }
    }
}
