//! What every command needs: where the daemon is, and which namespace is meant.

use crate::node::{Directories, GivenDirectories, Started, StartedError};

use super::client::{self, ConnectError};
use super::names;

/// The options that all commands share, and the way to the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// where the daemon keeps its things
    pub(crate) directories: Directories,
    /// as the command line and the environment say it
    pub(crate) given: GivenDirectories,
    namespace: Option<String>,
}

impl Context {
    pub(crate) fn new(given: GivenDirectories, namespace: Option<String>) -> anyhow::Result<Self> {
        // An empty one is none, as with kubectl.
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        namespace.as_deref().map_or(Ok(()), names::check_namespace)?;
        Ok(Self { directories: given.complete()?, given, namespace })
    }

    /// Where the node of the run directory keeps its things, whatever else was given.
    pub(crate) fn node_directories(&self) -> Result<Directories, StartedError> {
        let started = Started::read(&self.given.run_dir)?;
        let state_dir = started.map(|started| started.state_dir);
        Ok(Directories {
            state_dir: state_dir.unwrap_or_else(|| self.directories.state_dir.clone()),
            ..self.directories.clone()
        })
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
