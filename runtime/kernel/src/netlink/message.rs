//! The wire format of netlink messages and attributes (`include/uapi/linux/netlink.h`): building and reading, no socket.

use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable};

/// Attributes hold attributes (`NLA_F_NESTED`).
const NESTED: u16 = 1 << 15;
/// The attribute's integer is in network byte order (`NLA_F_NET_BYTEORDER`).
const NET_BYTE_ORDER: u16 = 1 << 14;
/// The bits of an attribute's type that are not flags.
pub(crate) const TYPE_MASK: u16 = !(NESTED | NET_BYTE_ORDER);

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER_LEN: usize = 16;
/// Bytes of `struct nfgenmsg`, which every netfilter message begins with.
pub(crate) const NFGEN_LEN: usize = 4;

pub(crate) const NLM_F_REQUEST: u16 = 0x1;
pub(crate) const NLM_F_ACK: u16 = 0x4;
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_EXCL: u16 = 0x200;

/// A netlink message under construction. Its sequence number and port are filled in by the socket that sends it.
#[derive(Debug, Clone)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// An empty message of type `kind`.
    pub(crate) fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        Self(bytes)
    }

    /// An empty netfilter message: subsystem and command in the type, then `struct nfgenmsg`.
    pub(crate) fn netfilter(subsystem: u8, command: u8, flags: u16, family: u8) -> Self {
        let mut message = Self::new(u16::from(subsystem) << 8 | u16::from(command), flags);
        message.0.extend_from_slice(&[family, 0, 0, 0]);
        message
    }

    /// A message as a library of packet types lays it out.
    pub(crate) fn of(message: impl NetlinkSerializable, flags: u16) -> Self {
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        Self(bytes)
    }

    /// Bytes outside of any attribute: a protocol's own header.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, value);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.attribute(kind, &[value]);
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) {
        self.attribute(kind | NET_BYTE_ORDER, &value.to_be_bytes());
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.attribute(kind | NET_BYTE_ORDER, &value.to_be_bytes());
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.attribute(kind | NET_BYTE_ORDER, &value.to_be_bytes());
    }

    /// Bytes in network order.
    pub(crate) fn be_bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind | NET_BYTE_ORDER, value);
    }

    /// A string closed by a zero byte.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    /// An attribute that holds what `fill` adds.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        fill(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The message with its length, sequence number and an acknowledgement asked for where `flags` say so.
    pub(crate) fn seal(&mut self, sequence: u32, flags: u16) -> &[u8] {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        let old = u16::from_ne_bytes([self.0[6], self.0[7]]);
        self.0[6..8].copy_from_slice(&(old | flags).to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0[12..16].fill(0);
        &self.0
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(align(self.0.len()), 0);
    }
}

/// Rounded up to the four bytes that netlink aligns to.
pub(crate) fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// A received message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages in a datagram; ends at the first malformed one.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let message = datagram.get(..length)?;
        let payload = message.get(HEADER_LEN..)?;
        let received =
            Received { kind: u16_at(message, 4)?, flags: u16_at(message, 6)?, sequence: u32_at(message, 8)?, payload };
        datagram = datagram.get(align(length)..).unwrap_or_default();
        Some(received)
    })
}

/// The attributes in `bytes` as type (without its flag bits) and value; ends at the first malformed one.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of type `kind`.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

pub(crate) fn be16_of(value: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(value.get(..2)?.try_into().ok()?))
}

pub(crate) fn be32_of(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

pub(crate) fn be64_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.get(..8)?.try_into().ok()?))
}

/// A string without its closing zero byte.
pub(crate) fn text_of(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.split(|&b| b == 0).next()?).ok()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Message, attributes, be32_of, messages};

    #[test]
    fn what_is_built_is_read_back() {
        let mut message = Message::netfilter(6, 2, 0, 2);
        message.be32(1, 0xdead_beef);
        message.nest(2, |inner| inner.text(3, "abc"));
        let sealed = message.seal(7, super::NLM_F_ACK).to_vec();
        let received: Vec<_> = messages(&sealed).collect();
        assert_eq!(received.len(), 1);
        assert_eq!((received[0].kind, received[0].sequence, received[0].flags), (0x602, 7, 5));
        let found: Vec<_> = attributes(&received[0].payload[4..]).collect();
        assert_eq!(found[0].0, 1);
        assert_eq!(be32_of(found[0].1), Some(0xdead_beef));
        assert_eq!(attributes(found[1].1).next(), Some((3, &b"abc\0"[..])));
    }

    #[test]
    fn malformed_input_ends_the_walk() {
        for length in 0..40_usize {
            for fill in [0_u8, 1, 3, 4, 0xff] {
                let bytes = vec![fill; length];
                assert!(messages(&bytes).count() <= length);
                assert!(attributes(&bytes).count() <= length);
            }
        }
    }
}
