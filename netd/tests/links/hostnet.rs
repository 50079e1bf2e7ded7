//! `docs/datapath.md`, "Links and addresses": what the node itself needs.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use ipnet::IpNet;
use minipod_kernel::iptables::{Iptables, Variant};
use minipod_kernel::netlink::{Mac, NetworkChanges, Request, Route, Rtnl, VethEnd};
use minipod_kernel::netns::NetNs;
use minipod_kernel::sysctl::Sysctl;
use minipod_model::IpFamily;
use minipod_model::defaults::ROUTE_PROTOCOL;
use minipod_model::link::SERVICE_LINK;
use netd::hostnet::{HostNet, remove_all, watch_changes};
use tokio::time::timeout;

use crate::node::{Node, Pod, exchange, ip, on_a_node, ranges, socket};

/// Links, addresses, routes and the settings that may change, as text.
fn snapshot() -> Vec<String> {
    let mut rtnl = Rtnl::open().expect("netlink");
    let mut lines: Vec<String> = rtnl.links().expect("links").iter().map(|link| format!("{link:?}")).collect();
    lines.extend(rtnl.addresses(None).expect("addresses").iter().map(|address| format!("{address:?}")));
    for family in IpFamily::ALL {
        lines.extend(rtnl.routes(family).expect("routes").iter().map(|route| format!("{route:?}")));
        for link in ["all", "default", "lo"] {
            let settings: BTreeMap<&str, String> = ["forwarding", "accept_redirects", "accept_ra", "rp_filter"]
                .into_iter()
                .filter_map(|name| {
                    let value = Sysctl::of_link(family, link, name).expect("a name").read_if_present().expect("read");
                    Some((name, value?))
                })
                .collect();
            lines.push(format!("{family} {link} {settings:?}"));
        }
    }
    lines.sort();
    lines
}

/// A link to another namespace, as an uplink.
fn uplink(peer: &NetNs, name: &str) -> u32 {
    let mut rtnl = Rtnl::open().expect("netlink");
    let end = |name, last| VethEnd { name, mac: Mac([2, 0, 0, 0, 1, last]) };
    rtnl.send(vec![Request::add_veth(end(name, 1), end("peer", 2), 1450, peer)]).expect("veth");
    rtnl.link(name).expect("look up").expect("the link").index
}

#[test]
fn everything_is_put_back_by_a_reset() {
    on_a_node(|node| {
        let before = snapshot();
        let mut host = node.host();
        assert_eq!(host.families(), IpFamily::ALL);
        assert!(!host.ensure(&[]).expect("routes").is_empty());
        let (mut attacher, _) = node.open();
        let pod = Pod::new("one");
        pod.attach(&mut attacher).expect("attached");
        assert!(host.ensure(&attacher.pod_routes()).expect("routes").is_empty(), "nothing left to do");
        assert_ne!(snapshot(), before);
        drop((attacher, host));
        let removed = remove_all(&node.state_dir()).expect("reset");
        assert_eq!((removed.links, removed.node_links), (1, 1));
        assert_eq!(snapshot(), before);
        assert_eq!(remove_all(&node.state_dir()).expect("again"), netd::hostnet::Removed::default());
    });
}

#[test]
fn lost_and_stale_routes_are_repaired_and_those_of_others_stay() {
    on_a_node(|node| {
        let mut host = node.host();
        host.ensure(&[]).expect("routes");
        let wanted = snapshot();
        let mut rtnl = Rtnl::open().expect("netlink");
        let mut changes = Vec::new();
        for family in IpFamily::ALL {
            let routes = rtnl.routes(family).expect("routes");
            changes.extend(routes.iter().filter(|r| r.protocol == ROUTE_PROTOCOL).map(Request::remove_route));
        }
        for address in ["10.96.0.10", "fd00:10:96::a"] {
            changes.push(Request::remove_address(1, IpNet::from(ip(address))));
        }
        let stale: IpNet = "10.244.0.77/32".parse().expect("a network");
        changes.push(Request::add_route(&Route::to_link(stale, 1, ROUTE_PROTOCOL)));
        let foreign = Route::to_link("198.51.100.0/24".parse().expect("a network"), 1, 4);
        changes.push(Request::add_route(&foreign));
        rtnl.send(changes).expect("everything is lost");
        let repaired = host.ensure(&[]).expect("repaired");
        assert_eq!(repaired.removed, ["10.244.0.77/32 dev #1"]);
        assert_eq!(repaired.addresses, 2);
        rtnl.send(vec![Request::remove_route(&foreign)]).expect("it was left alone");
        assert_eq!(snapshot(), wanted);
        assert!(host.ensure(&[]).expect("routes").is_empty());
    });
}

