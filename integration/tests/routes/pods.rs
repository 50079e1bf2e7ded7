//! From pod to pod of another node.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use integration::api::{JSON, MERGE, request};
use integration::lab::{Iptables, Lab};
use integration::wait::until;
use minipod_kernel::netns::NetNs;
use serde_json::json;

use crate::checksums::checksums_are_left_to_the_hardware;
use crate::site::{Site, Underlay, addresses, network, network_of_pod, remote_pod, routes, start};

/// Longer than any path's MTU.
const DATAGRAM: usize = 8 * 1024;
const STREAM: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
const BRIEFLY: Duration = Duration::from_millis(300);

#[test]
fn nodes_on_one_segment_reach_each_others_pods_directly() {
    let site = Site::with_pods(Iptables::Nft, Underlay::Segment);
    for (lab, other) in [(&site.one, site.places[1]), (&site.two, site.places[0])] {
        let routes = routes(lab);
        for (range, via) in other.ranges.iter().zip(other.internal()) {
            assert!(routes.contains(&format!("{range} via {via} dev up0")), "{routes}");
        }
        assert!(!lab.shell("ip link show minipod-vxlan").succeeded(), "no device is needed");
        let sets = lab.shell("ipset list -n").expect_success();
        assert!(!sets.contains("mp-vxlan") && !sets.contains("mp-inside"), "{sets}");
    }
    everything_passes(&site);
    labels_of_remote_pods_count(&site);
}

#[test]
fn nodes_behind_a_router_reach_each_others_pods_by_vxlan_with_nft() {
    by_vxlan(Iptables::Nft);
}

#[test]
fn nodes_behind_a_router_reach_each_others_pods_by_vxlan_with_legacy() {
    by_vxlan(Iptables::Legacy);
}

fn by_vxlan(iptables: Iptables) {
    let site = Site::with_pods(iptables, Underlay::Router);
    device_has_mtu(&site, 1450);
    everything_passes(&site);
    checksums_are_left_to_the_hardware(&site);
    the_node_itself_reaches_a_service(&site);
    labels_of_remote_pods_count(&site);
}

#[test]
fn nodes_without_ipv4_between_them_reach_each_others_pods_of_both_families() {
    let site = Site::with_pods(Iptables::Nft, Underlay::RouterV6);
    device_has_mtu(&site, 1430);
    everything_passes(&site);
    checksums_are_left_to_the_hardware(&site);
}

#[test]
fn with_direct_routing_a_node_behind_a_router_is_told_by_name_and_not_reached() {
    let site = Site::new(Iptables::Nft, Underlay::Router);
    let option = ["--routing", "direct"];
    start(&site.one, site.places[0], &option);
    start(&site.two, site.places[1], &option);
    site.introduce();
    let told = "node `n2`: it is not on a link of this node, which `--routing direct` needs for pod range `10.244.2.0/24`; use `--routing auto`";
    until("the warning", PATIENCE, || site.one.node_log().contains(told).then_some(()))
        .unwrap_or_else(|error| unreachable!("{error}\n{}", site.one.node_log()));
    let status = site.one.minipod(&["node", "status"]).expect_success();
    assert!(status.contains(told), "{status}");
    assert!(!routes(&site.one).contains(" via "), "{}", routes(&site.one));
}

fn device_has_mtu(site: &Site, mtu: u32) {
    for (lab, _) in site.nodes() {
        let link = lab.shell("ip -d link show minipod-vxlan").expect_success();
        assert!(link.contains(&format!("mtu {mtu} ")) && link.contains("nolearning"), "{link}");
    }
}

/// Datagrams and streams, small and large, in both families, with the pod's own address as the source.
pub(crate) fn everything_passes(site: &Site) {
    let (client, server) = (network_of_pod(&site.one, "client"), network_of_pod(&site.two, "server"));
    let pairs = addresses(&site.one, "client").into_iter().zip(addresses(&site.two, "server"));
    let pairs: Vec<(IpAddr, IpAddr)> = pairs.collect();
    assert_eq!(pairs.len(), 2, "both families");
    for (from, to) in pairs {
        for size in [16, DATAGRAM] {
            let seen = datagram(&client, &server, from, to, size);
            assert_eq!(seen.ip(), from, "the server sees the pod itself");
        }
        stream(&client, &server, from, to);
        stream(&server, &client, to, from);
    }
}

