//! The connection to the node daemon: a Kubernetes client over its unix socket.
//!
//! Decides nothing about objects. That nobody answers is told apart from what the server says, because the next step
//! is another one.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ClientBuilder};
use minipod_kernel::host::effective_uid;
use tokio::net::UnixStream;
use tower::BoxError;

/// An answer to a plain request begins within this time, or the daemon is taken to hang.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

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
    /// the connection was taken, but no answer came
    #[error(
        "`minipod node` does not answer on {} within {} s: see `minipod node status` and its log, and start it again with `sudo minipod node stop` \
         and `sudo minipod node start`; pods go on meanwhile",
        .socket.display(),
        ANSWERS_WITHIN.as_secs()
    )]
    Silent {
        /// the socket
        socket: PathBuf,
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
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let socket = socket.to_owned();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let limit = (!may_take_long(&request)).then_some(ANSWERS_WITHIN);
        let (answer, socket) = (client.request(with_authority(request)), socket.clone());
        async move {
            match limit {
                None => Ok(answer.await?),
                Some(limit) => in_time(limit, socket, answer).await,
            }
        }
    });
    ClientBuilder::new(service, "default").build()
}

async fn in_time<T, E: Into<BoxError>>(
    limit: Duration,
    socket: PathBuf,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, BoxError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(ConnectError::Silent { socket }.into()),
    }
}

/// Whether the answer may begin whenever there is something to say: watches, logs and sessions.
fn may_take_long(request: &http::Request<Body>) -> bool {
    let parameters = request.uri().query().unwrap_or_default().split('&');
    let waits = parameters.into_iter().any(|parameter| matches!(parameter, "watch=true" | "watch=1" | "follow=true"));
    let place = request.uri().path().rsplit('/').next().unwrap_or_default();
    waits || matches!(place, "log" | "exec" | "attach")
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
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = self.socket.clone();
        Box::pin(async move {
            let stream = UnixStream::connect(&socket).await;
            stream.map(TokioIo::new).map_err(|source| connect_error(&socket, source))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use kube::api::ListParams;
    use kube::client::Body;
    use kube::runtime::wait::await_condition;

    use super::{ConnectError, client, in_time, may_take_long};
    use crate::cli::failure::report;

    #[tokio::test]
    async fn a_daemon_that_takes_a_connection_and_says_nothing_is_named() {
        let never = pending::<Result<(), ConnectError>>();
        let error = in_time(Duration::from_millis(1), "/run/x/api.sock".into(), never).await.expect_err("no answer");
        let (said, _) = report(&kube::Error::Service(error).into());
        assert!(said.starts_with("error: `minipod node` does not answer on /run/x/api.sock within 30 s"), "{said}");
        assert!(said.contains("`sudo minipod node start`"), "{said}");
    }

    #[tokio::test]
    async fn a_request_and_a_wait_without_a_daemon_name_the_socket_and_the_next_step() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("api.sock");
        let expected = format!(
            "error: no `minipod node` answers on {}: start one with `sudo minipod node start`",
            socket.display()
        );
        let pods: Api<Pod> = Api::default_namespaced(client(&socket));
        let error = pods.list(&ListParams::default()).await.expect_err("nobody there");
        assert_eq!(report(&error.into()).0, expected);
        let waited = await_condition(pods, "web", |pod: Option<&Pod>| pod.is_some()).await.expect_err("nobody there");
        assert_eq!(report(&waited.into()).0, expected);
    }

    #[test]
    fn watches_logs_and_sessions_may_take_long() {
        let asked = |uri: &str| may_take_long(&http::Request::get(uri).body(Body::empty()).expect("a request"));
        for uri in ["/api/v1/pods?&watch=true&timeoutSeconds=290", "/api/v1/namespaces/a/pods/b/log?&follow=true"] {
            assert!(asked(uri), "{uri}");
        }
        for uri in ["/api/v1/namespaces/a/pods/b/exec?command=sh", "/api/v1/namespaces/a/pods/b/attach"] {
            assert!(asked(uri), "{uri}");
        }
        for uri in ["/api/v1/pods", "/api/v1/namespaces/a/pods/log-watch", "/version"] {
            assert!(!asked(uri), "{uri}");
        }
    }
}