#[test]
fn the_interface_for_services_is_repaired_with_its_routes_and_kept_by_a_restart() {
    on_a_node(|node| {
        let mut host = node.host();
        host.ensure(&[]).expect("routes");
        let mut rtnl = Rtnl::open().expect("netlink");
        // Number and hardware address of an interface that is made anew are others.
        let state = |rtnl: &mut Rtnl| {
            let link = rtnl.link(SERVICE_LINK).expect("look up").expect("the interface");
            let addresses = rtnl.addresses(None).expect("addresses");
            assert!(!addresses.iter().any(|address| address.link == link.index), "{addresses:?}");
            let to = |family| rtnl.routes(family).expect("routes").into_iter().filter(|r| r.protocol == ROUTE_PROTOCOL);
            let routes = IpFamily::ALL.into_iter().flat_map(to).filter(|route| route.link == Some(link.index));
            let routes: Vec<String> = routes.map(|r| format!("{} {} {:?}", r.destination, r.table, r.mtu)).collect();
            (link.up, routes)
        };
        let whole = state(&mut rtnl);
        let mtu = Some(host.mtu());
        assert_eq!(whole.1, [format!("10.96.0.0/16 254 {mtu:?}"), format!("fd00:10:96::/112 254 {mtu:?}")]);
        assert!(whole.0);
        let link = rtnl.link(SERVICE_LINK).expect("look up").expect("the interface");
        drop(host);
        let mut host = node.host();
        assert!(host.ensure(&[]).expect("routes").is_empty(), "a restart takes it over");
        assert_eq!(rtnl.link(SERVICE_LINK).expect("look up"), Some(link.clone()));
        let off = std::process::Command::new("ip").args(["link", "set", "dev", SERVICE_LINK, "down"]).status();
        assert!(off.expect("`ip` runs").success());
        assert_eq!(host.ensure(&[]).expect("repaired").added.len(), 3, "interface and routes");
        assert_eq!(state(&mut rtnl), whole);
        rtnl.send(vec![Request::remove_link(link.index)]).expect("deleted");
        assert_eq!(host.ensure(&[]).expect("repaired").added.len(), 4, "made, switched on, routes");
        assert_eq!(state(&mut rtnl), whole);
        assert!(host.ensure(&[]).expect("routes").is_empty());
    });
}

