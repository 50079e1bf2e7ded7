//! Names that follow from content alone, so that they are the same after a restart and on every path to the same state.

use std::sync::Arc;

use minipod_model::Protocol;
use minipod_model::hash::short_hash;

use super::merge::Who;
use super::peers::{PeerScope, PeerSet};
use crate::intent::{Allowed, GroupId, PairsId, Peers, Signature, SignatureId};

/// Chains have 28 bytes for a name and sets 31: room for prefix, kind and family beside it.
const LENGTH: usize = 16;

/// The name of a group.
pub(super) fn group(set: &PeerSet) -> GroupId {
    GroupId(hash(&peer_lines(set)))
}

/// The name of a set of pairs.
pub(super) fn pairs(who: &Who, name: &str, protocol: Protocol) -> PairsId {
    let mut lines = match who {
        Who::Everyone => vec!["everyone".to_owned()],
        Who::Some(set) => peer_lines(set),
    };
    lines.push(format!("port {protocol} {name}"));
    PairsId(hash(&lines))
}

/// The name of a signature.
pub(super) fn signature(signature: &Signature) -> SignatureId {
    let mut lines = Vec::new();
    for (direction, allowed) in [("ingress", &signature.ingress), ("egress", &signature.egress)] {
        match allowed {
            None => lines.push(format!("{direction} open")),
            Some(allowed) => {
                lines.push(format!("{direction} isolated"));
                lines.extend(allowed_lines(allowed));
            }
        }
    }
    SignatureId(hash(&lines))
}

fn allowed_lines(allowed: &Allowed) -> Vec<String> {
    let peers = |peers: &Peers| match peers {
        Peers::Everyone => "everyone".to_owned(),
        Peers::Group(GroupId(id)) => format!("group {id}"),
    };
    let mut lines: Vec<String> = allowed.any_port.iter().map(|who| format!("any port {}", peers(who))).collect();
    for class in &allowed.ports {
        let ranges: Vec<String> = class.ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        lines.push(format!("{} {} {}", class.protocol, ranges.join(","), peers(&class.peers)));
    }
    lines.extend(allowed.named.iter().map(|PairsId(id)| format!("pairs {id}")));
    lines
}

fn peer_lines(set: &PeerSet) -> Vec<String> {
    let pods = set.pods.iter().map(|peer| match &peer.namespaces {
        PeerScope::Named(name) => format!("pods in {name} where {}", peer.pods),
        PeerScope::Selected(selector) => format!("pods of namespaces where {selector} where {}", peer.pods),
    });
    pods.chain(set.nets.prefixes().into_iter().map(|net| format!("net {net}"))).collect()
}

fn hash(lines: &[String]) -> Arc<str> {
    short_hash(lines.iter().map(String::as_str), LENGTH).into()
}
