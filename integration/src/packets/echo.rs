//! Packets without ports, crafted: ICMP echo requests (RFC 792, RFC 4443), which every kernel answers, and packets of a protocol
//! number that is left for experiments (RFC 3692), which the tests' own servers send back.

/// IANA's number for experiments and testing.
pub const UNKNOWN_PROTOCOL: i32 = 253;

const HEADER: usize = 8;

/// An echo request or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// tells the requests of one look from those of others
    pub identifier: u16,
    /// tells the requests of one look apart
    pub sequence: u16,
}

impl Echo {
    /// The request. With IPv6 the checksum is the kernel's work (RFC 3542, section 3.1).
    #[must_use]
    pub fn request(self, is_v6: bool) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = if is_v6 { 128 } else { 8 };
        bytes[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        if !is_v6 {
            let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
            let sum = words.sum::<u32>();
            let folded = (sum & 0xffff) + (sum >> 16);
            let checksum = !u16::try_from(folded & 0xffff).unwrap_or_default();
            bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }

    /// Reads an answer; anything else is not for us.
    #[must_use]
    pub fn answer(bytes: &[u8], is_v6: bool) -> Option<Self> {
        let half = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let is_answer = *bytes.first()? == if is_v6 { 129 } else { 0 };
        let echo = Self { identifier: half(4)?, sequence: half(6)? };
        is_answer.then_some(echo)
    }
}

#[test]
fn a_request_carries_the_checksum_of_rfc_1071() {
    let request = Echo { identifier: 0x1234, sequence: 1 }.request(false);
    assert_eq!(request, [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1]);
}

#[test]
fn an_answer_is_told_from_a_request() {
    let echo = Echo { identifier: 7, sequence: 9 };
    let mut bytes = echo.request(true);
    assert_eq!(Echo::answer(&bytes, true), None);
    bytes[0] = 129;
    assert_eq!(Echo::answer(&bytes, true), Some(echo));
}
