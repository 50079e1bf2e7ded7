//! Packets of which rules tell (the target NFLOG), as the kernel sends them to the one who listens on a group
//! (`linux/netfilter/nfnetlink_log.h`).
//!
//! Here the kernel speaks first, so this is asynchronous. Ownership: bound for life to the network namespace of the thread that opened
//! it; a group has one listener.

use std::io;

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::message::{Message, NFGEN_LEN, attribute, attributes, messages, text_of};
use super::socket::{NetlinkError, Socket};

const NETLINK_NETFILTER: isize = 12;
/// `NFNL_SUBSYS_ULOG`
const LOG: u8 = 4;
/// `NFULNL_MSG_PACKET`
const PACKET: u8 = 0;
/// `NFULNL_MSG_CONFIG`
const CONFIG: u8 = 1;

/// `NFULA_CFG_CMD`, and its command to listen
const CONFIG_COMMAND: u16 = 1;
const BIND: u8 = 1;
/// `NFULA_CFG_MODE`, and its mode that sends the packet
const CONFIG_MODE: u16 = 2;
const COPY_PACKET: u8 = 2;
/// `NFULA_CFG_QTHRESH`: packets that are gathered before they are sent
const CONFIG_GATHER: u16 = 5;

/// `NFULA_IFINDEX_INDEV`
const INTERFACE: u16 = 4;
/// `NFULA_PAYLOAD`
const PAYLOAD: u16 = 9;
/// `NFULA_PREFIX`
const PREFIX: u16 = 10;

/// More of a packet than rules ask for.
const LONGEST: u32 = 0xffff;

/// A packet of which a rule told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoggedPacket {
    /// what the rule says of it
    pub prefix: String,
    /// the interface by which it came; none for what the machine itself sent, or where the interface is gone
    pub interface: Option<String>,
    /// its first bytes, from the IP header on
    pub bytes: Vec<u8>,
}

/// What is told on a group.
#[derive(Debug)]
pub struct PacketLog {
    socket: AsyncFd<Socket>,
}

impl PacketLog {
    /// Begins to listen in the current thread's network namespace. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// The kernel has no such thing, or somebody else listens on the group.
    pub fn open(group: u16) -> Result<Self, NetlinkError> {
        let mut socket = Socket::open(NETLINK_NETFILTER)?;
        let mut request = Message::new(u16::from(LOG) << 8 | u16::from(CONFIG), 0);
        let [high, low] = group.to_be_bytes();
        request.raw(&[0, 0, high, low]);
        request.u8(CONFIG_COMMAND, BIND);
        let mut mode = LONGEST.to_be_bytes().to_vec();
        mode.extend_from_slice(&[COPY_PACKET, 0]);
        request.bytes(CONFIG_MODE, &mode);
        request.bytes(CONFIG_GATHER, &1_u32.to_be_bytes());
        if let Err(refused) = socket.execute(request)? {
            return Err(NetlinkError::Open(io::Error::from_raw_os_error(refused.errno)));
        }
        socket.listen()?;
        #[expect(unsafe_code, reason = "what tokio watches has to stay the same descriptor")]
        // SAFETY: the socket owns its descriptor, which is open as long as the socket lives and never another one.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        let socket = socket.map_err(|failed| NetlinkError::Open(failed.into_parts().1))?;
        Ok(Self { socket })
    }

    /// The next packets; at least one, unless some came faster than they were fetched and are lost.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn next(&mut self) -> Result<Vec<LoggedPacket>, NetlinkError> {
        loop {
            let mut ready = self.socket.readable_mut().await.map_err(NetlinkError::Receive)?;
            let heard = ready.try_io(|socket| {
                let datagram = socket.get_mut().heard()?;
                let packets = messages(datagram).filter(|m| m.kind == u16::from(LOG) << 8 | u16::from(PACKET));
                Ok(packets.filter_map(|m| read(m.payload)).collect())
            });
            match heard {
                Ok(Ok(packets)) => return Ok(packets),
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(Vec::new()),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(NetlinkError::Receive(error)),
                // Nothing there yet.
                Err(_) => {}
            }
        }
    }
}

fn read(payload: &[u8]) -> Option<LoggedPacket> {
    let told = payload.get(NFGEN_LEN..)?;
    let mut packet = LoggedPacket {
        prefix: attribute(told, PREFIX).and_then(text_of).unwrap_or_default().to_owned(),
        ..LoggedPacket::default()
    };
    for (kind, value) in attributes(told) {
        match kind {
            INTERFACE => packet.interface = name_of(super::message::be32_of(value)?),
            PAYLOAD => packet.bytes = value.to_vec(),
            _ => {}
        }
    }
    (!packet.bytes.is_empty()).then_some(packet)
}

fn name_of(index: u32) -> Option<String> {
    nix::net::if_::if_indextoname(index).ok()?.into_string().ok()
}
