//! Checksums inside of the tunnel arrive right, whatever is between the nodes.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use integration::lab::{Iptables, Lab};
use integration::wait::until;
use minipod_kernel::checksum::{offloads, set_offload};
use minipod_kernel::netns::NetNs;
use minipod_model::link::VXLAN_LINK;
use socket2::{Domain, Protocol, Socket, Type};

use crate::pods::{connect, everything_passes};
use crate::site::{Site, Underlay, addresses, network, network_of_pod, start};

/// Three questions of a second each; what one node asks while the other one is not there yet it asks again.
const PATIENCE: Duration = Duration::from_secs(20);
const BRIEFLY: Duration = Duration::from_secs(2);

#[test]
fn nodes_compute_checksums_themselves_where_those_left_to_the_hardware_are_spoiled() {
    let site = Site::with_pods(Iptables::Nft, Underlay::Bytes);
    for (lab, _) in site.nodes() {
        checksums_are_computed(lab, 1);
        assert!(lab.node_log().contains("arrive wrong at other nodes"), "{}", lab.node_log());
    }
    everything_passes(&site);

    // Without that ICMP passes, and TCP does not.
    let (client, server) = (network_of_pod(&site.one, "client"), network_of_pod(&site.two, "server"));
    let to = addresses(&site.two, "server");
    for (lab, _) in site.nodes() {
        let _ = lab.minipod(&["node", "stop"]).expect_success();
        network(lab).run(|| set_offload(VXLAN_LINK, true).expect("a change")).expect("the node");
    }
    until("an echo", PATIENCE, || is_echoed(&client, to[0]).then_some(())).expect("ICMP");
    for to in &to {
        let _listener = server.run(|| TcpListener::bind((*to, 9001)).expect("bind")).expect("server");
        let error = connect(&client, *to, BRIEFLY).expect_err("lost");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}: {error}");
    }

    // A daemon finds that out also of a device that was there before it, and tells one that is made anew.
    for (lab, place) in site.nodes() {
        start(lab, place, &[]);
    }
    for (lab, _) in site.nodes() {
        checksums_are_computed(lab, 2);
    }
    everything_passes(&site);
    let _ = site.one.shell(&format!("ip link del {VXLAN_LINK}")).expect_success();
    checksums_are_computed(&site.one, 3);
    everything_passes(&site);
}

/// What is decided stays so: the log tells that it has been.
pub(crate) fn checksums_are_left_to_the_hardware(site: &Site) {
    for (lab, _) in site.nodes() {
        until("the probe's end", PATIENCE, || lab.node_log().contains("arrive right at other nodes").then_some(()))
            .unwrap_or_else(|error| unreachable!("{error}\n{}", lab.node_log()));
        assert_eq!(is_offloading(lab), Some(true));
    }
}

/// So many times in all; while a node asks, offload is off for a moment too.
fn checksums_are_computed(lab: &Lab, times: usize) {
    let is_decided = || lab.node_log().matches("the device computes checksums itself").count() == times;
    until("offload off", PATIENCE, || (is_decided() && is_offloading(lab) == Some(false)).then_some(()))
        .unwrap_or_else(|error| unreachable!("{error}\n{}", lab.node_log()));
}

fn is_offloading(lab: &Lab) -> Option<bool> {
    network(lab).run(|| offloads(VXLAN_LINK).ok()).expect("the node")
}

/// Whether the answer to an ICMP echo request comes (RFC 792).
fn is_echoed(client: &NetNs, to: IpAddr) -> bool {
    const REQUEST: [u8; 8] = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    const IPV4_HEADER: usize = 20;
    let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("a socket");
    let mut socket = client.run(open).expect("client");
    socket.set_read_timeout(Some(BRIEFLY)).expect("a time-out");
    socket.send_to(&REQUEST, &SocketAddr::new(to, 0).into()).expect("sent");
    let mut buffer = [0; 256];
    matches!(socket.read(&mut buffer), Ok(length) if length > IPV4_HEADER && buffer[IPV4_HEADER] == 0)
}
