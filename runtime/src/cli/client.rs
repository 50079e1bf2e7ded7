//! The connection to the node daemon: a Kubernetes client over its unix socket.
//!
//! Decides nothing about objects. That nobody answers is told apart from what the server says, because the next step
//! is another one.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ClientBuilder};
use minipod_kernel::host::effective_uid;
use tokio::net::UnixStream;

/// Nobody answers on the API socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// there is no socket, or nobody listens on it
    #[error("no `minipod node` answers on {}: start one with `sudo minipod node start`", .socket.display())]
    NoDaemon {
        /// the socket
        socket: PathBuf,
    },
    /// the socket may not be used by this user
    #[error("cannot use {} as user {uid}: only root talks to the node; use `sudo minipod ...`", .socket.display())]
    Forbidden {
        /// the socket
        socket: PathBuf,
        /// the effective user
        uid: u32,
    },
    /// anything else
    #[error("cannot connect to {}", .socket.display())]
    Io {
        /// the socket
        socket: PathBuf,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
}

/// A client of the daemon behind `socket`, after a first connection has shown that it is there.
///
/// # Errors
/// [`ConnectError`] when nobody answers or this user may not ask.
pub(crate) async fn connect(socket: &Path) -> Result<kube::Client, ConnectError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| connect_error(socket, source))?;
    drop(stream);
    Ok(client(socket))
}

/// A client of the daemon behind `socket`; it connects with the first request.
pub(crate) fn client(socket: &Path) -> kube::Client {
    let connector = UnixConnector { socket: socket.to_owned() };
    let service = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let service = tower::ServiceBuilder::new().map_request(with_authority).service(service);
    ClientBuilder::new(service, "default").build()
}

/// The client library asks for paths; HTTP over TCP's rules want a host, whatever it is.
fn with_authority(mut request: http::Request<Body>) -> http::Request<Body> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = Some(http::uri::Authority::from_static("localhost"));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}

pub(crate) fn connect_error(socket: &Path, source: io::Error) -> ConnectError {
    let socket = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConnectError::NoDaemon { socket },
        io::ErrorKind::PermissionDenied => ConnectError::Forbidden { socket, uid: effective_uid() },
        _ => ConnectError::Io { socket, source },
    }
}

#[derive(Clone)]
struct UnixConnector {
    socket: PathBuf,
}

impl tower::Service<Uri> for UnixConnector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = self.socket.clone();
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(socket).await?)) })
    }
}
