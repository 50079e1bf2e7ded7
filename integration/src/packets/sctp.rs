//! SCTP by crafted packets (RFC 9260): the first packet of an association and its answer, which is all that a policy judges. No module
//! of the kernel is needed, and none is loaded.

/// IANA's number of the protocol.
pub const PROTOCOL: i32 = 132;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
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
        let mut bytes = Vec::with_capacity(HEADER + usize::from(CHUNK));
        bytes.extend(self.source.to_be_bytes());
        bytes.extend(self.destination.to_be_bytes());
        bytes.extend(self.answers.unwrap_or(0).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([if self.answers.is_some() { INIT_ACK } else { INIT }, 0]);
        bytes.extend(CHUNK.to_be_bytes());
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend(65_535_u32.to_be_bytes());
        bytes.extend([0, 1, 0, 1]);
        bytes.extend(1_u32.to_be_bytes());
        let sum = crc32c(&bytes);
        bytes[8..HEADER].copy_from_slice(&sum.to_le_bytes());
        bytes
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
