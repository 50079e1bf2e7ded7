//! Network policies: the table of `docs/semantics.md`, "Reading the object".

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use minipod_model::Selector;
use minipod_model::name::port_name_problem;

use super::{object_key, port, protocol};
use crate::object::{Block, Peer, PeerNamespaces, Policy, PortNumbers, Problem, Rule, RulePeers, RulePort, RulePorts};

impl Policy {
    /// Reads a `NetworkPolicy`. What cannot be read allows nothing and is among the `problems`.
    #[must_use]
    pub fn read(policy: &NetworkPolicy) -> Self {
        let empty = NetworkPolicySpec::default();
        let spec = policy.spec.as_ref().unwrap_or(&empty);
        let mut problems = Vec::new();

        let (subjects, subjects_known) = subjects(spec.pod_selector.as_ref(), &mut problems);
        let (ingress, egress) = directions(spec, &mut problems);
        let ingress_rules = spec.ingress.iter().flatten();
        let ingress_rules: Vec<_> = ingress_rules.map(|rule| (rule.from.as_deref(), rule.ports.as_deref())).collect();
        let egress_rules = spec.egress.iter().flatten();
        let egress_rules: Vec<_> = egress_rules.map(|rule| (rule.to.as_deref(), rule.ports.as_deref())).collect();
        let mut read = |isolated: bool, direction: &str, peers: &str, rules: &[RawRule<'_>]| {
            isolated.then(|| {
                let rules = rules_of(&format!("spec.{direction}"), peers, rules, &mut problems);
                if subjects_known { rules } else { Vec::new() }
            })
        };
        let ingress = read(ingress, "ingress", "from", &ingress_rules);
        let egress = read(egress, "egress", "to", &egress_rules);
        Self { key: object_key(&policy.metadata), subjects, ingress, egress, problems }
    }
}

/// The peers and ports of a rule.
type RawRule<'a> = (Option<&'a [NetworkPolicyPeer]>, Option<&'a [NetworkPolicyPort]>);

/// `podSelector`, and whether all of it could be read. Of one that could not, the requirements that can be read count: it selects at least
/// the pods that were meant, and its policy allows them nothing.
fn subjects(selector: Option<&LabelSelector>, problems: &mut Vec<Problem>) -> (Selector, bool) {
    let Some(selector) = selector else { return (Selector::everything(), true) };
    match read_selector("spec.podSelector", selector) {
        Ok(selector) => (selector, true),
        Err(problem) => {
            problems.push(problem);
            (readable_part(selector), false)
        }
    }
}

fn readable_part(selector: &LabelSelector) -> Selector {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| LabelSelector {
        match_labels: Some([(key.clone(), value.clone())].into()),
        match_expressions: None,
    });
    let expressions = selector
        .match_expressions
        .iter()
        .flatten()
        .map(|expression| LabelSelector { match_labels: None, match_expressions: Some(vec![expression.clone()]) });
    let readable: Vec<LabelSelector> =
        labels.chain(expressions).filter(|part| Selector::from_object(part).is_ok()).collect();
    let whole = LabelSelector {
        match_labels: Some(readable.iter().flat_map(|part| part.match_labels.clone().unwrap_or_default()).collect()),
        match_expressions: Some(
            readable.iter().flat_map(|part| part.match_expressions.clone().unwrap_or_default()).collect(),
        ),
    };
    Selector::from_object(&whole).unwrap_or_default()
}

/// Whether ingress and egress are isolated.
fn directions(spec: &NetworkPolicySpec, problems: &mut Vec<Problem>) -> (bool, bool) {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    for (index, name) in types.iter().enumerate() {
        if name != "Ingress" && name != "Egress" {
            let path = format!("spec.policyTypes[{index}]");
            problems.push(refuse(&path, name, "supported values: \"Ingress\", \"Egress\""));
        }
    }
    if types.is_empty() {
        return (true, spec.egress.iter().flatten().next().is_some());
    }
    let has = |name: &str| types.iter().any(|item| item == name);
    (has("Ingress"), has("Egress"))
}

fn rules_of(path: &str, peers_field: &str, rules: &[RawRule<'_>], problems: &mut Vec<Problem>) -> Vec<Rule> {
    let mut read = Vec::new();
    for (index, (peers, ports)) in rules.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let peers = all(&format!("{path}.{peers_field}"), *peers, read_peer, problems);
        let ports = all(&format!("{path}.ports"), *ports, read_port, problems);
        if let (Some(peers), Some(ports)) = (peers, ports) {
            let peers = if peers.is_empty() { RulePeers::Everyone } else { RulePeers::Listed(peers) };
            let ports = if ports.is_empty() { RulePorts::Every } else { RulePorts::Listed(ports) };
            read.push(Rule { index, peers, ports });
        }
    }
    read
}