/// Sends datagrams until one arrives: the first large one may be lost, until the sender knows the path's MTU (RFC 8201).
fn datagram(client: &NetNs, server: &NetNs, from: IpAddr, to: IpAddr, size: usize) -> SocketAddr {
    let receiver = server.run(|| UdpSocket::bind((to, 9000)).expect("bind")).expect("server");
    receiver.set_read_timeout(Some(BRIEFLY)).expect("a time-out");
    let sender = client.run(|| UdpSocket::bind((from, 0)).expect("bind")).expect("client");
    let sent = vec![7; size];
    let mut buffer = vec![0; 2 * DATAGRAM];
    until("a datagram", PATIENCE, || {
        // The path's MTU is told as an error of an earlier datagram.
        let _ = sender.send_to(&sent, (to, 9000));
        let (length, source) = receiver.recv_from(&mut buffer).ok()?;
        assert_eq!(length, size);
        Some(source)
    })
    .unwrap_or_else(|error| unreachable!("{error}: {size} bytes from {from} to {to}"))
}

fn stream(client: &NetNs, server: &NetNs, from: IpAddr, to: IpAddr) {
    let listener = server.run(|| TcpListener::bind((to, 9001)).expect("bind")).expect("server");
    let sent: Vec<u8> = (0..STREAM).map(|n| u8::try_from(n % 251).expect("small")).collect();
    let expected = sent.clone();
    let reader = std::thread::spawn(move || {
        let (mut connection, source) = listener.accept().expect("a connection");
        connection.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut received = Vec::new();
        connection.read_to_end(&mut received).map(|_| (received == expected, source.ip()))
    });
    let mut connection = connect(client, to, PATIENCE).expect("connected");
    connection.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    connection.write_all(&sent).expect("sent");
    drop(connection);
    let (is_same, source) = reader.join().expect("the reader").expect("received");
    assert!(is_same, "what arrived is what was sent");
    assert_eq!(source, from);
}

pub(crate) fn connect(client: &NetNs, to: IpAddr, patience: Duration) -> std::io::Result<TcpStream> {
    client.run(|| TcpStream::connect_timeout(&(to, 9001).into(), patience)).expect("client")
}

/// The source is chosen before anybody knows that the endpoint is on another node.
fn the_node_itself_reaches_a_service(site: &Site) {
    let (node, server) = (network(&site.one), network_of_pod(&site.two, "server"));
    let to = addresses(&site.two, "server")[0];
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "remote"},
        "spec": {"clusterIP": "10.96.0.77", "ports": [{"port": 80, "targetPort": 9002}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "remote-1", "labels": {"kubernetes.io/service-name": "remote"}},
        "endpoints": [{"addresses": [to]}], "ports": [{"port": 9002, "protocol": "TCP"}],
    });
    request(&site.one, "POST", "/api/v1/namespaces/default/services", JSON, &service.to_string());
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    request(&site.one, "POST", slices, JSON, &slice.to_string());
    let listener = server.run(|| TcpListener::bind((to, 9002)).expect("bind")).expect("server");
    let cluster_ip: SocketAddr = "10.96.0.77:80".parse().expect("an address");
    let dial = || node.run(|| TcpStream::connect_timeout(&cluster_ip, PATIENCE)).expect("node").ok();
    let _connection = until("the service", PATIENCE, dial).expect("connected");
    let (_, source) = listener.accept().expect("a connection");
    assert_eq!(source.ip().to_string(), "10.244.1.1", "the node's own address in its range");
}

fn labels_of_remote_pods_count(site: &Site) {
    let (client, server) = (network_of_pod(&site.one, "client"), network_of_pod(&site.two, "server"));
    let (from, to) = (addresses(&site.one, "client"), addresses(&site.two, "server"));
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "friends"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
        },
    });
    let _listeners: Vec<TcpListener> =
        to.iter().map(|to| server.run(|| TcpListener::bind((*to, 9001)).expect("bind")).expect("server")).collect();
    let policies = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    request(&site.two, "POST", policies, JSON, &policy.to_string());
    wait_until_reached(&client, &to, false);
    remote_pod(&site.two, "client", &json!({"app": "friend"}), "n1", &from);
    wait_until_reached(&client, &to, true);
    let stranger = json!({"metadata": {"labels": {"app": "stranger"}}});
    request(&site.two, "PATCH", "/api/v1/namespaces/default/pods/client", MERGE, &stranger.to_string());
    wait_until_reached(&client, &to, false);
    reaches_itself_still(&site.two, &server, &to);
}

fn wait_until_reached(client: &NetNs, to: &[IpAddr], expected: bool) {
    for to in to {
        until(&format!("{to} reached: {expected}"), PATIENCE, || match connect(client, *to, BRIEFLY) {
            Ok(_) => expected.then_some(()),
            Err(error) if error.kind() == ErrorKind::TimedOut => (!expected).then_some(()),
            Err(error) => unreachable!("{to}: {error}"),
        })
        .expect("the policy");
    }
}

/// What a policy forbids it forbids to others.
fn reaches_itself_still(lab: &Lab, server: &NetNs, to: &[IpAddr]) {
    for to in to {
        assert!(connect(server, *to, PATIENCE).is_ok(), "{to} on {}", lab.cgroup());
    }
}
