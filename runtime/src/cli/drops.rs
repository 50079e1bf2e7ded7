//! `drops`: packets that were dropped on this node, whose they were, and the policies that isolated the pod.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use minipod_protocol::drops::{Dropped, End, Reason};
use minipod_protocol::line::Connection;
use minipod_protocol::netd::{Envelope, Request, Response, VERSION};

use super::context::Context;
use super::out;

/// Options of `drops`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with those that come
    #[arg(short, long)]
    follow: bool,

    /// Output format: json, with one object a line
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    output: Option<String>,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<()> {
        let mut connection = ask(&context.directories.netd_socket(), self.follow)?;
        loop {
            let (drops, missed) = match connection.receive().context("netd has ended")? {
                Response::Drops { drops, missed } => (drops, missed),
                Response::Error(error) => return Err(error.into()),
                _ => {
                    anyhow::bail!("netd gives an answer that belongs to another question: use programs of one release")
                }
            };
            if missed > 0 {
                out::say(&format!("{missed} more are not shown: they came faster than they were printed"));
            }
            match self.output {
                Some(_) => out::print(&lines(&drops)?)?,
                None => out::print(&drops.iter().map(sentence).collect::<String>())?,
            }
            if !self.follow {
                return Ok(());
            }
        }
    }
}

fn ask(socket: &Path, follow: bool) -> anyhow::Result<Connection> {
    let failed = || format!("netd does not answer on `{}`; see `minipod node status`", socket.display());
    let mut connection = Connection::open(socket, None).with_context(failed)?;
    connection.send(&Envelope { version: VERSION, request: Request::Drops { follow } }).with_context(failed)?;
    Ok(connection)
}

fn lines(drops: &[Dropped]) -> anyhow::Result<String> {
    let mut text = String::new();
    for dropped in drops {
        text.push_str(&serde_json::to_string(dropped)?);
        text.push('\n');
    }
    Ok(text)
}

/// `TIME REASON PROTOCOL FROM -> TO: why`
fn sentence(dropped: &Dropped) -> String {
    let Dropped { time, reason, source, destination, protocol, .. } = dropped;
    format!("{time} {:<7} {protocol} {} -> {}: {}\n", reason.as_str(), end(source), end(destination), why(dropped))
}

fn end(End { address, port, pod }: &End) -> String {
    let address = match port {
        Some(port) => SocketAddr::new(*address, *port).to_string(),
        None => address.to_string(),
    };
    match pod {
        Some(pod) => format!("{pod} ({address})"),
        None => address,
    }
}

fn why(dropped: &Dropped) -> String {
    let policies = dropped.policies.join(", ");
    let pod = dropped.pod.as_deref().unwrap_or("a pod that is gone");
    match dropped.reason {
        Reason::Spoofed => format!("sent by {pod}, whose address this is not"),
        _ if policies.is_empty() => format!("no policy of {pod} denies it any more"),
        Reason::Egress | Reason::Ingress => format!("{pod} is isolated by {policies}"),
        Reason::Cut => format!("the connection was cut: {pod} is isolated by {policies}"),
    }
}

#[cfg(test)]
mod tests {
    use minipod_protocol::drops::{Dropped, End, Reason};

    use super::sentence;

    #[test]
    fn a_dropped_packet_is_a_sentence_with_who_and_why() {
        let end = |address: &str, port, pod: &str| End {
            address: address.parse().expect("an address"),
            port,
            pod: (!pod.is_empty()).then(|| pod.to_owned()),
        };
        let mut dropped = Dropped {
            time: "2026-01-02T03:04:05.678Z".to_owned(),
            reason: Reason::Ingress,
            source: end("10.244.0.3", Some(40_000), "x/stranger"),
            destination: end("10.244.0.2", Some(80), "x/web"),
            protocol: "TCP".to_owned(),
            pod: Some("x/web".to_owned()),
            policies: vec!["x/friends".to_owned(), "x/others".to_owned()],
        };
        let begin = "2026-01-02T03:04:05.678Z";
        assert_eq!(
            sentence(&dropped),
            format!(
                "{begin} ingress TCP x/stranger (10.244.0.3:40000) -> x/web (10.244.0.2:80): x/web is isolated by x/friends, x/others\n"
            )
        );
        dropped.policies.clear();
        assert!(sentence(&dropped).ends_with(": no policy of x/web denies it any more\n"));
        dropped = Dropped {
            reason: Reason::Spoofed,
            source: end("fd00::7", None, ""),
            protocol: "ICMP".to_owned(),
            ..dropped
        };
        assert_eq!(
            sentence(&dropped),
            format!(
                "{begin} spoofed ICMP fd00::7 -> x/web (10.244.0.2:80): sent by x/web, whose address this is not\n"
            )
        );
    }
}
