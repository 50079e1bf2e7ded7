//! A node that rejects (semantics, ruling 14): what policy denies is refused at once, and a live connection that becomes forbidden is
//! reset.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use integration::lab::{Iptables, Lab, Place};
use integration::wait::until;
use serde_json::json;

use crate::api;

const LIMIT: Duration = Duration::from_secs(20);
/// Before the first retransmission.
const AT_ONCE: Duration = Duration::from_millis(900);
const DNS: [&str; 2] = ["10.96.0.10:53", "[fd00:10:96::a]:53"];

integration::on_both_variants! {
    what_policy_denies_is_refused_as_long_as_the_node_rejects
}

fn start(lab: &Lab, deny_action: &str) {
    let _ = lab.minipod(&["node", "start", "--deny-action", deny_action]).expect_success();
}

fn dial(from: &Place, to: SocketAddr) -> Result<(), ErrorKind> {
    from.run(|| TcpStream::connect_timeout(&to, AT_ONCE)).map(drop).map_err(|error| error.kind())
}

/// A live connection, as its client has it; the server's end never answers.
fn connected(client: &Place, server: &Place, address: IpAddr) -> (TcpStream, TcpStream) {
    let listener = server.run(|| TcpListener::bind((address, 0)).expect("a listener"));
    let to = listener.local_addr().expect("an address");
    let near = client.run(|| TcpStream::connect_timeout(&to, LIMIT).expect("a connection"));
    near.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out");
    (near, listener.accept().expect("the connection").0)
}

fn is_reset(mut end: &TcpStream) -> bool {
    let said = [end.write(b"?"), end.read(&mut [0; 16])];
    said.iter().any(|said| said.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset))
}

fn what_policy_denies_is_refused_as_long_as_the_node_rejects(iptables: Iptables) {
    let lab = Lab::new("n1", iptables).expect("a lab");
    start(&lab, "reject");
    lab.pod("server", "app=server");
    lab.pod("client", "app=client");
    let [server, client] = ["server", "client"].map(|pod| Place::of_pod(&lab, "default", pod));
    let at_server = |address: &IpAddr| SocketAddr::new(*address, 8080);
    let live: Vec<_> = server.addresses.iter().map(|address| connected(&client, &server, *address)).collect();
    for address in &server.addresses {
        assert_eq!(dial(&client, at_server(address)), Ok(()), "nothing is denied yet");
    }

    let of = |app: &str, kind: &str| json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": [kind]});
    let _ = api::create_policy(&lab, "sealed", &of("server", "Ingress"));
    for (near, _far) in &live {
        until("the live connection to be reset", LIMIT, || is_reset(near).then_some(())).expect("a reset");
    }
    for address in &server.addresses {
        assert_eq!(dial(&client, at_server(address)), Err(ErrorKind::ConnectionRefused));
    }
    let _ = api::create_policy(&lab, "silent", &of("client", "Egress"));
    for (dns, prohibited) in DNS.iter().zip([ErrorKind::HostUnreachable, ErrorKind::PermissionDenied]) {
        let dns: SocketAddr = dns.parse().expect("an address");
        until("no way to the cluster DNS", LIMIT, || {
            (dial(&client, dns) == Err(ErrorKind::ConnectionRefused)).then_some(())
        })
        .expect("refused");
        let any = if dns.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let asked = client.run(|| {
            let socket = UdpSocket::bind(any)?;
            socket.connect(dns)?;
            socket.set_read_timeout(Some(AT_ONCE))?;
            socket.send(b"?")?;
            socket.recv(&mut [0; 16])
        });
        assert_eq!(asked.map_err(|error: std::io::Error| error.kind()), Err(prohibited), "{dns}");
    }

    let explained = |lab: &Lab| {
        let ran = lab.minipod(&["policy", "explain", "--from", "client", "--to", "server", "--port", "8080"]);
        assert_eq!(ran.code, Some(1), "{ran}");
        assert!(ran.stdout.contains("kernel:  the installed rules agree"), "{ran}");
    };
    explained(&lab);
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    assert_eq!(dial(&client, at_server(&server.addresses[0])), Err(ErrorKind::ConnectionRefused), "without a daemon");
    start(&lab, "drop");
    explained(&lab);
    for address in &server.addresses {
        assert_eq!(dial(&client, at_server(address)), Err(ErrorKind::TimedOut), "nobody answers");
    }
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    start(&lab, "reject");
    let _ = lab.minipod(&["node", "reset", "--yes"]).expect_success();
    let left = lab.shell("(iptables-$MINIPOD_IPTABLES-save; ip6tables-$MINIPOD_IPTABLES-save) | grep MP- || true");
    assert_eq!(left.expect_success(), "", "nothing is left");
}
