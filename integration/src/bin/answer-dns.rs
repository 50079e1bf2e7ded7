//! The outside world's DNS server for tests: answers A questions for `NAME=ADDRESS` arguments and denies every other name.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context, Result};

const HEADER: usize = 12;
const TYPE_A: [u8; 2] = [0, 1];

fn main() -> Result<()> {
    let mut names: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
    for argument in std::env::args().skip(1) {
        let (name, address) = argument.split_once('=').with_context(|| format!("`{argument}` is not NAME=ADDRESS"))?;
        names.insert(name.to_lowercase(), address.parse().with_context(|| format!("`{address}` is no IPv4 address"))?);
    }
    let socket = UdpSocket::bind("[::]:53").context("cannot listen on port 53")?;
    let mut buffer = [0; 512];
    loop {
        let (length, client) = socket.recv_from(&mut buffer)?;
        if let Some(answer) = answer(&buffer[..length], &names) {
            // A client that is gone is no failure of the server's.
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The answer to a question (RFC 1035, section 4); `None` for what is no question.
fn answer(question: &[u8], names: &BTreeMap<String, Ipv4Addr>) -> Option<Vec<u8>> {
    let (name, end) = read_name(question)?;
    let kind: [u8; 2] = question.get(end..end + 2)?.try_into().ok()?;
    let address = names.get(&name);
    let found = address.filter(|_| kind == TYPE_A);
    let no_such_name = u8::from(address.is_none()) * 3;
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x85, 0x80 | no_such_name, 0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0]);
    answer.extend(question.get(HEADER..end + 4)?);
    if let Some(address) = found {
        // The name as a pointer to the question, type A, class IN, 30 s, four bytes.
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

fn read_name(question: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
        at += length;
    }
}
