//! DNS messages as far as a stub resolver needs them (RFC 1035). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordType {
    A,
    Aaaa,
}

impl RecordType {
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0: no error, 3: no such name
    pub(crate) code: u8,
    /// the answer did not fit; ask again over TCP
    pub(crate) truncated: bool,
    /// addresses of the type that was asked for
    pub(crate) addresses: Vec<IpAddr>,
}

/// A query, or nothing when the name cannot be asked for.
pub(crate) fn query(id: u16, name: &str, kind: RecordType) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(64);
    message.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question.
    message.extend_from_slice(&[0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > 253 {
        return None;
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.number().to_be_bytes());
    message.extend_from_slice(&1_u16.to_be_bytes());
    Some(message)
}

/// The answer to the query with this ID and type; nothing if the message is something else.
pub(crate) fn answer(message: &[u8], id: u16, kind: RecordType) -> Option<Answer> {
    let mut at = 0;
    if word(message, &mut at)? != id {
        return None;
    }
    let flags = word(message, &mut at)?;
    if flags & 0x8000 == 0 {
        return None;
    }
    let (questions, answers) = (word(message, &mut at)?, word(message, &mut at)?);
    at += 4;
    let code = u8::try_from(flags & 0x0f).ok()?;
    let truncated = flags & 0x0200 != 0;
    let mut found = Answer { code, truncated, addresses: Vec::new() };
    for _ in 0..questions {
        skip_name(message, &mut at)?;
        at += 4;
    }
    for _ in 0..answers {
        let Some(record) = record(message, &mut at) else {
            // What is cut off is not there.
            return found.truncated.then_some(found);
        };
        found.addresses.extend(record.address(kind));
    }
    Some(found)
}

/// A resource record. Aliases need no care, a recursive server resolves them.
struct Record<'a> {
    kind: u16,
    class: u16,
    data: &'a [u8],
}

impl Record<'_> {
    fn address(&self, kind: RecordType) -> Option<IpAddr> {
        match kind {
            _ if self.kind != kind.number() || self.class != 1 => None,
            RecordType::A => <[u8; 4]>::try_from(self.data).ok().map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes))),
            RecordType::Aaaa => <[u8; 16]>::try_from(self.data).ok().map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))),
        }
    }
}

fn record<'a>(message: &'a [u8], at: &mut usize) -> Option<Record<'a>> {
    skip_name(message, at)?;
    let (kind, class) = (word(message, at)?, word(message, at)?);
    *at += 4;
    let length = usize::from(word(message, at)?);
    let data = message.get(*at..*at + length)?;
    *at += length;
    Some(Record { kind, class, data })
}

fn word(message: &[u8], at: &mut usize) -> Option<u16> {
    let bytes = message.get(*at..*at + 2)?;
    *at += 2;
    <[u8; 2]>::try_from(bytes).ok().map(u16::from_be_bytes)
}

fn skip_name(message: &[u8], at: &mut usize) -> Option<()> {
    loop {
        let length = usize::from(*message.get(*at)?);
        match length {
            0 => {
                *at += 1;
                return Some(());
            }
            1..=63 => *at += 1 + length,
            // A pointer ends the name.
            0xc0..=0xff => {
                *at += 2;
                return Some(());
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Answer, RecordType, answer, query};

    fn reply(id: u16, flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = query(id, "a.b", RecordType::A).expect("query");
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[7] = u8::try_from(records.len()).expect("few");
        for (kind, data) in records {
            message.extend_from_slice(&[0xc0, 12]);
            message.extend_from_slice(&kind.to_be_bytes());
            message.extend_from_slice(&[0, 1, 0, 0, 0, 5]);
            message.extend_from_slice(&u16::try_from(data.len()).expect("short").to_be_bytes());
            message.extend_from_slice(data);
        }
        message
    }

    #[test]
    fn a_query_is_spelled_as_rfc_1035_wants() {
        let expected = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 2, b'b', b'c', 0, 0, 28, 0, 1];
        assert_eq!(query(7, "a.bc.", RecordType::Aaaa), Some(expected.to_vec()));
        assert_eq!(query(7, "a..b", RecordType::A), None);
        assert_eq!(query(7, "", RecordType::A), None);
        assert_eq!(query(7, &"a".repeat(64), RecordType::A), None);
    }

    #[test]
    fn addresses_of_the_right_type_are_found_among_aliases() {
        let message = reply(9, 0x8180, &[(5, &[1, b'c', 0]), (1, &[10, 0, 0, 1]), (28, &[0; 16])]);
        let expected = Answer { code: 0, truncated: false, addresses: vec![IpAddr::from([10, 0, 0, 1])] };
        assert_eq!(answer(&message, 9, RecordType::A), Some(expected));
        assert_eq!(answer(&message, 8, RecordType::A), None, "another query's answer");
        assert_eq!(answer(&reply(9, 0x8183, &[]), 9, RecordType::A).map(|answer| answer.code), Some(3));
        assert_eq!(answer(&query(9, "a.b", RecordType::A).expect("query"), 9, RecordType::A), None, "no answer");
    }

    #[test]
    fn damaged_messages_are_no_answers() {
        let message = reply(9, 0x8180, &[(1, &[10, 0, 0, 1])]);
        for length in 0..message.len() {
            assert_eq!(answer(&message[..length], 9, RecordType::A), None, "{length}");
        }
    }
}
