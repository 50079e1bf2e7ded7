//! SCTP by crafted packets (RFC 9260): the first packet of an association and its answer, which is all that a policy judges, and as much
//! more as connection tracking needs to see of one that lives. No module of the kernel is needed, and none is loaded.

/// IANA's number of the protocol.
pub const PROTOCOL: i32 = 132;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const HEADER: usize = 12;
/// Length of an INIT or INIT ACK chunk without parameters.
const CHUNK: u16 = 20;

/// An INIT or its answer, as far as it is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// port of the sender
    pub source: u16,
    /// port of the receiver
    pub destination: u16,
    /// the tag that packets to the sender carry
    pub tag: u32,
    /// whether it is an answer, to the sender of this tag
    pub answers: Option<u32>,
}

impl Packet {
    /// The answer to an INIT.
    #[must_use]
    pub fn answer(self) -> Self {
        let answers = Some(self.tag);
        Self { source: self.destination, destination: self.source, tag: !self.tag, answers }
    }

    /// As it is sent, without an IP header.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = header(self.source, self.destination, self.answers.unwrap_or(0));
        bytes.extend([if self.answers.is_some() { INIT_ACK } else { INIT }, 0]);
        bytes.extend(CHUNK.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend(65_535_u32.to_be_bytes());
        bytes.extend([0, 1, 0, 1]);
        bytes.extend(1_u32.to_be_bytes());
        sealed(bytes)
    }

    /// Reads what [`Packet::bytes`] wrote; anything else is not for us.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let short = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let answers = match *bytes.get(HEADER)? {
            INIT => None,
            INIT_ACK => Some(long(4)?),
            _ => return None,
        };
        Some(Self { source: short(0)?, destination: short(2)?, tag: long(HEADER + 4)?, answers })
    }
}

/// What comes after INIT and INIT ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// a few bytes
    Data,
    /// the client's second packet
    CookieEcho,
    /// its answer
    CookieAck,
}

impl Content {
    /// A packet with it, to the holder of the tag.
    #[must_use]
    pub fn bytes(self, [source, destination]: [u16; 2], tag: u32) -> Vec<u8> {
        let mut bytes = header(source, destination, tag);
        bytes.extend(match self {
            // Whole, unordered; transmission sequence number, stream, payload protocol and payload do not matter here.
            Self::Data => [&[DATA, 7, 0, 20][..], &[0; 12], b"data"].concat(),
            Self::CookieEcho => [&[COOKIE_ECHO, 0, 0, 8][..], b"cake"].concat(),
            Self::CookieAck => vec![COOKIE_ACK, 0, 0, 4],
        });
        sealed(bytes)
    }

    /// What a packet to this port has in it, if it is one of these.
    #[must_use]
    pub fn parse(bytes: &[u8], port: u16) -> Option<Self> {
        if bytes.get(2..4)? != port.to_be_bytes() {
            return None;
        }
        match *bytes.get(HEADER)? {
            DATA => Some(Self::Data),
            COOKIE_ECHO => Some(Self::CookieEcho),
            COOKIE_ACK => Some(Self::CookieAck),
            _ => None,
        }
    }
}

fn header(source: u16, destination: u16, tag: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + usize::from(CHUNK));
    bytes.extend(source.to_be_bytes());
    bytes.extend(destination.to_be_bytes());
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// With its checksum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c(&bytes);
    bytes[8..HEADER].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The checksum of RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn the_checksum_is_that_of_rfc_3720() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
}

#[test]
fn a_packet_is_read_as_it_was_written() {
    let init = Packet { source: 1, destination: 80, tag: 7, answers: None };
    assert_eq!(Packet::parse(&init.bytes()), Some(init));
    assert_eq!(Packet::parse(&init.answer().bytes()), Some(init.answer()));
    assert_eq!(Packet::parse(&init.bytes()[..15]), None);
}

#[test]
fn what_follows_is_read_by_its_receiver_alone() {
    for content in [Content::Data, Content::CookieEcho, Content::CookieAck] {
        let bytes = content.bytes([5, 6], 7);
        assert_eq!(Content::parse(&bytes, 6), Some(content));
        assert_eq!(Content::parse(&bytes, 5), None);
    }
}
