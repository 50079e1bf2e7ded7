//! What this node makes of packets, by the reference evaluator and what netd says of the node; and who decides it, in words.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use minipod_protocol::judge::{OwnNode, Tracked};
use minipod_protocol::netd::{self, Request, Response};
use netd_policy::evaluate::{Decision, Verdict, verdict};
use netd_policy::{Cluster, Packet};

/// netd answers between two changes of the node's rules.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The connections of this node's pods, how many more there are, and what is at this node.
pub(crate) fn connections(socket: &Path) -> anyhow::Result<(Vec<Tracked>, usize, OwnNode)> {
    let answer = netd::ask(socket, Request::Connections, PATIENCE)
        .with_context(|| format!("netd does not answer on `{}`; see `minipod node status`", socket.display()))?;
    match answer {
        Response::Connections { connections, left_out, node } => Ok((connections, left_out, node)),
        Response::Error(error) => Err(error.into()),
        _ => anyhow::bail!("netd gives an answer that belongs to another question: use programs of one release"),
    }
}

/// Judges a packet: the node reaches its own pods (semantics, ruling 7), and they may reach it by option (ruling 8).
pub(crate) fn judge(cluster: &Cluster, packet: &Packet, node: &OwnNode) -> Verdict {
    let mut verdict = verdict(cluster, packet);
    let of_node = |address: &IpAddr| node.addresses.contains(address);
    if of_node(&packet.source) {
        verdict.ingress = Decision::OwnNode;
    }
    if node.pod_to_node && of_node(&packet.destination) {
        verdict.egress = Decision::OwnNode;
    }
    verdict
}

/// Who decides, in a few words.
pub(crate) fn because(verdict: &Verdict) -> String {
    let ends = [("egress", &verdict.egress), ("ingress", &verdict.ingress)];
    let ends = ends.iter().filter(|(_, decision)| verdict.is_allowed() || !decision.is_allowed());
    let texts: Vec<String> =
        ends.filter_map(|(direction, decision)| Some(format!("{direction} {}", by(decision)?))).collect();
    if texts.is_empty() { "not isolated".to_owned() } else { texts.join(", ") }
}

fn by(decision: &Decision) -> Option<String> {
    let names = |names: Vec<String>| names.join(", ");
    match decision {
        Decision::NoPod | Decision::Itself | Decision::OwnNode | Decision::NotIsolated { .. } => None,
        Decision::NotDns { .. } => Some("to the cluster DNS is for names alone".to_owned()),
        Decision::NotANode { .. } => Some("of VXLAN is for nodes alone".to_owned()),
        Decision::Unknown { .. } => Some("of an unknown pod".to_owned()),
        Decision::Allowed { by, .. } => {
            let rules = by.iter().map(|(policy, rule)| format!("{policy} rule {}", rule + 1)).collect();
            Some(format!("allowed by {}", names(rules)))
        }
        Decision::Denied { by, .. } => {
            Some(format!("isolated by {}", names(by.iter().map(ToString::to_string).collect())))
        }
    }
}
