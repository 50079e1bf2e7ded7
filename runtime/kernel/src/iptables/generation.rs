//! Whether rules may have changed since they were last looked at, without a program that prints them: nftables counts its transactions;
//! of the older `ip_tables` the rules themselves are fetched, a millisecond for some thousands of them, and compared by a hash.
//!
//! Ownership: bound for life to the network namespace of the thread that opened it; who asks must be in the same one.

use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::ops::Range;
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
/// `IPT_SO_GET_ENTRIES` and `IP6T_SO_GET_ENTRIES`
const GET_ENTRIES: i32 = 65;
/// Bytes of `struct ipt_getinfo` and `struct ip6t_getinfo`: the table's name, then 13 numbers.
const INFO_LEN: usize = NAME_LEN + 13 * 4;
/// Where `struct ipt_getinfo` has the bytes of all rules.
const INFO_SIZE: Range<usize> = INFO_LEN - 4..INFO_LEN;
/// `XT_TABLE_MAXNAMELEN`
const NAME_LEN: usize = 32;
/// Bytes of `struct ipt_get_entries` before the first rule: name, size, alignment.
const ENTRIES_HEAD: usize = 40;

/// A state of all tables of one variant: the same as long as nobody changes a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation(Vec<u8>);

/// Asks for the generation.
#[derive(Debug)]
pub struct Generations(Source);

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
        Self(match variant {
            Variant::Nft => {
                Socket::open(NETLINK_NETFILTER).map_or(Source::None, |socket| Source::Nft(Box::new(socket)))
            }
            Variant::Legacy => {
                Source::Legacy(IpFamily::ALL.into_iter().filter_map(|f| Some((f, raw_socket(f).ok()?))).collect())
            }
        })
    }

    /// The generation now; `None` where the kernel does not say: then only reading the rules tells.
    pub fn observe(&mut self) -> Option<Generation> {
        match &mut self.0 {
            Source::Nft(socket) => transactions(socket),
            Source::Legacy(sockets) => contents(sockets).ok(),
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

fn contents(sockets: &[(IpFamily, OwnedFd)]) -> io::Result<Generation> {
    let mut all = Vec::new();
    for (family, socket) in sockets {
        for table in tables(*family)? {
            all.extend(content(*family, socket, table)?);
        }
    }
    Ok(Generation(all))
}

/// The tables that are there. To ask for another one would make it, and every packet would pass its empty chains from then on.
fn tables(family: IpFamily) -> io::Result<Vec<Table>> {
    let path = match family {
        IpFamily::V4 => "/proc/thread-self/net/ip_tables_names",
        IpFamily::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    let names = match fs::read_to_string(path) {
        // Nobody has needed `ip_tables` on this host.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        names => names?,
    };
    Ok(Table::ALL.into_iter().filter(|table| names.lines().any(|name| name == table.as_str())).collect())
}

/// A hash of a table's rules without their counters.
fn content(family: IpFamily, socket: &OwnedFd, table: Table) -> io::Result<[u8; 8]> {
    let mut info = named(table, INFO_LEN);
    ask(family, socket, GET_INFO, &mut info)?;
    let size = u32::from_ne_bytes(info[INFO_SIZE].try_into().unwrap_or_default());
    let mut entries = named(table, ENTRIES_HEAD + usize::try_from(size).unwrap_or_default());
    entries[NAME_LEN..NAME_LEN + 4].copy_from_slice(&size.to_ne_bytes());
    ask(family, socket, GET_ENTRIES, &mut entries)?;
    blank_counters(family, &mut entries[ENTRIES_HEAD..]);
    let mut hasher = DefaultHasher::new();
    hasher.write(&entries);
    Ok(hasher.finish().to_ne_bytes())
}

/// Clears what the kernel writes into rules: `comefrom` and `counters` of `struct ipt_entry` and `struct ip6t_entry`. In front of them stand
/// what addresses match (84 and 136 bytes), `nfcache`, and two offsets, of which the second is that of the next rule.
fn blank_counters(family: IpFamily, mut entries: &mut [u8]) {
    let addresses = match family {
        IpFamily::V4 => 84,
        IpFamily::V6 => 136,
    };
    let counters = match family {
        IpFamily::V4 => 92..112,
        IpFamily::V6 => 144..168,
    };
    while let Some(next) = entries.get(addresses + 6..addresses + 8) {
        let next = usize::from(u16::from_ne_bytes([next[0], next[1]]));
        if next < counters.end || next > entries.len() {
            return;
        }
        entries[counters.clone()].fill(0);
        entries = &mut entries[next..];
    }
}

/// A request of that length for a table.
fn named(table: Table, length: usize) -> Vec<u8> {
    let mut request = vec![0_u8; length];
    request[..table.as_str().len()].copy_from_slice(table.as_str().as_bytes());
    request
}

/// Asks a question of `ip_tables`; the answer takes its place.
fn ask(family: IpFamily, socket: &OwnedFd, question: i32, buffer: &mut [u8]) -> io::Result<()> {
    let level = match family {
        IpFamily::V4 => libc::IPPROTO_IP,
        IpFamily::V6 => libc::IPPROTO_IPV6,
    };
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "no crate wraps these options, which read and write one buffer")]
    // SAFETY: the buffer has `length` bytes and lives as long as the call; the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            question,
            buffer.as_mut_ptr().cast(),
            std::ptr::from_mut(&mut length),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
