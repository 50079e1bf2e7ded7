//! Nobody but a node gets anything into the tunnel, and nothing comes out of it but packets of another node's pods.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use integration::lab::{Iptables, Lab};
use minipod_kernel::netns::NetNs;
use minipod_model::defaults::{VXLAN_ID, VXLAN_PORT};

use crate::packet::{Inside, vxlan};
use crate::site::{Site, Underlay, addresses, network, network_of_pod};

const PORT: u16 = 9000;
const PATIENCE: Duration = Duration::from_secs(5);
const BRIEFLY: Duration = Duration::from_millis(100);
/// A pod that there could be on the first node.
const POD_OF_ONE: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 77);
const NODE_TWO: &str = "198.51.100.2";

#[test]
fn forged_packets_are_dropped_with_nft() {
    forged_packets_are_dropped(Iptables::Nft);
}

#[test]
fn forged_packets_are_dropped_with_legacy() {
    forged_packets_are_dropped(Iptables::Legacy);
}

fn forged_packets_are_dropped(iptables: Iptables) {
    let site = Site::with_pods(iptables, Underlay::Router);
    let server = network_of_pod(&site.two, "server");
    let [IpAddr::V4(to), _] = addresses(&site.two, "server")[..] else { unreachable!("IPv4 first") };
    let receiver = server.run(|| UdpSocket::bind((to, PORT)).expect("bind")).expect("server");
    let honest = Inside { macs: [mac(&site.one), mac(&site.two)], source: POD_OF_ONE, destination: to, port: PORT };
    let node_one = network(&site.one);
    let router = network(site.router.as_ref().expect("a router"));
    let client = network_of_pod(&site.one, "client");
    let from = |source: [u8; 4]| Inside { source: source.into(), ..honest };

    let forgeries: [(&str, &NetNs, &str, Inside); 8] = [
        ("by a pod, to the other node", &client, NODE_TWO, honest),
        ("by a pod, to the other node's device", &client, "10.244.2.1", honest),
        ("by a pod, to its own node", &server, NODE_TWO, honest),
        ("by a pod, to its own node's device", &server, "10.244.2.1", honest),
        ("by a host that is no node", &router, NODE_TWO, honest),
        ("from a range that no node has", &node_one, NODE_TWO, from([10, 244, 9, 9])),
        ("from a pod of the node itself", &node_one, NODE_TWO, from([10, 244, 2, 99])),
        ("from the outside", &node_one, NODE_TWO, from([203, 0, 113, 9])),
    ];
    // Each is followed by an honest one: what arrives first, or after it, tells.
    for (number, (what, network, address, inside)) in forgeries.into_iter().enumerate() {
        send(network, address, inside, "forged");
        send(&node_one, NODE_TWO, honest, &format!("honest {number}"));
        assert_eq!(next(&receiver, PATIENCE), Some((POD_OF_ONE, format!("honest {number}"))), "{what}");
        assert_eq!(next(&receiver, BRIEFLY), None, "{what}");
    }
}

fn send(network: &NetNs, address: &str, inside: Inside, text: &str) {
    let packet = vxlan(VXLAN_ID, inside, text);
    let send = || UdpSocket::bind("0.0.0.0:0").expect("bind").send_to(&packet, (address, VXLAN_PORT)).expect("sent");
    assert_eq!(network.run(send).expect("the network"), packet.len());
}

fn next(receiver: &UdpSocket, patience: Duration) -> Option<(Ipv4Addr, String)> {
    receiver.set_read_timeout(Some(patience)).expect("a time-out");
    let mut buffer = [0; 64];
    let (length, source) = receiver.recv_from(&mut buffer).ok()?;
    let IpAddr::V4(source) = source.ip() else { unreachable!("an IPv4 socket") };
    Some((source, String::from_utf8_lossy(&buffer[..length]).into_owned()))
}

/// The hardware address of a node's device.
fn mac(lab: &Lab) -> [u8; 6] {
    let text = lab.shell("ip -o link show minipod-vxlan").expect_success();
    let word = text.split_whitespace().find(|word| word.len() == 17 && word.contains(':')).expect("an address");
    let bytes: Vec<u8> = word.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
    bytes.try_into().expect("six bytes")
}
