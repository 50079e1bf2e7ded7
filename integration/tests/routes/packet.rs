//! VXLAN packets as somebody writes them who wants to be taken for another.

use std::net::Ipv4Addr;

/// Whom the inside is from and for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inside {
    pub(crate) macs: [[u8; 6]; 2],
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) port: u16,
}

/// What a UDP socket has to send to port 4789 (RFC 7348, section 5): the VXLAN header, Ethernet, IPv4, UDP without a checksum, text.
pub(crate) fn vxlan(id: u32, inside: Inside, text: &str) -> Vec<u8> {
    let [from, to] = inside.macs;
    let mut packet = vec![0x08, 0, 0, 0];
    packet.extend((id << 8).to_be_bytes());
    packet.extend(to);
    packet.extend(from);
    packet.extend([0x08, 0x00]);
    packet.extend(ipv4(inside, 8 + text.len()));
    for half in [4711, inside.port, length(8 + text.len()), 0] {
        packet.extend(half.to_be_bytes());
    }
    packet.extend(text.as_bytes());
    packet
}

fn ipv4(inside: Inside, payload: usize) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length(20 + payload).to_be_bytes());
    (header[8], header[9]) = (64, 17);
    header[12..16].copy_from_slice(&inside.source.octets());
    header[16..20].copy_from_slice(&inside.destination.octets());
    let words = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("sixteen bits");
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("a short packet")
}