#[test]
fn a_range_that_overlaps_a_route_is_refused_and_nothing_is_changed() {
    on_a_node(|node| {
        let mut rtnl = Rtnl::open().expect("netlink");
        let route = Route::to_link("10.244.128.0/17".parse().expect("a network"), 1, 4);
        rtnl.send(vec![Request::add_route(&route)]).expect("route");
        let before = snapshot();
        std::fs::create_dir_all(node.state_dir()).expect("a directory");
        let error = HostNet::open(&node.state_dir(), &ranges(), &[]).expect_err("overlaps");
        assert_eq!(
            error.to_string(),
            "the cluster's pod range `10.244.0.0/16` overlaps the existing route `10.244.128.0/17 dev lo`; choose another with \
             `--cluster-cidr`, or remove the route"
        );
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn a_restart_finds_its_own_routes_and_addresses_and_remembers_who_switched_forwarding_on() {
    on_a_node(|node| {
        let first = {
            let mut host = node.host();
            host.ensure(&[]).expect("routes");
            host.forwarding_switched_on()
        };
        assert!(first.v4 && first.v6);
        let before = snapshot();
        let mut again = node.host();
        assert!(again.ensure(&[]).expect("routes").is_empty());
        assert_eq!(again.forwarding_switched_on(), first);
        assert_eq!(snapshot(), before);
    });
}

#[test]
fn uplinks_keep_listening_to_router_advertisements_when_forwarding_is_switched_on() {
    on_a_node(|node| {
        let other = NetNs::create().expect("a namespace");
        let link = uplink(&other, "up0");
        let default = Route::to_link("::/0".parse().expect("a network"), link, 9);
        Rtnl::open().expect("netlink").send(vec![Request::add_route(&default)]).expect("route");
        let accept = Sysctl::of_link(IpFamily::V6, "up0", "accept_ra").expect("a name");
        assert_eq!(accept.read().expect("read"), "1");
        let host = node.host();
        assert_eq!(accept.read().expect("read"), "2");
        assert_eq!(host.mtu(), 1450, "the uplink's");
        drop(host);
        remove_all(&node.state_dir()).expect("reset");
        assert_eq!(accept.read().expect("read"), "1");
    });
}

#[test]
fn what_does_not_exist_in_our_ranges_is_refused_at_once() {
    on_a_node(|node| {
        let mut host = node.host();
        let (mut attacher, _) = node.open();
        let pod = Pod::new("one");
        pod.attach(&mut attacher).expect("attached");
        host.ensure(&attacher.pod_routes()).expect("routes");
        for gone in ["10.244.0.200", "10.244.9.9", "fd00:10:244::200", "fd00:10:244:9::9"] {
            let address = ip(gone);
            let client = socket(ip(if address.is_ipv4() { "0.0.0.0" } else { "::" }), 0);
            let error = client.connect((address, 7)).expect_err("no route");
            assert!(
                matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable),
                "{gone}: {error}"
            );
        }
        // From a pod the refusal comes back as an ICMP error.
        for gone in ["10.244.0.200", "fd00:10:244::200"] {
            let error = pod.ns.run(|| ask(gone)).expect("pod");
            assert!(
                matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable),
                "{gone}: {error}"
            );
        }
    });
}

/// By TCP: a UDP socket is not told of an unreachable host.
fn ask(address: &str) -> std::io::Error {
    TcpStream::connect((ip(address), 7)).expect_err("nobody there")
}

#[test]
fn a_node_without_a_default_route_reaches_services_and_the_pod_sees_the_nodes_address() {
    on_a_node(|node| {
        let (_host, _attacher, pod, attached) = node.with_pod();
        let services = [ip("10.96.0.99"), ip("fd00:10:96::99")];
        for variant in Variant::ALL {
            let tool = Iptables::detect(Some(variant)).expect("the programs are installed");
            for (index, service) in services.into_iter().enumerate() {
                let target = attached.addresses[index].address;
                let to = std::net::SocketAddr::new(target, 7);
                let rule =
                    format!("*nat\n-A OUTPUT -d {service} -p udp --dport 53 -j DNAT --to-destination {to}\nCOMMIT\n");
                tool.restore(minipod_model::IpFamily::of(service), &rule).expect("rules");
                let server = pod.ns.run(|| socket(target, 7)).expect("pod");
                let seen = exchange(&server, (service, 53).into()).expect("the service answers");
                assert_eq!(seen, [ip("192.0.2.1"), ip("2001:db8::1")][index]);
                tool.restore(minipod_model::IpFamily::of(service), &rule.replace("-A", "-D")).expect("rules");
            }
        }
    });
}

#[test]
fn the_cluster_dns_address_answers_pods_and_is_nobodys_source() {
    on_a_node(|node| {
        let (_host, _attacher, pod, attached) = node.with_pod();
        for (index, dns) in [ip("10.96.0.10"), ip("fd00:10:96::a")].into_iter().enumerate() {
            let server = socket(dns, 53);
            let seen = pod.ns.run(|| exchange(&server, (dns, 53).into())).expect("pod").expect("answered");
            assert_eq!(seen, attached.addresses[index].address);
            let target = attached.addresses[index].address;
            let in_pod = pod.ns.run(|| socket(target, 9)).expect("pod");
            assert_ne!(exchange(&in_pod, (target, 9).into()).expect("answered"), dns);
        }
    });
}

#[test]
fn a_node_without_any_address_sends_to_its_pods_from_its_own_range() {
    let node = Node { dir: tempfile::tempdir().expect("a directory") };
    NetNs::create()
        .expect("a network namespace of its own; run as root")
        .run(|| {
            let mut host = node.host();
            host.ensure(&[]).expect("the loopback device is switched on, too");
            let (mut attacher, _) = node.open();
            let pod = Pod::new("one");
            let attached = pod.attach(&mut attacher).expect("attached");
            host.ensure(&attacher.pod_routes()).expect("routes");
            for (index, own) in [ip("10.244.0.1"), ip("fd00:10:244::1")].into_iter().enumerate() {
                let target = attached.addresses[index].address;
                let server = pod.ns.run(|| socket(target, 7)).expect("pod");
                assert_eq!(exchange(&server, (target, 7).into()).expect("answered"), own);
            }
        })
        .expect("the test");
}

#[test]
fn a_host_without_ipv6_runs_ipv4_only() {
    on_a_node(|node| {
        Sysctl::of_link(IpFamily::V6, "all", "disable_ipv6").expect("a name").write("1").expect("switched off");
        let mut host = node.host();
        assert_eq!(host.families(), [IpFamily::V4]);
        host.ensure(&[]).expect("routes");
        assert!(host.ensure(&[]).expect("routes").is_empty());
        assert_eq!(host.ranges().node.len(), 1);
    });
}

#[test]
fn a_lost_route_is_noticed_and_its_repair_is_not() {
    on_a_node(|node| {
        let mut host = node.host();
        host.ensure(&[]).expect("routes");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
            let changes = NetworkChanges::open().expect("changes");
            tokio::spawn(watch_changes(changes, ranges(), move || sender.send(()).is_ok()));
            let mut rtnl = Rtnl::open().expect("netlink");
            let routes = rtnl.routes(IpFamily::V4).expect("routes");
            let ours = routes.iter().find(|route| route.protocol == ROUTE_PROTOCOL).expect("a route of ours");
            rtnl.send(vec![Request::remove_route(ours)]).expect("lost");
            timeout(Duration::from_secs(20), told.recv()).await.expect("noticed");
            assert_eq!(host.ensure(&[]).expect("repaired").added.len(), 1);
            let again = timeout(Duration::from_secs(2), told.recv()).await;
            assert!(again.is_err(), "our own repair is taken for a change of others");
        });
    });
}
