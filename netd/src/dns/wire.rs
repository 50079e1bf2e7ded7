//! Between the records' plain names and values and their form on the wire.

use std::fmt::Write as _;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use minipod_model::IpFamily;
use minipod_model::defaults::CLUSTER_DOMAIN;

use super::records::Question;

/// How long an answer of ours may be kept, in seconds: objects change under it.
pub(super) const TTL: u32 = 5;

/// What a record type asks of the records.
pub(super) fn question(kind: RecordType) -> Question {
    match kind {
        RecordType::A => Question::Address(IpFamily::V4),
        RecordType::AAAA => Question::Address(IpFamily::V6),
        RecordType::SRV => Question::Service,
        RecordType::TXT => Question::Text,
        _ => Question::Other,
    }
}

/// A or AAAA.
pub(super) fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// The record that says how long it may be remembered that there is nothing.
pub(super) fn authority() -> Option<Record> {
    let zone = full_name(CLUSTER_DOMAIN)?;
    let server = full_name(&format!("ns.dns.{CLUSTER_DOMAIN}"))?;
    let mailbox = full_name(&format!("hostmaster.{CLUSTER_DOMAIN}"))?;
    let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86400, TTL);
    Some(Record::from_rdata(zone, TTL, RData::SOA(soa)))
}

/// A name of ours for the wire; `None` if it is too long for DNS.
pub(super) fn full_name(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// A name as the records spell it: lower case, labels joined by dots, no dot at the end. Bytes that no name of ours has are escaped.
pub(super) fn plain(name: &Name) -> String {
    let mut text = String::new();
    for label in name {
        if !text.is_empty() {
            text.push('.');
        }
        for &byte in label {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
                text.push(char::from(byte.to_ascii_lowercase()));
            } else {
                // Writing to a `String` cannot fail.
                let _ = write!(text, "\\{byte:03}");
            }
        }
    }
    text
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` spells in full.
pub(super) fn pointed_at(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}
