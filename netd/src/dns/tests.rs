//! The server on loopback, asked with real messages, with resolvers of the tests behind it.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use netd_policy::object::{Endpoint, EndpointSlice, Namespace, ObjectKey, Service, ServiceKind, ServicePort};
use netd_policy::{Change, Index, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::forward::{ForwardError, Via};
use super::tcp::OF_ONE_CLIENT;
use super::{DnsServer, Forwarder, Records, Upstreams};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PATIENCE: Duration = Duration::from_secs(20);

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name");
    name.set_fqdn(true);
    name
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Services `web` (cluster IPs), `many` (headless, 100 endpoints), `out` (example.com) and `circle` in namespace `x`.
fn records() -> Records {
    let service = |name: &str, kind| {
        Change::Service(Service {
            key: ObjectKey::new("x", name),
            kind,
            ports: vec![ServicePort { name: "http".into(), protocol: minipod_model::Protocol::Tcp, port: 80 }],
            affinity_seconds: None,
            node_local: false,
            publish_not_ready: false,
        })
    };
    let endpoints = (1..=100).map(|number| Endpoint {
        address: Ipv4Addr::new(10, 244, 1, number).into(),
        ready: true,
        hostname: None,
        node: None,
        pod: None,
    });
    let mut index = Index::new(Options::new("here"));
    for change in [
        Change::Namespace(Namespace { name: "x".into(), labels: [].into() }),
        service("web", ServiceKind::ClusterIp(vec![address("10.96.0.20"), address("fd00:10:96::14")])),
        service("many", ServiceKind::Headless),
        service("out", ServiceKind::ExternalName("example.com".into())),
        service("inner", ServiceKind::ExternalName("web.x.svc.cluster.local".into())),
        service("circle", ServiceKind::ExternalName("circle.x.svc.cluster.local".into())),
        Change::Slice(EndpointSlice {
            key: ObjectKey::new("x", "many"),
            service: Some("many".into()),
            endpoints: endpoints.collect(),
            ports: vec![],
        }),
    ] {
        index.apply(change);
    }
    Records::of(index.cluster())
}

async fn server(upstreams: Vec<SocketAddr>) -> DnsServer {
    let forwarder = || Forwarder::new(Upstreams::Fixed(upstreams.clone()));
    // A port that the kernel gave for UDP may be taken for TCP.
    for _ in 0..20 {
        if let Ok(server) = DnsServer::bind(&[LOOPBACK], forwarder()).await {
            return server;
        }
    }
    DnsServer::bind(&[LOOPBACK], forwarder()).await.expect("a free port on loopback")
}

async fn ready(upstreams: Vec<SocketAddr>) -> DnsServer {
    let server = server(upstreams).await;
    server.publish(records());
    server
}

fn query(text: &str, kind: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.id = 4711;
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name(text), kind));
    query
}

async fn by_udp(server: &DnsServer, query: &Message) -> Message {
    let socket = UdpSocket::bind(LOOPBACK).await.expect("a socket");
    socket.connect(server.addresses()[0]).await.expect("connected");
    socket.send(&query.to_vec().expect("a message")).await.expect("sent");
    let mut buffer = vec![0; 65_535];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer in time").expect("received");
    Message::from_vec(&buffer[..length]).expect("a message")
}

async fn by_tcp(server: &DnsServer, query: &Message) -> Message {
    let mut stream = TcpStream::connect(server.addresses()[0]).await.expect("connected");
    ask_over(&mut stream, query).await.expect("answered")
}

/// Asks over a connection; an error is its end.
async fn ask_over(stream: &mut TcpStream, query: &Message) -> std::io::Result<Message> {
    let bytes = query.to_vec().expect("a message");
    stream.write_u16(u16::try_from(bytes.len()).expect("short")).await?;
    stream.write_all(&bytes).await?;
    let read = async {
        let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut buffer).await.map(|_| buffer)
    };
    let answer = timeout(PATIENCE, read).await.expect("an answer in time")?;
    Ok(Message::from_vec(&answer).expect("a message"))
}

