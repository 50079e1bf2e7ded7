//! The network daemon inside this one: its settings, and its reset.

use std::net::IpAddr;

use ipnet::IpNet;
use netd::Netd;

use super::options::{HostFirewall, PodToNode, Settings};
use super::reset::Done;
use super::{ServeError, addresses};
use crate::agent::with_causes;

/// Says what keeps this machine from being a node, before anything is made.
pub(super) fn check(settings: &Settings) -> Result<(), ServeError> {
    Ok(netd::check(&options(settings, &[], Vec::new()))?)
}

/// Starts netd; it answers and enforces when this returns.
pub(super) async fn start(
    settings: &Settings,
    node_addresses: &[IpAddr],
    node_cidrs: Vec<IpNet>,
    client: kube::Client,
) -> Result<Netd, ServeError> {
    Ok(Netd::start(&options(settings, node_addresses, node_cidrs), client).await?)
}

fn options(settings: &Settings, node_addresses: &[IpAddr], node_cidrs: Vec<IpNet>) -> netd::Options {
    netd::Options {
        node_name: settings.node_name.clone(),
        node_addresses: node_addresses.to_vec(),
        run_dir: settings.directories.run_dir.clone(),
        state_dir: settings.directories.state_dir.clone(),
        node_cidrs,
        cluster_cidrs: addresses::cluster_cidrs(settings),
        service_cidrs: addresses::service_cidrs(settings),
        cluster_dns: addresses::cluster_dns(settings),
        iptables: settings.iptables.into(),
        accept_past_host_firewall: settings.host_firewall == HostFirewall::Accept,
        pod_to_node: settings.pod_to_node == PodToNode::Allow,
        routing: settings.routing.into(),
        deny_action: settings.deny_action.into(),
        marks: settings.marks,
        metrics_address: settings.metrics_address,
        prompt_bookmarks: true,
    }
}

/// Removes links, routes, rules and sets, and restores sysctls.
pub(super) fn reset(settings: &Settings, done: &mut Done) {
    match netd::reset(&settings.directories.state_dir, settings.iptables.into()) {
        Ok((rules, network)) => {
            done.count(network.links, "pod link", "pod links");
            done.count(network.node_links, "node link", "node links");
            done.count(network.routes, "route", "routes");
            done.count(network.addresses, "node address", "node addresses");
            done.count(rules.jumps, "jump", "jumps");
            done.count(rules.chains, "chain", "chains");
            done.count(rules.sets, "set", "sets");
            match network.settings {
                0 => {}
                1 => done.removed.push("1 changed sysctl (restored)".to_owned()),
                more => done.removed.push(format!("{more} changed sysctls (restored)")),
            }
        }
        Err(error) => done.problems.push(with_causes(&error)),
    }
}
