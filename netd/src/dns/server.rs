//! The sockets of the cluster DNS and the way of a question through it.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, PTR, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::forward::{Forwarder, Via};
use super::records::{Answer, Records, Target};
use super::tcp;
use super::wire::{TTL, address_data, authority, full_name, plain, pointed_at, question};

/// The largest datagram that is sent: fits in every path that carries IPv6 (RFC 9715).
const LARGEST_DATAGRAM: u16 = 1232;
/// An external name that leads to another one and so on: how far it is followed within the cluster.
const MOST_ALIASES: usize = 8;

/// Why the server does not listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen for DNS on {address} ({protocol}); see with `ss -lunpt` who does, or choose another cluster DNS address"
)]
pub struct BindError {
    /// where
    pub address: SocketAddr,
    /// `UDP` or `TCP`
    pub protocol: &'static str,
    /// what the kernel said
    #[source]
    pub source: std::io::Error,
}

/// A running DNS server. It stops when it is dropped.
///
/// Owns its sockets. Answers come from the snapshot published last, whole: a question never sees half of a change. Until the first one
/// questions about the cluster's domain fail (SERVFAIL), so that nobody remembers that a name does not exist.
pub struct DnsServer {
    records: watch::Sender<Option<Arc<Records>>>,
    datagrams: Server<Answering>,
    connections: JoinSet<()>,
    addresses: Vec<SocketAddr>,
}

impl DnsServer {
    /// Listens on every address by UDP and TCP. Port 0 lets the kernel choose one for both.
    ///
    /// # Errors
    /// The first address on which it cannot listen; nothing is left open.
    pub async fn bind(listen: &[SocketAddr], forwarder: Forwarder) -> Result<Self, BindError> {
        let (records, published) = watch::channel(None);
        let answering = Answering { records: published, forwarder: Arc::new(forwarder) };
        let mut datagrams = Server::new(answering.clone());
        let mut connections = JoinSet::new();
        let mut addresses = Vec::new();
        for &address in listen {
            let refused = |protocol| move |source| BindError { address, protocol, source };
            let udp = UdpSocket::bind(address).await.map_err(refused("UDP"))?;
            let address = udp.local_addr().map_err(refused("UDP"))?;
            let listener = TcpListener::bind(address).await.map_err(refused("TCP"))?;
            datagrams.register_socket(udp);
            connections.spawn(tcp::serve(listener, answering.clone()));
            addresses.push(address);
        }
        Ok(Self { records, datagrams, connections, addresses })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Answers from these records from now on.
    pub fn publish(&self, records: Records) {
        self.records.send_replace(Some(Arc::new(records)));
    }

    /// Stops listening and waits until datagrams under way are answered; connections are closed.
    pub async fn stop(mut self) {
        self.connections.shutdown().await;
        if let Err(error) = self.datagrams.shutdown_gracefully().await {
            tracing::warn!(%error, "DNS server ended with an error");
        }
    }
}

/// Answers questions.
#[derive(Clone)]
struct Answering {
    records: watch::Receiver<Option<Arc<Records>>>,
    forwarder: Arc<Forwarder>,
}

/// The sections of an answer.
#[derive(Default)]
struct Reply {
    /// the header of the resolver that was asked; none for an answer of ours
    upstream: Option<Metadata>,
    code: ResponseCode,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

#[async_trait::async_trait]
impl RequestHandler for Answering {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let reply = self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = true;
        metadata.response_code = reply.code;
        if let Some(upstream) = reply.upstream {
            metadata.truncation = upstream.truncation;
            metadata.authentic_data = upstream.authentic_data;
            metadata.recursion_available = upstream.recursion_available;
        } else {
            metadata.authoritative = matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain);
        }
        let mut edns = Edns::new();
        edns.set_max_payload(request.max_payload().clamp(512, LARGEST_DATAGRAM));
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            builder.edns(&edns);
        }
        let message = builder.build(metadata, &reply.answers, &reply.authorities, [], &reply.additionals);
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(client = %request.src(), %error, "answer cannot be sent");
                hickory_proto::op::Header { metadata, counts: hickory_proto::op::HeaderCounts::default() }.into()
            }
        }
    }
}

