//! Links, addresses, routes, neighbours on the real kernel, in network namespaces of their own. Needs root.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;
use minipod_kernel::netlink::{
    AddressFlag, Forwarding, Ipv4Setting, Link, MAIN_TABLE, Mac, Neighbour, NetworkChange, NetworkChanges, Request,
    Route, RouteKind, Rtnl, VethEnd, Vxlan,
};
use minipod_kernel::netns::NetNs;
use minipod_kernel::sysctl::Sysctl;
use minipod_model::IpFamily;

const PROTOCOL: u8 = 109;

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn namespace() -> NetNs {
    NetNs::create().expect("a network namespace of its own; run as root")
}

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

/// A pair between two namespaces: the numbers of both ends.
fn pair(node: &NetNs, pod: &NetNs) -> (u32, u32) {
    let host = node
        .run(|| {
            let mut rtnl = Rtnl::open().expect("netlink");
            let ends = [VethEnd { name: "mpodtest", mac: mac(1) }, VethEnd { name: "eth0", mac: mac(2) }];
            rtnl.send(vec![Request::add_veth(ends[0], ends[1], 1400, pod)]).expect("veth");
            let link = rtnl.link("mpodtest").expect("look up").expect("the link");
            assert_eq!((link.mac, link.mtu, link.up, link.kind.as_deref()), (Some(mac(1)), 1400, true, Some("veth")));
            link.index
        })
        .expect("node");
    let peer = pod
        .run(|| {
            let mut rtnl = Rtnl::open().expect("netlink");
            let link = rtnl.link("eth0").expect("look up").expect("the link");
            assert_eq!((link.mac, link.mtu, link.up), (Some(mac(2)), 1400, false));
            link.index
        })
        .expect("pod");
    (host, peer)
}

