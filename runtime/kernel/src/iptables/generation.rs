//! Whether rules may have changed since they were last looked at, without reading them: nftables counts its transactions, and the older
//! `ip_tables` says how many rules and bytes a table has. The cost of asking does not grow with the rules.
//!
//! Ownership: bound for life to the network namespace of the thread that opened it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use minipod_model::IpFamily;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{Table, Variant};
use crate::netlink::Socket;
use crate::netlink::message::{Message, NFGEN_LEN, attribute};

const NETLINK_NETFILTER: isize = 12;
/// `NFNL_SUBSYS_NFTABLES`
const NFTABLES: u8 = 10;
/// `NFT_MSG_GETGEN`
const GET_GENERATION: u8 = 16;
/// `NFTA_GEN_ID`
const GENERATION_ID: u16 = 1;
/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`
const GET_INFO: i32 = 64;
/// Bytes of `struct ipt_getinfo` and `struct ip6t_getinfo`: the table's name, then 13 numbers.
const INFO_LEN: usize = 32 + 13 * 4;

/// A state of all tables of one variant: the same as long as nobody changes a rule. Somebody who replaces a rule of `ip_tables` by one of
/// the same size is not noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation(Vec<u8>);

/// The tables that are asked for from the start.
const USUAL: [Table; 4] = [Table::Raw, Table::Mangle, Table::Nat, Table::Filter];

/// Asks for the generation.
#[derive(Debug)]
pub struct Generations {
    source: Source,
    tables: BTreeSet<Table>,
}

#[derive(Debug)]
enum Source {
    Nft(Box<Socket>),
    Legacy(Vec<(IpFamily, OwnedFd)>),
    /// the kernel does not say
    None,
}

impl Generations {
    /// Opens what the variant's kernel side answers on.
    #[must_use]
    pub fn open(variant: Variant) -> Self {
        let source = match variant {
            Variant::Nft => {
                Socket::open(NETLINK_NETFILTER).map_or(Source::None, |socket| Source::Nft(Box::new(socket)))
            }
            Variant::Legacy => {
                Source::Legacy(IpFamily::ALL.into_iter().filter_map(|f| Some((f, raw_socket(f).ok()?))).collect())
            }
        };
        Self { source, tables: USUAL.into() }
    }

    /// Asks for this table too from now on. To ask `ip_tables` for a table makes it, and packets pass it: one that few hosts have is
    /// asked for only once it is known to be there.
    pub fn include(&mut self, table: Table) {
        self.tables.insert(table);
    }

    /// The generation now; `None` where the kernel does not say: then only reading the rules tells.
    pub fn observe(&mut self) -> Option<Generation> {
        match &mut self.source {
            Source::Nft(socket) => transactions(socket),
            Source::Legacy(sockets) => {
                let tables = &self.tables;
                let all = sockets.iter().flat_map(|(family, socket)| tables.iter().map(|t| info(*family, socket, *t)));
                Some(Generation(all.flatten().flatten().collect()))
            }
            Source::None => None,
        }
    }
}

fn transactions(socket: &mut Socket) -> Option<Generation> {
    let request = Message::netfilter(NFTABLES, GET_GENERATION, 0, 0);
    let read = |payload: &[u8]| attribute(payload.get(NFGEN_LEN..)?, GENERATION_ID).map(<[u8]>::to_vec);
    socket.query(request, |received| read(received.payload)).ok()?.ok()?.map(Generation)
}

fn raw_socket(family: IpFamily) -> nix::Result<OwnedFd> {
    let family = match family {
        IpFamily::V4 => AddressFamily::Inet,
        IpFamily::V6 => AddressFamily::Inet6,
    };
    socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
}

/// Sizes and entry points of a table. One that is not there yet is made by the kernel, as by every program that asks for it.
fn info(family: IpFamily, socket: &OwnedFd, table: Table) -> io::Result<Vec<u8>> {
    let mut info = vec![0_u8; INFO_LEN];
    info[..table.as_str().len()].copy_from_slice(table.as_str().as_bytes());
    let level = match family {
        IpFamily::V4 => libc::IPPROTO_IP,
        IpFamily::V6 => libc::IPPROTO_IPV6,
    };
    let mut length = libc::socklen_t::try_from(INFO_LEN).unwrap_or_default();
    #[expect(
        unsafe_code,
        reason = "no crate wraps this option, which reads the table's name and writes into one buffer"
    )]
    // SAFETY: the buffer has `length` bytes and lives as long as the call; the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, GET_INFO, info.as_mut_ptr().cast(), std::ptr::from_mut(&mut length))
    };
    if result == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}
