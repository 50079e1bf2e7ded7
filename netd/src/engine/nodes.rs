//! Other nodes: what leads to their pods follows the Node objects and this host's routes. Rules that guard packets between nodes are in
//! force before there is a device that takes them in, and stay until it is gone.

use std::collections::BTreeMap;

use netd_policy::Change;
use netd_policy::object::Node;

use super::Engine;
use crate::causes;
use crate::nodes::{Network, Situation, Vxlan, addresses_of_all, addresses_of_others, compile};
use crate::options::Routing;

/// What is known of other nodes.
#[derive(Debug)]
pub(super) struct Others {
    routing: Routing,
    /// the Node objects that were looked at last; `None` before every kind has been listed
    seen: Option<BTreeMap<String, Node>>,
    /// what must lead to them
    network: Network,
    /// the host does not know of that yet
    is_news: bool,
}

impl Others {
    pub(super) fn new(routing: Routing) -> Self {
        Self { routing, seen: None, network: Network::default(), is_news: false }
    }

    /// For people: what is not reached, and why.
    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.network.problems.iter().map(ToString::to_string)
    }
}

impl Engine {
    /// Whether Node objects have changed. Before every kind has been listed nobody knows, and what leads to other nodes stays.
    pub(super) fn nodes_differ(&self) -> bool {
        self.stale
            && self.objects.complete()
            && self.others.seen.as_ref() != Some(&self.objects.index().cluster().nodes)
    }

    /// Decides how other nodes are reached; what the rules must know of it they know at once. Says whether something has to be done.
    pub(super) fn follow_nodes(&mut self) -> bool {
        if !self.objects.complete() {
            return false;
        }
        let cluster = self.objects.index().cluster();
        let (node, nodes) = (cluster.options.node.as_str(), &cluster.nodes);
        let hops = match self.host.observe_hops(addresses_of_others(node, nodes)) {
            Ok(hops) => hops,
            Err(error) => {
                tracing::warn!(%error, causes = ?causes(&error), "cannot look how other nodes are reached; trying again");
                return false;
            }
        };
        let situation =
            Situation { node, nodes, ranges: self.host.ranges(), routing: self.others.routing, hops: &hops };
        let network = compile(&situation);
        let is_first = self.others.seen.is_none();
        if self.others.seen.as_ref() != Some(nodes) {
            self.others.seen = Some(nodes.clone());
        }
        let every_node = addresses_of_all(node, nodes);
        if let Some(vxlan) = network.vxlan.as_ref().map(Vxlan::facts)
            && self.facts.vxlan.as_ref() != Some(&vxlan)
        {
            self.facts.vxlan = Some(vxlan);
            self.stale = true;
        }
        if self.facts.every_node != every_node {
            self.objects.apply(Change::OtherNodes(!every_node.is_empty()));
            self.facts.every_node = every_node;
            self.stale = true;
        }
        if network == self.others.network && !is_first {
            return false;
        }
        for problem in network.problems.iter().filter(|problem| !self.others.network.problems.contains(problem)) {
            tracing::warn!(node = problem.node, "{problem}");
        }
        self.others.network = network;
        self.others.is_news = true;
        true
    }

    /// Hands over what must lead to other nodes, if the rules for it are in force. Says whether that is anything new.
    pub(super) fn lead_to_nodes(&mut self) -> bool {
        self.follow_nodes();
        let _ = self.enforce();
        let is_news = self.others.is_news && !self.stale;
        if is_news {
            self.others.is_news = false;
            self.host.set_network(self.others.network.clone());
        }
        is_news
    }

    /// Takes the rules back when the device is gone.
    pub(super) fn forget_vxlan(&mut self) {
        if !self.host.keeps_vxlan() && self.facts.vxlan.take().is_some() {
            self.stale = true;
            let _ = self.enforce();
        }
    }
}
