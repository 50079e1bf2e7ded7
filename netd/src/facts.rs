//! What the rules need to know of the node, gathered from its settings and its network. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use minipod_model::IpFamily;
use netd_dataplane::{FamilyFacts, HostFirewall, NodeFacts, PodToNode};

use crate::hostnet::HostNet;
use crate::options::Options;

/// The facts of this node.
#[must_use]
pub fn gather(options: &Options, host: &HostNet) -> NodeFacts {
    let mut facts = NodeFacts {
        host_firewall: if options.accept_past_host_firewall { HostFirewall::Accept } else { HostFirewall::Respect },
        pod_to_node: if options.pod_to_node { PodToNode::Allow } else { PodToNode::Enforce },
        deny_action: options.deny_action,
        marks: options.marks,
        ..NodeFacts::default()
    };
    for &family in host.families() {
        let of_family = |nets: &[IpNet]| nets.iter().copied().find(|net| IpFamily::of(net.addr()) == family);
        let ranges = host.ranges();
        let of_this = FamilyFacts {
            node_pod_cidr: of_family(&ranges.node),
            cluster_pod_cidrs: of_family(&ranges.cluster).into_iter().collect(),
            service_cidr: of_family(&ranges.services),
            cluster_dns: options.cluster_dns.iter().copied().find(|a: &IpAddr| IpFamily::of(*a) == family),
            forwarding_switched_on: host.forwarding_switched_on().in_family(family),
            ..FamilyFacts::default()
        };
        match family {
            IpFamily::V4 => facts.v4 = Some(of_this),
            IpFamily::V6 => facts.v6 = Some(of_this),
        }
    }
    facts
}
