//! Why an attachment could not be made, checked or released.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use minipod_kernel::netlink::{NetlinkError, ParseMacError, RtnlError};
use minipod_kernel::netns::NetNsError;
use minipod_kernel::sysctl::SysctlError;
use minipod_model::LinkName;
use minipod_protocol::netd::{Code, Error};

use crate::ipam::IpamError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No address.
    #[error(transparent)]
    Address(#[from] IpamError),
    /// The namespace.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// The caller's namespace is the node's.
    #[error("`{0}` is the node's own network namespace; a pod with `hostNetwork` is not attached")]
    NodeNamespace(PathBuf),
    /// Attached already.
    #[error("sandbox `{container_id}` has interface `{ifname}` already (`{link}` on the node); release it first")]
    Exists {
        /// the sandbox
        container_id: String,
        /// the interface inside
        ifname: String,
        /// the interface on the node
        link: LinkName,
    },
    /// The kernel says that one of the two names is taken.
    #[error("interface `{ifname}` exists already in `{netns}`, or `{link}` on the node; release it first")]
    InterfaceExists {
        /// the interface inside
        ifname: String,
        /// the namespace
        netns: PathBuf,
        /// the interface on the node
        link: LinkName,
    },
    /// The interface's name.
    #[error("`{0}` cannot name an interface: 1 to 15 bytes without blanks and slashes are allowed, and not `lo`")]
    InterfaceName(String),
    /// The MAC address.
    #[error(transparent)]
    Mac(#[from] ParseMacError),
    /// A MAC address that no station can have.
    #[error("requested MAC address `{0}` is a group address or all zero; ask for another, or for none")]
    GroupMac(String),
    /// The link vanished between making and using it.
    #[error("interface `{0}` vanished while it was set up; was the sandbox removed?")]
    Vanished(String),
    /// The kernel did not finish.
    #[error("{what} of `{link}` does not work after one second; is the kernel overloaded? Try again")]
    NotSettled {
        /// the link or address
        what: String,
        /// the interface on the node
        link: LinkName,
    },
    /// The kernel.
    #[error("cannot set up interface `{link}`")]
    Kernel {
        /// the interface on the node
        link: LinkName,
        /// why
        #[source]
        source: RtnlError,
    },
    /// A setting of the kernel.
    #[error("cannot set up interface `{link}`")]
    Setting {
        /// the interface on the node
        link: LinkName,
        /// why
        #[source]
        source: SysctlError,
    },
    /// Netlink does not work.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A listing failed.
    #[error("cannot read the node's interfaces")]
    List(#[source] RtnlError),
    /// The record.
    #[error("cannot {verb} attachment record `{path}`")]
    Record {
        /// read, write, remove
        verb: &'static str,
        /// the file
        path: PathBuf,
        /// why
        #[source]
        source: io::Error,
    },
    /// Nothing attached.
    #[error("sandbox `{container_id}` has no interface `{ifname}`")]
    Unknown {
        /// the sandbox
        container_id: String,
        /// the interface inside
        ifname: String,
    },
    /// A check found a difference.
    #[error("{what} is `{found}`, `{expected}` was attached")]
    Differs {
        /// what differs
        what: String,
        /// as it is
        found: String,
        /// as it was made
        expected: String,
    },
}

impl AttachError {
    /// The protocol's code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Address(error) if error.is_temporary() => Code::TryAgainLater,
            Self::NotSettled { .. } => Code::TryAgainLater,
            Self::Address(IpamError::NoRange | IpamError::TwoRanges(..) | IpamError::TooSmall(_)) => {
                Code::InvalidConfig
            }
            Self::Namespace(NetNsError::Gone(_)) | Self::Unknown { .. } | Self::Vanished(_) => Code::UnknownContainer,
            Self::Address(_)
            | Self::Namespace(NetNsError::NotANamespace(_))
            | Self::NodeNamespace(_)
            | Self::Exists { .. }
            | Self::InterfaceExists { .. }
            | Self::InterfaceName(_)
            | Self::Mac(_)
            | Self::GroupMac(_) => Code::InvalidRequest,
            Self::Differs { .. } => Code::Differs,
            _ => Code::Io,
        }
    }

    pub(super) fn differs(what: impl Into<String>, found: &dyn ToString, expected: &dyn ToString) -> Self {
        Self::Differs { what: what.into(), found: found.to_string(), expected: expected.to_string() }
    }

    pub(super) fn addresses(addresses: &[IpAddr]) -> String {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl From<AttachError> for Error {
    fn from(error: AttachError) -> Self {
        let mut details = Vec::new();
        let mut cause = std::error::Error::source(&error);
        while let Some(source) = cause {
            details.push(source.to_string());
            cause = source.source();
        }
        Self { code: error.code(), message: error.to_string(), details }
    }
}
