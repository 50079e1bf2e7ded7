//! Who a packet says that it is from and for: the headers of IPv4 (RFC 791), IPv6 (RFC 8200) and what has ports. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use minipod_model::Protocol;

/// ICMP and ICMP for IPv6.
const ICMP: [u8; 2] = [1, 58];
/// Extension headers of IPv6 that have a length: hop by hop, routing, destination.
const EXTENSIONS: [u8; 3] = [0, 43, 60];
const FRAGMENT: u8 = 44;

/// What a packet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// the number of the protocol
    pub(super) number: u8,
    /// source and destination; none where there are none, or where they are in another fragment
    pub(super) ports: Option<(u16, u16)>,
}

impl Header {
    /// `None` for what is no IP packet, or too short.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => parse_v4(bytes),
            6 => parse_v6(bytes),
            _ => None,
        }
    }

    /// The protocol, if it is one that policies name.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|protocol| protocol.number() == self.number)
    }

    /// The protocol for people.
    pub(super) fn protocol_name(&self) -> String {
        match self.protocol() {
            Some(protocol) => protocol.as_str().to_owned(),
            None if ICMP.contains(&self.number) => "ICMP".to_owned(),
            None => self.number.to_string(),
        }
    }
}

fn parse_v4(bytes: &[u8]) -> Option<Header> {
    let address = |at: usize| Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?)));
    let number = *bytes.get(9)?;
    // Three flags, then the offset.
    let is_first = u16_at(bytes, 6)? << 3 == 0;
    let rest = bytes.get(usize::from(bytes[0] & 15) * 4..).unwrap_or_default();
    Some(Header {
        source: address(12)?,
        destination: address(16)?,
        number,
        ports: is_first.then(|| ports(number, rest)).flatten(),
    })
}

fn parse_v6(bytes: &[u8]) -> Option<Header> {
    let address = |at: usize| Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?)));
    let (source, destination) = (address(8)?, address(24)?);
    let (mut number, mut rest, mut is_first) = (*bytes.get(6)?, bytes.get(40..)?, true);
    while let [next, length, ..] = rest {
        let skipped = match number {
            FRAGMENT => {
                is_first &= u16_at(rest, 2).is_some_and(|offset| offset & 0xfff8 == 0);
                8
            }
            number if EXTENSIONS.contains(&number) => usize::from(*length) * 8 + 8,
            _ => break,
        };
        (number, rest) = (*next, rest.get(skipped..).unwrap_or_default());
    }
    Some(Header { source, destination, number, ports: is_first.then(|| ports(number, rest)).flatten() })
}

/// What has ports begins with them.
fn ports(number: u8, rest: &[u8]) -> Option<(u16, u16)> {
    let has_ports = Protocol::ALL.iter().any(|protocol| protocol.number() == number);
    has_ports.then(|| Some((u16_at(rest, 0)?, u16_at(rest, 2)?))).flatten()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::Header;

    const TO_80: [u8; 4] = [0x9c, 0x40, 0, 80];

    fn v4(number: u8, fragment: [u8; 2]) -> Vec<u8> {
        let mut bytes =
            vec![0x45, 0, 0, 40, 0, 0, fragment[0], fragment[1], 64, number, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend(TO_80);
        bytes
    }

    fn v6(number: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 20, number, 64];
        for last in [1, 2] {
            bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        bytes.extend(rest);
        bytes
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: (&str, &str, &str, Option<(u16, u16)>)) {
        let header = Header::parse(bytes).expect("a header");
        let said = (header.source.to_string(), header.destination.to_string(), header.protocol_name());
        assert_eq!((said.0.as_str(), said.1.as_str(), said.2.as_str(), header.ports), expected);
    }

    #[test]
    fn ends_protocol_and_ports_are_read() {
        check(&v4(6, [0, 0]), ("10.0.0.1", "10.0.0.2", "TCP", Some((40_000, 80))));
        check(&v4(1, [0, 0]), ("10.0.0.1", "10.0.0.2", "ICMP", None));
        check(&v4(47, [0, 0]), ("10.0.0.1", "10.0.0.2", "47", None));
        check(&v6(17, &TO_80), ("fd00::1", "fd00::2", "UDP", Some((40_000, 80))));
        check(&v6(58, &TO_80), ("fd00::1", "fd00::2", "ICMP", None));
        let after_options = [&[132, 0, 0, 0, 0, 0, 0, 0], TO_80.as_slice()].concat();
        check(&v6(0, &after_options), ("fd00::1", "fd00::2", "SCTP", Some((40_000, 80))));
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        check(&v4(17, [0, 1]), ("10.0.0.1", "10.0.0.2", "UDP", None));
        let fragment = |offset| [&[17, 0, 0, offset, 0, 0, 0, 0], TO_80.as_slice()].concat();
        check(&v6(44, &fragment(8)), ("fd00::1", "fd00::2", "UDP", None));
        check(&v6(44, &fragment(1)), ("fd00::1", "fd00::2", "UDP", Some((40_000, 80))));
    }

    #[test]
    fn what_is_cut_short_stops_nothing() {
        for whole in [v4(6, [0, 0]), v6(44, &[0; 24]), v6(0, &[0, 200, 1])] {
            for length in 0..whole.len() {
                let _ = Header::parse(&whole[..length]);
            }
        }
        assert_eq!(Header::parse(&[0x12; 64]), None);
    }
}
