//! Questions over TCP (RFC 7766): each connection is answered in order, and each client has a few connections only, so that no pod can
//! take the node's descriptors or another pod's turn.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long a client may be silent, or leave an answer unread.
const SILENCE: Duration = Duration::from_secs(10);
/// Connections of one client. A resolver needs one or two at a time.
pub(super) const OF_ONE_CLIENT: usize = 32;
/// Connections of all clients.
const OF_ALL: usize = 1024;
/// Before accepting is tried again where the node has no descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Accepts and answers until it is dropped, and with it every connection.
pub(super) async fn serve(listener: TcpListener, handler: impl RequestHandler + Clone) {
    let clients = Clients::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    let Some(place) = clients.enter(client.ip()) else {
                        tracing::debug!(%client, "too many connections; closed");
                        continue;
                    };
                    let handler = handler.clone();
                    connections.spawn(async move {
                        if let Err(error) = converse(stream, client, &handler).await {
                            tracing::debug!(%client, %error, "connection ended");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers one question after the other until the client has no more.
async fn converse(mut stream: TcpStream, client: SocketAddr, handler: &impl RequestHandler) -> io::Result<()> {
    while let Some(question) = timeout(SILENCE, read(&mut stream)).await?? {
        let request = Request::from_bytes(question, client, Protocol::Tcp).map_err(io::Error::other)?;
        let answer = Answer::default();
        handler.handle_request::<_, TokioTime>(&request, answer.clone()).await;
        let bytes = answer.take();
        // Without an answer the client would wait; it may ask anew.
        let length = u16::try_from(bytes.len()).ok().filter(|length| *length > 0);
        let length = length.ok_or_else(|| io::Error::other("there is no answer that fits"))?;
        timeout(SILENCE, stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat())).await??;
    }
    Ok(())
}

/// One message after its length; `None` at the end.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => length?,
    };
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Keeps an answer until it is sent.
#[derive(Debug, Clone, Default)]
struct Answer(Arc<Mutex<Vec<u8>>>);

impl Answer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait::async_trait]
impl ResponseHandler for Answer {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok(info)
    }
}

/// How many connections each client has.
#[derive(Debug, Clone, Default)]
struct Clients(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place among them.
#[derive(Debug)]
struct Place {
    clients: Clients,
    client: IpAddr,
}

impl Clients {
    fn enter(&self, client: IpAddr) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.entry(client).or_default();
        let full = *own >= OF_ONE_CLIENT || all >= OF_ALL;
        if !full {
            *own += 1;
        } else if *own == 0 {
            open.remove(&client);
        }
        (!full).then(|| Place { clients: self.clone(), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.clients.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.client);
            }
        }
    }
}