/// Addresses in the answer section.
fn addresses(message: &Message) -> Vec<IpAddr> {
    let addresses = message.answers.iter().filter_map(|record| match &record.data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    });
    addresses.collect()
}

/// A resolver of the test on UDP: answers every question with what `answer` makes of it, in that order. It ends with the handle.
async fn resolver(answer: impl Fn(Message) -> Vec<Message> + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind(LOOPBACK).await.expect("a socket");
    let at = socket.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let asked = Message::from_vec(&buffer[..length]).expect("a message");
            for message in answer(asked) {
                socket.send_to(&message.to_vec().expect("a message"), client).await.expect("sent");
            }
        }
    });
    (at, task)
}

fn response_to(asked: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(asked.metadata.id, asked.metadata.op_code);
    response.metadata.response_code = code;
    response.metadata.recursion_available = true;
    response.add_queries(asked.queries.clone());
    response
}

fn with_address(asked: &Message, ip: Ipv4Addr) -> Message {
    let mut response = response_to(asked, ResponseCode::NoError);
    response.add_answer(Record::from_rdata(asked.queries[0].name().clone(), 60, RData::A(A(ip))));
    response
}

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

#[tokio::test]
async fn services_resolve_in_both_families_by_both_protocols() {
    let server = ready(vec![]).await;
    for (kind, expected) in [(RecordType::A, "10.96.0.20"), (RecordType::AAAA, "fd00:10:96::14")] {
        let query = query("web.x.svc.cluster.local.", kind);
        for answer in [by_udp(&server, &query).await, by_tcp(&server, &query).await] {
            assert_eq!(answer.metadata.id, 4711);
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
            assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
            assert_eq!(addresses(&answer), [address(expected)]);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn names_are_matched_in_any_case_and_come_back_as_they_were_asked() {
    let server = ready(vec![]).await;
    let answer = by_udp(&server, &query("WeB.x.Svc.CLUSTER.local.", RecordType::A)).await;
    assert!(answer.queries[0].name().eq_case(&name("WeB.x.Svc.CLUSTER.local.")));
    assert!(answer.answers[0].name.eq_case(&name("WeB.x.Svc.CLUSTER.local.")));
}

#[tokio::test]
async fn what_does_not_exist_and_what_has_no_such_records_differ_and_say_for_how_long() {
    let server = ready(vec![]).await;
    for (text, code) in
        [("nope.x.svc.cluster.local.", ResponseCode::NXDomain), ("x.svc.cluster.local.", ResponseCode::NoError)]
    {
        let answer = by_udp(&server, &query(text, RecordType::A)).await;
        assert_eq!(answer.metadata.response_code, code, "{text}");
        assert!(answer.answers.is_empty());
        assert_eq!(answer.authorities.len(), 1);
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    }
}

#[tokio::test]
async fn before_the_first_records_nothing_is_denied() {
    let server = server(vec![]).await;
    let query = query("web.x.svc.cluster.local.", RecordType::A);
    assert_eq!(by_udp(&server, &query).await.metadata.response_code, ResponseCode::ServFail);
    server.publish(records());
    assert_eq!(by_udp(&server, &query).await.metadata.response_code, ResponseCode::NoError);
}

#[tokio::test]
async fn an_answer_that_is_too_long_for_a_datagram_comes_by_tcp() {
    let server = ready(vec![]).await;
    let query = query("many.x.svc.cluster.local.", RecordType::A);
    let short = by_udp(&server, &query).await;
    assert!(short.metadata.truncation);
    assert!(short.to_vec().expect("a message").len() <= 512);
    let whole = by_tcp(&server, &query).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(addresses(&whole).len(), 100);
    let mut larger = query.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    larger.set_edns(edns);
    let longer = by_udp(&server, &larger).await;
    let length = longer.to_vec().expect("a message").len();
    assert!(longer.metadata.truncation && (513..=1232).contains(&length), "{length}");
}

#[tokio::test]
async fn service_records_carry_the_addresses_of_their_targets() {
    let server = ready(vec![]).await;
    let answer = by_udp(&server, &query("_http._tcp.web.x.svc.cluster.local.", RecordType::SRV)).await;
    assert!(matches!(&answer.answers[0].data, RData::SRV(srv) if srv.port == 80));
    assert_eq!(answer.additionals.len(), 2);
}

#[tokio::test]
async fn addresses_of_services_have_names_and_others_are_asked_for_outside() {
    let (upstream, _running) = resolver(|asked| vec![response_to(&asked, ResponseCode::NXDomain)]).await;
    let server = ready(vec![upstream]).await;
    let answer = by_udp(&server, &query("20.0.96.10.in-addr.arpa.", RecordType::PTR)).await;
    assert!(matches!(&answer.answers[0].data, RData::PTR(ptr) if ptr.0 == name("web.x.svc.cluster.local.")));
    let answer = by_udp(&server, &query("1.2.0.192.in-addr.arpa.", RecordType::PTR)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    assert!(!answer.metadata.authoritative);
}

#[tokio::test]
async fn other_names_are_forwarded() {
    let (upstream, _running) = resolver(|asked| {
        assert!(asked.metadata.recursion_desired);
        vec![with_address(&asked, OUTSIDE)]
    })
    .await;
    let server = ready(vec![upstream]).await;
    let answer = by_udp(&server, &query("www.example.com.", RecordType::A)).await;
    assert_eq!(addresses(&answer), [IpAddr::V4(OUTSIDE)]);
    assert!(!answer.metadata.authoritative);
}

#[tokio::test]
async fn what_came_by_tcp_is_forwarded_by_tcp() {
    let listener = TcpListener::bind(LOOPBACK).await.expect("a listener");
    let server = ready(vec![listener.local_addr().expect("an address")]).await;
    let upstream = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut buffer = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut buffer).await.expect("received");
        let answer =
            with_address(&Message::from_vec(&buffer).expect("a message"), OUTSIDE).to_vec().expect("a message");
        stream.write_u16(u16::try_from(answer.len()).expect("short")).await.expect("sent");
        stream.write_all(&answer).await.expect("sent");
    };
    let question = query("www.example.com.", RecordType::A);
    let (answer, ()) = tokio::join!(by_tcp(&server, &question), upstream);
    assert_eq!(addresses(&answer), [IpAddr::V4(OUTSIDE)]);
}

#[tokio::test]
async fn an_external_name_is_followed_within_the_cluster_and_outside() {
    let (upstream, _running) = resolver(|asked| vec![with_address(&asked, OUTSIDE)]).await;
    let server = ready(vec![upstream]).await;
    for (text, target, expected) in [
        ("out.x.svc.cluster.local.", "example.com.", IpAddr::V4(OUTSIDE)),
        ("inner.x.svc.cluster.local.", "web.x.svc.cluster.local.", address("10.96.0.20")),
    ] {
        let answer = by_udp(&server, &query(text, RecordType::A)).await;
        assert_eq!(answer.answers[0].data, RData::CNAME(CNAME(name(target))));
        assert_eq!(addresses(&answer), [expected]);
    }
    let answer = by_udp(&server, &query("circle.x.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn a_resolver_that_fails_or_is_not_there_is_passed_over() {
    let (failing, _failing) = resolver(|asked| vec![response_to(&asked, ResponseCode::ServFail)]).await;
    let (good, _good) = resolver(|asked| vec![with_address(&asked, OUTSIDE)]).await;
    let gone = UdpSocket::bind(LOOPBACK).await.expect("a socket").local_addr().expect("an address");
    let server = ready(vec![gone, failing, good]).await;
    let answer = by_udp(&server, &query("www.example.com.", RecordType::A)).await;
    assert_eq!(addresses(&answer), [IpAddr::V4(OUTSIDE)]);
    let server = ready(vec![gone, failing]).await;
    let answer = by_udp(&server, &query("www.example.com.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_taken() {
    let (upstream, _running) = resolver(|asked| {
        let forged = Ipv4Addr::new(203, 0, 113, 66);
        let mut wrong_id = with_address(&asked, forged);
        wrong_id.metadata.id = wrong_id.metadata.id.wrapping_add(1);
        let mut wrong_name = with_address(&asked, forged);
        wrong_name.queries = vec![Query::query(name("other.example.com."), RecordType::A)];
        vec![wrong_id, wrong_name, with_address(&asked, OUTSIDE)]
    })
    .await;
    let server = ready(vec![upstream]).await;
    let answer = by_udp(&server, &query("www.example.com.", RecordType::A)).await;
    assert_eq!(addresses(&answer), [IpAddr::V4(OUTSIDE)]);
}

#[tokio::test]
async fn without_a_resolver_forwarding_fails() {
    let server = ready(vec![]).await;
    let answer = by_udp(&server, &query("www.example.com.", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn silent_resolvers_are_given_up_in_time() {
    let (silent, _running) = resolver(|_| vec![]).await;
    let mut forwarder = Forwarder::new(Upstreams::Fixed(vec![silent]));
    forwarder.patience = (Duration::from_millis(10), Duration::from_millis(15));
    let question = query("www.example.com.", RecordType::A).to_vec().expect("a message");
    let error = forwarder.ask(&question, Via::Udp).await.expect_err("nobody answers");
    assert!(matches!(error, ForwardError::NoAnswer { tried } if tried == [silent]));
}

#[test]
fn resolvers_of_the_node_are_read_again_when_the_file_changes_and_never_include_ourselves() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("resolv.conf");
    let forwarder = Forwarder::new(Upstreams::ResolvConf { path: path.clone(), except: vec![address("10.96.0.10")] });
    assert!(forwarder.resolvers().is_empty(), "there is no file yet");
    let port_53 = |ip: &str| SocketAddr::new(address(ip), 53);
    fs::write(&path, "nameserver 10.96.0.10\nnameserver 192.0.2.1\n").expect("written");
    assert_eq!(forwarder.resolvers(), [port_53("192.0.2.1")]);
    fs::write(&path, "nameserver 0.0.0.0\nnameserver 2001:db8::1\n").expect("written");
    let later = SystemTime::now() + Duration::from_secs(1);
    File::options().write(true).open(&path).and_then(|file| file.set_modified(later)).expect("changed");
    assert_eq!(forwarder.resolvers(), [port_53("2001:db8::1")]);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = UdpSocket::bind(LOOPBACK).await.expect("a socket");
    let at = taken.local_addr().expect("an address");
    let result = DnsServer::bind(&[at], Forwarder::new(Upstreams::Fixed(vec![]))).await;
    let error = result.err().expect("the port is taken");
    assert_eq!((error.address, error.protocol), (at, "UDP"));
}

#[tokio::test]
async fn a_client_with_many_connections_is_cut_off_and_another_is_answered() {
    let server = ready(vec![]).await;
    let query = query("web.x.svc.cluster.local.", RecordType::A);
    let mut held = Vec::new();
    for _ in 0..OF_ONE_CLIENT {
        let mut stream = TcpStream::connect(server.addresses()[0]).await.expect("connected");
        ask_over(&mut stream, &query).await.expect("answered");
        held.push(stream);
    }
    let mut one_more = TcpStream::connect(server.addresses()[0]).await.expect("the kernel accepts");
    let closed = timeout(PATIENCE, one_more.read(&mut [0])).await.expect("closed at once");
    assert_eq!(closed.expect("closed"), 0);

    let other = TcpSocket::new_v4().expect("a socket");
    other.bind("127.0.0.2:0".parse().expect("an address")).expect("another client's address");
    let mut other = other.connect(server.addresses()[0]).await.expect("connected");
    for _ in 0..2 {
        let answer = ask_over(&mut other, &query).await.expect("one question after the other");
        assert_eq!(addresses(&answer), [address("10.96.0.20")]);
    }

    held.pop();
    let again = async {
        loop {
            let mut stream = TcpStream::connect(server.addresses()[0]).await.expect("connected");
            if ask_over(&mut stream, &query).await.is_ok() {
                break;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("there is room again");
}
