//! The connections of this node's pods, for whoever asks. Read from the kernel beside the engine: a pass over the table takes a while.

use std::collections::BTreeSet;
use std::net::IpAddr;

use minipod_kernel::conntrack::{Connection, Conntrack, ConntrackError};
use minipod_protocol::judge::{FirstPacket, Tracked};
use minipod_protocol::netd::{Code, Error, Response};
use netd_policy::Transport;

use crate::causes;
use crate::command::{Command, Engine};
use crate::revoke::first_packet;

/// What fits into one line of an answer.
const MOST: usize = 16_384;

/// Answers [`minipod_protocol::netd::Request::Connections`].
pub(crate) async fn of_pods(engine: &Engine) -> Result<Response, Error> {
    let (pods, node) = engine.ask(Command::Here).await?;
    let listed = tokio::task::spawn_blocking(|| Conntrack::open()?.list_all()).await;
    let refuse = |message: String, details| Error { code: Code::Io, message, details };
    let listed = listed.map_err(|error| refuse(error.to_string(), Vec::new()))?;
    let listed = listed.map_err(|error: ConntrackError| refuse(error.to_string(), causes(&error)))?;
    let mut connections: Vec<Tracked> = listed
        .iter()
        .filter(|connection| !connection.over)
        .filter_map(|connection| tracked(connection, &pods))
        .collect();
    let left_out = connections.len().saturating_sub(MOST);
    connections.truncate(MOST);
    Ok(Response::Connections { connections, left_out, node })
}

/// A connection as policy saw it, if one of its ends is one of these.
fn tracked(connection: &Connection, pods: &BTreeSet<IpAddr>) -> Option<Tracked> {
    let packet = first_packet(&connection.original, &connection.reply);
    let (protocol, port, source_port) = match packet.transport {
        Transport::Port(protocol, port) => {
            (Some(protocol.as_str().to_owned()), Some(port), Some(connection.original.source_port))
        }
        Transport::Other => (None, None, None),
    };
    let is_of_pods = [packet.source, packet.destination].iter().any(|end| pods.contains(end));
    is_of_pods.then_some(Tracked {
        packet: FirstPacket { source: packet.source, destination: packet.destination, protocol, port },
        source_port,
    })
}