/// All items, or none of them if one cannot be read; every problem is reported.
fn all<T, R>(
    path: &str,
    items: Option<&[T]>,
    read: impl Fn(&str, &T) -> Result<R, Problem>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<R>> {
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        match read(&format!("{path}[{index}]"), item) {
            Ok(item) => good.push(item),
            Err(problem) => bad.push(problem),
        }
    }
    let readable = bad.is_empty();
    problems.extend(bad);
    readable.then_some(good)
}

fn read_peer(path: &str, peer: &NetworkPolicyPeer) -> Result<Peer, Problem> {
    if let Some(block) = &peer.ip_block {
        if peer.pod_selector.is_some() || peer.namespace_selector.is_some() {
            return Err(refuse(path, "", "may not specify both ipBlock and another peer"));
        }
        return read_block(&format!("{path}.ipBlock"), block).map(Peer::Block);
    }
    if peer.pod_selector.is_none() && peer.namespace_selector.is_none() {
        return Err(refuse(path, "{}", "must specify a peer"));
    }
    let namespaces = match &peer.namespace_selector {
        None => PeerNamespaces::Own,
        Some(selector) => PeerNamespaces::Selected(read_selector(&format!("{path}.namespaceSelector"), selector)?),
    };
    let pods = match &peer.pod_selector {
        None => Selector::everything(),
        Some(selector) => read_selector(&format!("{path}.podSelector"), selector)?,
    };
    Ok(Peer::Pods { namespaces, pods })
}

fn read_block(path: &str, block: &IPBlock) -> Result<Block, Problem> {
    let cidr = read_cidr(&format!("{path}.cidr"), &block.cidr)?;
    let mut except = Vec::new();
    for (index, text) in block.except.iter().flatten().enumerate() {
        let path = format!("{path}.except[{index}]");
        let net = read_cidr(&path, text)?;
        if !cidr.contains(&net) || cidr == net {
            return Err(refuse(&path, text, &format!("must be a strict subset of `{}`", block.cidr)));
        }
        except.push(net);
    }
    Ok(Block { cidr, except })
}

fn read_cidr(path: &str, text: &str) -> Result<ipnet::IpNet, Problem> {
    let problem = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let net: ipnet::IpNet = text.parse().map_err(|_| refuse(path, text, problem))?;
    match net {
        // Which family such a prefix means differs between readers, so nobody may rely on it.
        ipnet::IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err(refuse(path, text, "must not be an IPv4-mapped IPv6 address"))
        }
        net => Ok(net.trunc()),
    }
}

fn read_port(path: &str, item: &NetworkPolicyPort) -> Result<RulePort, Problem> {
    let name = item.protocol.as_deref();
    let protocol = protocol(name).ok_or_else(|| {
        refuse(&format!("{path}.protocol"), name.unwrap_or_default(), "supported values: \"SCTP\", \"TCP\", \"UDP\"")
    })?;
    Ok(RulePort { protocol, numbers: port_numbers(path, item)? })
}

fn port_numbers(path: &str, item: &NetworkPolicyPort) -> Result<PortNumbers, Problem> {
    let end_path = format!("{path}.endPort");
    let number = |path: &str, number: i32| {
        port(number).ok_or_else(|| refuse(path, &number.to_string(), "must be between 1 and 65535, inclusive"))
    };
    match (&item.port, item.end_port) {
        (None, None) => Ok(PortNumbers::Every),
        (None, Some(end)) => {
            Err(refuse(&end_path, &end.to_string(), "may not be specified when `port` is not specified"))
        }
        (Some(IntOrString::Int(first)), end) => {
            let first = number(&format!("{path}.port"), *first)?;
            let last = end.map_or(Ok(first), |end| number(&end_path, end))?;
            if last < first {
                return Err(refuse(&end_path, &last.to_string(), "must be greater than or equal to `port`"));
            }
            Ok(PortNumbers::Range(first, last))
        }
        (Some(IntOrString::String(_)), Some(end)) => {
            Err(refuse(&end_path, &end.to_string(), "may not be specified when `port` is non-numeric"))
        }
        (Some(IntOrString::String(name)), None) => match port_name_problem(name) {
            None => Ok(PortNumbers::Named(name.clone())),
            Some(problem) => Err(refuse(&format!("{path}.port"), name, &problem)),
        },
    }
}

fn read_selector(path: &str, selector: &LabelSelector) -> Result<Selector, Problem> {
    Selector::from_object(selector)
        .map_err(|error| refuse(&format!("{path}.{}", error.path), &error.value, &error.problem))
}

fn refuse(path: &str, value: &str, problem: &str) -> Problem {
    Problem { path: path.to_owned(), value: value.to_owned(), problem: problem.to_owned() }
}