#[test]
fn a_pair_made_in_one_request_carries_packets_without_arp() {
    let (node, pod) = (namespace(), namespace());
    let (host, peer) = pair(&node, &pod);
    for (pod_address, gateway) in [(ip("10.1.0.5"), ip("169.254.1.1")), (ip("fd00:1::5"), ip("fe80::1"))] {
        pod.run(|| {
            let mut rtnl = Rtnl::open().expect("netlink");
            let mut requests = vec![
                Request::set_up(1),
                Request::set_up(peer),
                Request::add_address(peer, pod_address.into(), AddressFlag::Ordinary, 0),
            ];
            if gateway.is_ipv4() {
                requests.push(Request::add_route(&Route::to_link(gateway.into(), peer, 3)));
            }
            let default = if gateway.is_ipv4() { net("0.0.0.0/0") } else { net("::/0") };
            requests.push(Request::add_route(&Route::to_link(default, peer, 3).via(gateway)));
            requests.push(Request::set_neighbour(peer, gateway, mac(1)));
            rtnl.send(requests).expect("pod side");
        })
        .expect("pod");
        node.run(|| {
            let mut rtnl = Rtnl::open().expect("netlink");
            let family = IpFamily::of(pod_address);
            let source = if gateway.is_ipv4() { ip("192.0.2.1") } else { ip("2001:db8::1") };
            rtnl.send(vec![
                Request::set_up(1),
                Request::add_address(1, source.into(), AddressFlag::Ordinary, 0),
                Request::add_route(&Route::to_link(pod_address.into(), host, PROTOCOL)),
                Request::set_neighbour(host, pod_address, mac(2)),
            ])
            .expect("host side");
            let ours: Vec<Route> =
                rtnl.routes(family).expect("routes").into_iter().filter(|r| r.protocol == PROTOCOL).collect();
            assert_eq!(ours.len(), 1);
            assert_eq!((ours[0].destination, ours[0].link), (pod_address.into(), Some(host)));
            let neighbours = rtnl.neighbours(family).expect("neighbours");
            assert!(
                neighbours.iter().any(|n| n.address == pod_address && n.mac == Some(mac(2)) && n.permanent),
                "{neighbours:?}"
            );
        })
        .expect("node");
        let server = pod.run(|| UdpSocket::bind((pod_address, 7)).expect("bind")).expect("pod");
        server.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        let client = node
            .run(|| UdpSocket::bind(if gateway.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("bind"))
            .expect("node");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        client.send_to(b"hello", (pod_address, 7)).expect("send");
        let mut buffer = [0; 16];
        let (length, from) = server.recv_from(&mut buffer).expect("the pod hears");
        server.send_to(&buffer[..length], from).expect("answer");
        assert_eq!(client.recv(&mut buffer).expect("the node hears"), 5);
    }
}

#[test]
fn what_exists_is_refused_by_name_and_what_is_absent_is_fine_to_remove() {
    let (node, pod) = (namespace(), namespace());
    let (host, _) = pair(&node, &pod);
    node.run(|| {
        let mut rtnl = Rtnl::open().expect("netlink");
        let end = VethEnd { name: "mpodtest", mac: mac(1) };
        let error = rtnl
            .send(vec![Request::add_veth(end, VethEnd { name: "eth1", mac: mac(3) }, 1400, &pod)])
            .expect_err("the name is taken");
        assert_eq!(error.to_string(), "cannot create interface `mpodtest` with `eth1` in the pod");
        assert_eq!(error.errno(), Some(nix::errno::Errno::EEXIST));
        for _ in 0..2 {
            rtnl.send(vec![
                Request::remove_route(&Route::to_link(net("10.9.0.0/16"), host, PROTOCOL)),
                Request::remove_address(host, net("10.9.0.1/32")),
                Request::remove_link(host),
            ])
            .expect("removed, or gone already");
            assert_eq!(rtnl.link("mpodtest").expect("look up"), None);
        }
    })
    .expect("node");
}

#[test]
fn one_send_of_many_requests_reports_each_refusal() {
    namespace()
        .run(|| {
            let mut rtnl = Rtnl::open().expect("netlink");
            let mut requests = vec![Request::set_up(1)];
            for n in 0..200_u8 {
                let destination = IpNet::from(IpAddr::from([10, 0, 0, n]));
                requests.push(Request::add_route(&Route::unreachable(destination, PROTOCOL)));
                if n % 50 == 0 {
                    requests.push(Request::set_up(4711));
                }
            }
            let failures = rtnl.try_each(requests).expect("sent");
            assert_eq!(failures.len(), 4);
            assert_eq!(failures[0].to_string(), "cannot switch interface #4711 on");
            let routes = rtnl.routes(IpFamily::V4).expect("routes");
            let ours = routes.iter().filter(|r| r.protocol == PROTOCOL && r.kind == RouteKind::Unreachable);
            assert_eq!(ours.count(), 200);
        })
        .expect("the test");
}

#[test]
fn ipv4_settings_travel_with_the_link() {
    let (node, pod) = (namespace(), namespace());
    let (host, _) = pair(&node, &pod);
    node.run(|| {
        let mut rtnl = Rtnl::open().expect("netlink");
        let settings = [
            (Ipv4Setting::RpFilter, 1),
            (Ipv4Setting::Forwarding, 1),
            (Ipv4Setting::AcceptRedirects, 0),
            (Ipv4Setting::SendRedirects, 0),
            (Ipv4Setting::ProxyArp, 0),
        ];
        rtnl.send(vec![Request::configure(host, &settings, true)]).expect("configured");
        for (name, value) in [
            ("rp_filter", "1"),
            ("forwarding", "1"),
            ("accept_redirects", "0"),
            ("send_redirects", "0"),
            ("proxy_arp", "0"),
        ] {
            let setting = Sysctl::of_link(IpFamily::V4, "mpodtest", name).expect("a name");
            assert_eq!(setting.read().expect("read"), value, "{name}");
        }
        let mode = Sysctl::of_link(IpFamily::V6, "mpodtest", "addr_gen_mode").expect("a name");
        assert_eq!(mode.read().expect("read"), "1");
    })
    .expect("node");
}

#[test]
fn routes_and_addresses_are_seen() {
    namespace()
        .run(|| {
            let mut rtnl = Rtnl::open().expect("netlink");
            for dns in [net("10.96.0.10/32"), net("fd00:10:96::a/128")] {
                let family = IpFamily::of(dns.addr());
                for _ in 0..2 {
                    rtnl.send(vec![Request::add_address(1, dns, AddressFlag::NeverSource, PROTOCOL)]).expect("address");
                }
                let found = rtnl.addresses(Some(family)).expect("addresses");
                assert!(found.iter().any(|a| a.net == dns && a.link == 1 && a.protocol == PROTOCOL), "{found:?}");
            }
            let default = Route::unreachable(net("0.0.0.0/0"), PROTOCOL);
            rtnl.send(vec![Request::add_route(&default), Request::replace_route(&default)]).expect("route");
            let found = rtnl.routes(IpFamily::V4).expect("routes");
            assert!(found.contains(&Route { table: MAIN_TABLE, ..default }), "{found:?}");
        })
        .expect("the test");
}

#[test]
fn what_is_sent_to_a_bridge_without_ports_is_swallowed_without_a_question() {
    namespace()
        .run(|| {
            let mut rtnl = Rtnl::open().expect("netlink");
            rtnl.send(vec![Request::add_bridge("minipod-svc")]).expect("a bridge");
            let again = rtnl.send(vec![Request::add_bridge("minipod-svc")]).expect_err("there is one");
            assert!(again.is_exists(), "{again}");
            let link = rtnl.link("minipod-svc").expect("look up").expect("the link");
            assert!(!link.up && link.kind.as_deref() == Some("bridge"), "{link:?}");
            rtnl.send(vec![
                Request::set_up(1),
                Request::configure(link.index, &[], true),
                Request::set_up(link.index),
                Request::add_address(1, net("192.0.2.1/32"), AddressFlag::Ordinary, PROTOCOL),
                Request::add_address(1, net("2001:db8::1/128"), AddressFlag::Ordinary, PROTOCOL),
                Request::add_route(&Route::to_link(net("10.96.0.0/16"), link.index, PROTOCOL)),
                Request::add_route(&Route::to_link(net("fd00:10:96::/112"), link.index, PROTOCOL)),
            ])
            .expect("routes");
            let addresses = rtnl.addresses(None).expect("addresses");
            assert!(!addresses.iter().any(|address| address.link == link.index), "{addresses:?}");
            for (own, far) in [("192.0.2.1", "10.96.0.1"), ("2001:db8::1", "fd00:10:96::1")] {
                rtnl.wait_until_local(own.parse().expect("an address"), Duration::from_secs(5)).expect("look up");
                let socket = UdpSocket::bind((own, 0)).expect("a socket");
                socket.send_to(b"x", (far, 9)).expect("it leaves");
                let family = IpFamily::of(far.parse().expect("an address"));
                let asked = rtnl.neighbours(family).expect("neighbours");
                let unknown = |n: &&Neighbour| n.link == link.index && n.mac.is_none();
                assert_eq!(asked.iter().find(unknown), None, "nobody is asked for");
            }
        })
        .expect("the test");
}

#[test]
fn links_are_deleted_together() {
    let (node, pod) = (namespace(), namespace());
    node.run(|| {
        let mut rtnl = Rtnl::open().expect("netlink");
        let mut made = Vec::new();
        for n in 0..5_u8 {
            let (host, peer) = (format!("mpod{n}"), format!("eth{n}"));
            let host_end = VethEnd { name: &host, mac: mac(n + 10) };
            let peer_end = VethEnd { name: &peer, mac: mac(n + 20) };
            rtnl.send(vec![Request::add_veth(host_end, peer_end, 1500, &pod)]).expect("veth");
            made.push(rtnl.link(&host).expect("look up").expect("the link").index);
        }
        assert!(rtnl.remove_links(&made[1..]).expect("sent").is_empty());
        let left: Vec<u32> = rtnl.links().expect("links").into_iter().map(|l| l.index).filter(|i| *i != 1).collect();
        assert_eq!(left, made[..1]);
        assert!(rtnl.remove_links(&made).expect("sent").is_empty(), "those that are gone are fine");
        assert_eq!(rtnl.links().expect("links").len(), 1);
    })
    .expect("node");
}

#[test]
fn changes_are_told_as_they_come() {
    let destination = net("0.0.0.0/0");
    let route = |present| NetworkChange::Route { destination, protocol: PROTOCOL, present };
    let expected = [
        NetworkChange::Link { name: "lo".into(), up: true },
        NetworkChange::Address,
        route(true),
        route(false),
        NetworkChange::Link { name: "lo".into(), up: false },
    ];
    let told = async {
        let mut changes = NetworkChanges::open().expect("changes");
        let mut rtnl = Rtnl::open().expect("netlink");
        let default = Route::unreachable(destination, PROTOCOL);
        let requests = vec![
            Request::set_up(1),
            Request::add_address(1, net("192.0.2.1/32"), AddressFlag::Ordinary, PROTOCOL),
            Request::add_route(&default),
            Request::remove_route(&default),
        ];
        rtnl.send(requests).expect("changed");
        let off = std::process::Command::new("ip").args(["link", "set", "dev", "lo", "down"]).status();
        assert!(off.expect("`ip` runs").success());
        // What the kernel adds by itself, as the local routes of an address, may come between.
        for change in expected {
            let wait = async { while changes.next().await.expect("told") != change {} };
            tokio::time::timeout(Duration::from_secs(5), wait).await.unwrap_or_else(|_| unreachable!("{change:?}"));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    namespace().run(|| runtime.block_on(told)).expect("the test");
}

/// The device, switched on.
fn vxlan(rtnl: &mut Rtnl, own: Mac, how: &Vxlan) -> Link {
    rtnl.send(vec![Request::add_vxlan("tunnel", own, 1400, how)]).expect("a device");
    let link = rtnl.link("tunnel").expect("look up").expect("the device");
    rtnl.send(vec![Request::set_up(link.index)]).expect("on");
    link
}

#[test]
fn a_vxlan_device_is_listed_as_it_was_made() {
    namespace()
        .run(|| {
            let mut rtnl = Rtnl::open().expect("netlink");
            rtnl.send(vec![Request::set_up(1)]).expect("loopback");
            for local in [ip("192.0.2.1"), ip("2001:db8::1")] {
                let how = Vxlan { id: 0x6d70, port: 4789, local, learning: false };
                let link = vxlan(&mut rtnl, mac(9), &how);
                assert_eq!((link.mac, link.mtu, link.up, link.vxlan), (Some(mac(9)), 1400, false, Some(how)));
                rtnl.send(vec![Request::set_mtu(link.index, 1350)]).expect("MTU");
                let link = rtnl.link("tunnel").expect("look up").expect("the device");
                assert_eq!((link.mtu, link.up, link.kind.as_deref()), (1350, true, Some("vxlan")));

                let far = if local.is_ipv4() { "192.0.2.2" } else { "2001:db8::2" };
                let entries = [3, 4].map(|n| Forwarding { mac: mac(n), to: ip(far) });
                rtnl.send(entries.iter().map(|e| Request::set_forwarding(link.index, e)).collect()).expect("entries");
                let mut found = rtnl.forwardings(link.index).expect("entries");
                found.sort();
                assert_eq!(found, entries);
                let moved =
                    Forwarding { to: ip(if local.is_ipv4() { "192.0.2.3" } else { "2001:db8::3" }), ..entries[0] };
                for _ in 0..2 {
                    rtnl.send(vec![
                        Request::set_forwarding(link.index, &moved),
                        Request::remove_forwarding(link.index, &entries[1]),
                    ])
                    .expect("changed, or as it was");
                    assert_eq!(rtnl.forwardings(link.index).expect("entries"), [moved]);
                }
                assert_eq!(rtnl.forwardings(1).expect("entries"), []);
                rtnl.send(vec![Request::remove_link(link.index)]).expect("removed");
            }
        })
        .expect("the test");
}

#[test]
fn a_next_hop_can_be_on_a_link_that_no_address_leads_to() {
    namespace()
        .run(|| {
            let mut rtnl = Rtnl::open().expect("netlink");
            let how = Vxlan { id: 7, port: 4789, local: ip("127.0.0.1"), learning: false };
            rtnl.send(vec![Request::set_up(1)]).expect("loopback");
            let link = vxlan(&mut rtnl, mac(9), &how).index;
            for (own, range, hop) in
                [("10.1.0.1/32", "10.1.1.0/24", "10.1.1.1"), ("fd00:1::1/128", "fd00:1:0:1::/64", "fd00:1:0:1::1")]
            {
                let (range, hop) = (net(range), ip(hop));
                let family = IpFamily::of(hop);
                let around = IpNet::new(range.addr(), 20).expect("a network").trunc();
                let route = Route::to_link(range, link, PROTOCOL).via(hop).onlink();
                let route = if family == IpFamily::V6 { route.metric(1024) } else { route };
                rtnl.send(vec![
                    Request::add_address(link, net(own), AddressFlag::Ordinary, PROTOCOL),
                    Request::replace_route(&Route::unreachable(around, PROTOCOL)),
                    Request::replace_route(&route),
                    Request::replace_route(&route),
                    Request::set_neighbour(link, hop, mac(3)),
                ])
                .expect("a route");
                assert!(rtnl.routes(family).expect("routes").contains(&route));
                assert_eq!(rtnl.route_to(hop).expect("asked"), Some(route.clone()));
                let known =
                    |rtnl: &mut Rtnl| rtnl.neighbours(family).expect("neighbours").iter().any(|n| n.address == hop);
                assert!(known(&mut rtnl));
                for _ in 0..2 {
                    rtnl.send(vec![Request::remove_route(&route), Request::remove_neighbour(link, hop)])
                        .expect("removed");
                    assert!(!known(&mut rtnl) && !rtnl.routes(family).expect("routes").contains(&route));
                }
            }
            assert_eq!(rtnl.route_to(ip("198.51.100.1")).expect("asked"), None, "nothing leads there");
        })
        .expect("the test");
}
