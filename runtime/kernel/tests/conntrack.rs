//! Tracked connections on the real kernel, in network namespaces of their own. Needs root and iptables.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use minipod_kernel::conntrack::Conntrack;
use minipod_kernel::iptables::{Iptables, Variant};
use minipod_kernel::netlink::{Request, Rtnl};
use minipod_kernel::netns::NetNs;
use minipod_model::IpFamily;

/// A namespace whose loopback is up and whose packets are tracked.
fn inside(test: impl FnOnce() + Send) {
    let ns = NetNs::create().expect("a network namespace of its own; run as root");
    ns.run(|| {
        Rtnl::open().expect("netlink").send(vec![Request::set_up(1)]).expect("lo up");
        let tool = Iptables::detect(Some(Variant::Nft)).expect("iptables is installed");
        for family in IpFamily::ALL {
            tool.restore(family, "*filter\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n")
                .expect("rules");
        }
        test();
    })
    .expect("the test");
}

fn exchange(address: &str) -> (UdpSocket, UdpSocket) {
    let server = UdpSocket::bind((address, 0)).expect("bind");
    let client = UdpSocket::bind((address, 0)).expect("bind");
    client.connect(server.local_addr().expect("address")).expect("connect");
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    }
    client.send(b"x").expect("send");
    let mut buffer = [0; 4];
    let (_, from) = server.recv_from(&mut buffer).expect("receive");
    server.send_to(b"y", from).expect("answer");
    client.recv(&mut buffer).expect("receive");
    (server, client)
}

#[test]
fn connections_are_listed_marked_and_deleted_by_address() {
    inside(|| {
        let mut tracked = Conntrack::open().expect("ctnetlink");
        for address in ["127.0.0.1", "::1"] {
            let (server, client) = exchange(address);
            let address: IpAddr = address.parse().expect("an address");
            let found = tracked.of_address(address).expect("list");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].replied);
            assert_eq!(found[0].original.protocol, 17);
            assert_eq!(found[0].original.destination_port, server.local_addr().expect("address").port());
            assert_eq!(found[0].reply.destination_port, client.local_addr().expect("address").port());
            assert_eq!(tracked.mark(&found, 0xff, 0x0f).expect("mark"), 1);
            assert_eq!(tracked.mark(&found, 0xff, 0xf00).expect("mark"), 1);
            assert_eq!(tracked.of_address(address).expect("list")[0].mark, 0x0f, "only the bits of the mask change");
            assert_eq!(tracked.mark(&found, 0xf00, 0xf00).expect("mark"), 1);
            assert_eq!(tracked.of_address(address).expect("list")[0].mark, 0xf0f, "the others stay");
            assert_eq!(tracked.delete_of(&[address]).expect("delete"), 1);
            assert_eq!(tracked.delete(&found).expect("gone already"), 0);
            assert_eq!(tracked.of_address(address).expect("list"), []);
        }
    });
}

#[test]
fn translated_connections_are_found_by_either_address() {
    inside(|| {
        let tool = Iptables::detect(Some(Variant::Nft)).expect("iptables is installed");
        tool.restore(
            IpFamily::V4,
            "*nat\n-A OUTPUT -d 127.0.0.77 -p udp -j DNAT --to-destination 127.0.0.88\nCOMMIT\n",
        )
        .expect("rules");
        let server = UdpSocket::bind("127.0.0.88:0").expect("bind");
        let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
        client.send_to(b"x", ("127.0.0.77", server.local_addr().expect("address").port())).expect("send");
        let mut tracked = Conntrack::open().expect("ctnetlink");
        let addresses = ["127.0.0.77", "127.0.0.88"].map(|a| a.parse::<IpAddr>().expect("an address"));
        for address in addresses {
            assert_eq!(tracked.of_address(address).expect("list").len(), 1, "{address}");
        }
        assert_eq!(tracked.delete_of(&addresses[1..]).expect("delete"), 1);
    });
}
