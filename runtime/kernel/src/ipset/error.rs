//! What can go wrong with sets, in words.

use crate::netlink::NetlinkError;

/// The kernel's reason for a refusal, `enum ipset_errno` of `include/uapi/linux/netfilter/ipset/ip_set.h` and the codes of the types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// `ENOENT`
    #[error("there is no such set")]
    NoSuchSet,
    /// `EEXIST` on create and rename
    #[error("a set of that name exists already")]
    SetExists,
    /// `IPSET_ERR_PROTOCOL`
    #[error("the kernel does not understand the request; is it of the set's type and address family?")]
    Protocol,
    /// `IPSET_ERR_FIND_TYPE`
    #[error("the kernel does not support this set type; is the module `ip_set_hash_*` there?")]
    UnknownType,
    /// `IPSET_ERR_MAX_SETS`
    #[error("the kernel takes no more sets (ip_set.max_sets)")]
    MaxSets,
    /// `IPSET_ERR_BUSY`
    #[error("the set is in use by a rule or another set")]
    Busy,
    /// `IPSET_ERR_EXIST_SETNAME2`
    #[error("the second set exists already or is not there")]
    SecondName,
    /// `IPSET_ERR_TYPE_MISMATCH`
    #[error("the sets differ in type or family")]
    TypeMismatch,
    /// `IPSET_ERR_EXIST`
    #[error("the member is there already, or is not there")]
    Exists,
    /// `IPSET_ERR_INVALID_CIDR`
    #[error("this prefix length fits in no such set")]
    InvalidCidr,
    /// `IPSET_ERR_INVALID_NETMASK`
    #[error("invalid netmask")]
    InvalidNetmask,
    /// `IPSET_ERR_INVALID_FAMILY`
    #[error("the set does not take this address family")]
    InvalidFamily,
    /// `IPSET_ERR_TIMEOUT`
    #[error("the set was made without timeout support")]
    Timeout,
    /// `IPSET_ERR_REFERENCED`
    #[error("the set is referenced by a rule or another set")]
    Referenced,
    /// `IPSET_ERR_IPADDR_IPV4` and `_IPV6`
    #[error("the address is not of the set's family")]
    AddressFamily,
    /// `IPSET_ERR_SKBINFO`
    #[error("the set was made without skbinfo")]
    Skbinfo,
    /// `IPSET_ERR_HASH_FULL`, `IPSET_ERR_LIST_FULL`
    #[error("the set is full")]
    Full,
    /// `IPSET_ERR_HASH_ELEM`
    #[error("the kernel cannot store a member whose value is all zero, or more interfaces of one network")]
    NullElement,
    /// anything else
    #[error("error {0}")]
    Other(i32),
}

impl Reason {
    pub(crate) fn of(errno: i32, kind: Option<super::SetType>) -> Self {
        let list = kind == Some(super::SetType::ListSet);
        match errno {
            libc::ENOENT => Self::NoSuchSet,
            libc::EEXIST => Self::SetExists,
            4097 => Self::Protocol,
            4098 => Self::UnknownType,
            4099 => Self::MaxSets,
            4100 => Self::Busy,
            4101 => Self::SecondName,
            4102 => Self::TypeMismatch,
            4103 => Self::Exists,
            4104 => Self::InvalidCidr,
            4105 => Self::InvalidNetmask,
            4106 => Self::InvalidFamily,
            4107 => Self::Timeout,
            4108 => Self::Referenced,
            4109 | 4110 => Self::AddressFamily,
            4114 => Self::Skbinfo,
            4352 if list => Self::NoSuchSet,
            4352 => Self::Full,
            4353 if !list => Self::NullElement,
            4356 if list => Self::Full,
            other => Self::Other(other),
        }
    }
}

/// An operation on sets that failed.
#[derive(Debug, thiserror::Error)]
pub enum IpsetError {
    /// No socket.
    #[error("cannot speak to the kernel's ipset; this needs root and the kernel's ip_set support")]
    Socket(#[from] NetlinkError),
    /// The kernel speaks another protocol.
    #[error("the kernel speaks ipset protocol {kernel}, this program 7 (or 6)")]
    Version {
        /// what it speaks
        kernel: u8,
    },
    /// The process may not.
    #[error("not permitted to change set `{set}`: this needs root or CAP_NET_ADMIN")]
    Permission {
        /// the set
        set: String,
    },
    /// A set was refused.
    #[error("cannot {verb} set `{set}`: {reason}")]
    Set {
        /// create, destroy, flush ...
        verb: &'static str,
        /// the set
        set: String,
        /// why
        reason: Reason,
    },
    /// A member was refused.
    #[error("cannot {verb} `{entry}` {preposition} set `{set}`: {reason}")]
    Entry {
        /// add or remove
        verb: &'static str,
        /// to or from
        preposition: &'static str,
        /// the set
        set: String,
        /// the member; `?` where the kernel did not say which
        entry: String,
        /// why
        reason: Reason,
    },
    /// The answer cannot be read.
    #[error("set `{set}` has a member that cannot be read")]
    Unreadable {
        /// the set
        set: String,
    },
}

impl IpsetError {
    /// The kernel's reason, if it is the kernel that refused.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Set { reason, .. } | Self::Entry { reason, .. } => Some(*reason),
            _ => None,
        }
    }
}
