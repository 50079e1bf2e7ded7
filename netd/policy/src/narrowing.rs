//! Whether a change can forbid a connection that lives (semantics, ruling 4). Says `true` rather once too often: each time every tracked
//! connection is judged anew.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use minipod_model::IpFamily;

use crate::intent::{Allowed, Endpoint, Intent, Peers};

/// Whether something that `old` lets pass is forbidden by `new`, between addresses that can have connections in both.
///
/// A pod that is new here has none yet, whatever its rules are; those of a pod that left this node are deleted with it.
#[must_use]
pub fn can_forbid(old: &Intent, new: &Intent) -> bool {
    let left = addresses(old.endpoints.iter().filter(|(link, _)| !new.endpoints.contains_key(*link)));
    let came = addresses(new.endpoints.iter().filter(|(link, _)| !old.endpoints.contains_key(*link)));
    // Then an address has not left with its pod.
    let is_handed_on = || {
        let stayed = addresses(new.endpoints.iter().filter(|(link, _)| old.endpoints.contains_key(*link)));
        let had = addresses(old.endpoints.iter());
        !left.is_disjoint(&came) || !left.is_disjoint(&stayed) || !came.is_disjoint(&had)
    };
    if old.cluster_dns != new.cluster_dns || is_handed_on() {
        return true;
    }
    let mut unchanged = BTreeSet::new();
    for (link, before) in old.endpoints.iter() {
        let Some(after) = new.endpoints.get(link) else { continue };
        if before.addresses != after.addresses {
            return true;
        }
        if before.signature == after.signature {
            unchanged.insert(&before.signature);
        } else if !is_open(new, after) {
            return true;
        }
    }
    let signatures = unchanged.into_iter().filter_map(|id| old.signatures.get(id));
    let mut directions = signatures.flat_map(|signature| signature.ingress.iter().chain(&signature.egress));
    directions.any(|allowed| loses_peers(allowed, old, new, &left))
}

fn addresses<'a, K: 'a>(endpoints: impl Iterator<Item = (&'a K, &'a Arc<Endpoint>)>) -> BTreeSet<IpAddr> {
    endpoints.flat_map(|(_, endpoint)| endpoint.addresses.iter().copied()).collect()
}

fn is_open(intent: &Intent, endpoint: &Endpoint) -> bool {
    intent.signatures.get(&endpoint.signature).is_some_and(|rules| rules.ingress.is_none() && rules.egress.is_none())
}

/// Whether rules that did not change let fewer addresses pass than before, those that left apart.
fn loses_peers(allowed: &Allowed, old: &Intent, new: &Intent, left: &BTreeSet<IpAddr>) -> bool {
    let loses_group = |id| {
        let (Some(before), Some(after)) = (old.groups.get(id), new.groups.get(id)) else { return true };
        before.nets != after.nets
            || IpFamily::ALL.into_iter().any(|family| {
                let (gone, _) = before.pods.of(family).differences(after.pods.of(family));
                gone.iter().any(|address| !left.contains(address))
            })
    };
    let loses_pair = |id| {
        let (Some(before), Some(after)) = (old.pairs.get(id), new.pairs.get(id)) else { return true };
        before.differences(after).0.iter().any(|pair| !left.contains(&pair.address))
    };
    let mut peers = allowed.any_port.iter().chain(allowed.ports.iter().map(|class| &class.peers));
    peers.any(|peers| matches!(peers, Peers::Group(id) if loses_group(id))) || allowed.named.iter().any(loses_pair)
}
