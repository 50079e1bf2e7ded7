//! The filter table: what was denied is refused where that is wanted, what passed the verdict is accepted whatever the host's own
//! firewall says (semantics, ruling 21), what no service answers is refused, and a node that forwards only because of us forwards
//! nothing else.

use minipod_model::Protocol;

use super::Compiler;
use super::mangle::to_host;
use crate::facts::HostFirewall;
use crate::name::ChainName;
use crate::spec::{Chain, Hook, Interface, Jump, Match, Place, Reject, Rule, Table, Target};

impl Compiler<'_> {
    pub(super) fn filter(&mut self) {
        let facts = self.family_facts;
        let accept = self.facts.host_firewall == HostFirewall::Accept;

        let pods = [Match::In(Interface::AnyPod), Match::Out(Interface::AnyPod)];
        let [from, to] = pods.clone().map(|pod| accept.then(|| Rule::new(vec![pod], Target::Accept)));
        let mut forward: Vec<Rule> = pods.iter().filter_map(|pod| self.refuse_denied(pod)).collect();
        // What goes to a pod is not for a cluster IP any more, so that most packets meet one rule.
        forward.extend(to);
        forward.extend(self.refused());
        forward.extend(from);
        self.filter_chain(Hook::Forward, "FORWARD", forward);
        if facts.forwarding_switched_on {
            self.others(pods);
        }

        let mut input: Vec<Rule> = self.refuse_denied(&Match::In(Interface::AnyPod)).into_iter().collect();
        if accept {
            input.push(Rule::new(vec![Match::In(Interface::AnyPod)], Target::Accept));
            let own = |dns| Rule::new(vec![Match::In(Interface::Loopback), to_host(dns)], Target::Accept);
            input.extend(facts.cluster_dns.map(own));
            input.extend(self.vxlan_accepted());
        }
        self.filter_chain(Hook::Input, "INPUT", input);

        let mut output = self.refused();
        if !output.is_empty() {
            let own = |dns| Rule::new(vec![to_host(dns)], Target::Return);
            output.splice(0..0, facts.cluster_dns.map(own));
        }
        self.filter_chain(Hook::Output, "OUTPUT", output);
    }

    /// What the node would not forward without us. The rule stands last: what others accept explicitly, because they forward as well,
    /// they accept before it.
    fn others(&mut self, pods: [Match; 2]) {
        let mut rules = pods.map(|pod| Rule::new(vec![pod], Target::Return)).to_vec();
        rules.push(Rule::always(Target::Drop));
        let chain = ChainName::fixed("OTHERS");
        self.chain(Table::Filter, chain.clone(), Chain::new(rules));
        let (family, hook, place) = (self.family, Hook::Forward, Place::Last);
        self.spec.jumps.push(Jump { family, table: Table::Filter, hook, place, matches: Vec::new(), chain });
    }

    /// What is still for a cluster IP has no endpoint.
    fn refused(&self) -> Vec<Rule> {
        let Some(range) = self.family_facts.service_cidr else { return Vec::new() };
        let to = Match::Destination(range.trunc());
        vec![
            Rule::new(vec![to.clone(), Match::Protocol(Protocol::Tcp)], Target::Reject(Reject::TcpReset)),
            Rule::new(vec![to], Target::Reject(Reject::PortUnreachable)),
        ]
    }

    fn filter_chain(&mut self, hook: Hook, word: &'static str, rules: Vec<Rule>) {
        if rules.is_empty() {
            return;
        }
        let chain = ChainName::fixed(word);
        self.chain(Table::Filter, chain.clone(), Chain::new(rules));
        self.jump(Table::Filter, hook, Vec::new(), chain);
    }
}
