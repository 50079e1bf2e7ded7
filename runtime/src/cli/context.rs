//! What every command needs: where the daemon is, and which namespace is meant.

use crate::node::Directories;

use super::client::{self, ConnectError};

/// The options that all commands share, and the way to the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// where the daemon keeps its things
    pub(crate) directories: Directories,
    namespace: Option<String>,
}

impl Context {
    pub(crate) fn new(directories: Directories, namespace: Option<String>) -> Self {
        Self { directories, namespace }
    }

    /// The namespace that is meant.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    /// The namespace, if one was asked for.
    pub(crate) fn given_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// A client of the running daemon.
    pub(crate) async fn client(&self) -> Result<kube::Client, ConnectError> {
        client::connect(&self.directories.api_socket()).await
    }
}