impl Answering {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.message_type != MessageType::Query || request.metadata.op_code != OpCode::Query {
            return Reply::failed(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Reply::failed(ResponseCode::BADVERS);
        }
        let Ok(info) = request.request_info() else { return Reply::failed(ResponseCode::FormErr) };
        let query = info.query.original();
        if query.query_class() != DNSClass::IN {
            return Reply::failed(ResponseCode::Refused);
        }
        let via = if request.protocol() == Protocol::Udp { Via::Udp } else { Via::Tcp };
        let name = plain(query.name());
        let records = self.records.borrow().clone();
        let Some(records) = records else {
            let ours = Records::is_ours(&name) || query.query_type() == RecordType::PTR;
            return if ours {
                Reply::failed(ResponseCode::ServFail)
            } else {
                self.forward(request.as_slice(), via).await
            };
        };
        if query.query_type() == RecordType::PTR
            && let Some(address) = pointed_at(query.name())
        {
            let names = records.names_of(address);
            if !names.is_empty() {
                let data = names.iter().filter_map(|name| Some(RData::PTR(PTR(full_name(name)?))));
                return Reply::found(query.name(), data);
            }
        }
        let question = question(query.query_type());
        match records.answer(&name, question) {
            Answer::NotOurs => self.forward(request.as_slice(), via).await,
            Answer::Alias(target) => self.follow(&records, request, query, target, via).await,
            answer => own_reply(&records, query.name(), answer, usize::from(request.metadata.id)),
        }
    }

    async fn forward(&self, question: &[u8], via: Via) -> Reply {
        match self.forwarder.ask(question, via).await {
            Ok(answer) => Reply {
                upstream: Some(answer.metadata),
                code: answer.metadata.response_code,
                answers: answer.answers,
                authorities: answer.authorities,
                additionals: answer.additionals,
            },
            Err(error) => {
                tracing::debug!(%error, "question is not forwarded");
                Reply::failed(ResponseCode::ServFail)
            }
        }
    }

    /// An alias with what it stands for: clients ask once and expect the whole chain (RFC 1034 section 4.3.2).
    async fn follow(&self, records: &Records, request: &Request, query: &Query, target: String, via: Via) -> Reply {
        let mut owner = query.name().clone();
        let mut chain = Vec::new();
        let mut target = target;
        for _ in 0..MOST_ALIASES {
            let Some(target_name) = full_name(&target) else { return Reply::failed(ResponseCode::ServFail) };
            chain.push(Record::from_rdata(owner, TTL, RData::CNAME(CNAME(target_name.clone()))));
            let mut rest = match records.answer(&target, question(query.query_type())) {
                Answer::Alias(next) => {
                    (owner, target) = (target_name, next);
                    continue;
                }
                _ if query.query_type() == RecordType::CNAME => Reply::default(),
                Answer::NotOurs => {
                    let mut question = Message::query();
                    question.metadata.id = request.metadata.id;
                    question.metadata.recursion_desired = request.metadata.recursion_desired;
                    question.add_query(Query::query(target_name, query.query_type()));
                    match question.to_vec() {
                        Ok(question) => self.forward(&question, via).await,
                        Err(_) => Reply::failed(ResponseCode::ServFail),
                    }
                }
                answer => own_reply(records, &target_name, answer, usize::from(request.metadata.id)),
            };
            rest.answers.splice(0..0, chain);
            return rest;
        }
        tracing::debug!(name = %query.name(), "external names lead in a circle");
        Reply::failed(ResponseCode::ServFail)
    }
}

impl Reply {
    fn failed(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    fn found(owner: &Name, data: impl Iterator<Item = RData>) -> Self {
        let answers = data.map(|data| Record::from_rdata(owner.clone(), TTL, data)).collect();
        Self { answers, ..Self::default() }
    }

    /// Nothing, with the record that says for how long that may be remembered (RFC 2308 section 3).
    fn nothing(code: ResponseCode) -> Self {
        Self { code, authorities: authority().into_iter().collect(), ..Self::default() }
    }
}

/// An answer from the records. `turn` chooses which of several addresses comes first.
fn own_reply(records: &Records, owner: &Name, answer: Answer, turn: usize) -> Reply {
    match answer {
        Answer::Addresses(mut addresses) => {
            let first = turn % addresses.len();
            addresses.rotate_left(first);
            Reply::found(owner, addresses.into_iter().map(address_data))
        }
        Answer::Services(targets) => {
            let data = targets
                .iter()
                .filter_map(|Target { name, port }| Some(RData::SRV(SRV::new(0, 100, *port, full_name(name)?))));
            let mut reply = Reply::found(owner, data);
            for target in &targets {
                let Some(name) = full_name(&target.name) else { continue };
                let addresses = records.addresses(&target.name).into_iter();
                reply.additionals.extend(addresses.map(|ip| Record::from_rdata(name.clone(), TTL, address_data(ip))));
            }
            reply
        }
        Answer::Text(text) => Reply::found(owner, std::iter::once(RData::TXT(TXT::new(vec![text.to_owned()])))),
        Answer::NoData => Reply::nothing(ResponseCode::NoError),
        Answer::NoName => Reply::nothing(ResponseCode::NXDomain),
        Answer::Alias(_) | Answer::NotOurs => Reply::failed(ResponseCode::ServFail),
    }
}
