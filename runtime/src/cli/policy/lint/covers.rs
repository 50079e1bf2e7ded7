//! Whether one thing certainly takes in all that another does, by the text of selectors and by prefix arithmetic, never by what there
//! is at present. A `false` says nothing: it may be so all the same. Pure.
//!
//! Every relation here is transitive: [`super::shadow`] relies on that.

use minipod_model::Selector;
use minipod_model::label::NAMESPACE_NAME_LABEL;
use minipod_model::selector::{Operator, Requirement};
use netd_policy::object::{Block, Peer, PeerNamespaces, PortNumbers, Rule, RulePeers, RulePort, RulePorts};

/// Of two rules of one direction and of one namespace's policies.
pub(super) fn rule_covers(wider: &Rule, narrower: &Rule, namespace: &str) -> bool {
    let peers = match (&wider.peers, &narrower.peers) {
        (RulePeers::Everyone, _) => true,
        (RulePeers::Listed(_), RulePeers::Everyone) => false,
        (RulePeers::Listed(wider), RulePeers::Listed(narrower)) => {
            narrower.iter().all(|narrower| wider.iter().any(|wider| peer_covers(wider, narrower, namespace)))
        }
    };
    let ports = match (&wider.ports, &narrower.ports) {
        (RulePorts::Every, _) => true,
        (RulePorts::Listed(_), RulePorts::Every) => false,
        (RulePorts::Listed(wider), RulePorts::Listed(narrower)) => narrower.iter().all(|port| ports_cover(wider, port)),
    };
    peers && ports
}

fn peer_covers(wider: &Peer, narrower: &Peer, namespace: &str) -> bool {
    match (wider, narrower) {
        (Peer::Block(wider), Peer::Block(narrower)) => block_covers(wider, narrower),
        (
            Peer::Pods { namespaces: wider_namespaces, pods: wider },
            Peer::Pods { namespaces: narrower_namespaces, pods: narrower },
        ) => {
            let named = |namespaces: &PeerNamespaces| match namespaces {
                PeerNamespaces::Own => Selector::equals(NAMESPACE_NAME_LABEL, namespace),
                PeerNamespaces::Selected(selector) => selector.clone(),
            };
            selector_covers(&named(wider_namespaces), &named(narrower_namespaces)) && selector_covers(wider, narrower)
        }
        // Who has which address is known at present only.
        (Peer::Block(_), Peer::Pods { .. }) | (Peer::Pods { .. }, Peer::Block(_)) => false,
    }
}

/// Prefixes lie in one another or have no address in common.
fn block_covers(wider: &Block, narrower: &Block) -> bool {
    let is_left_out = |except: &ipnet::IpNet| {
        !overlap(except, &narrower.cidr) || narrower.except.iter().any(|own| own.contains(except))
    };
    wider.cidr.contains(&narrower.cidr) && wider.except.iter().all(is_left_out)
}

fn overlap(a: &ipnet::IpNet, b: &ipnet::IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn ports_cover(wider: &[RulePort], narrower: &RulePort) -> bool {
    let of_protocol = || wider.iter().filter(|port| port.protocol == narrower.protocol).map(|port| &port.numbers);
    of_protocol().any(|numbers| *numbers == PortNumbers::Every)
        || match &narrower.numbers {
            PortNumbers::Every => false,
            PortNumbers::Named(_) => of_protocol().any(|numbers| *numbers == narrower.numbers),
            PortNumbers::Range(first, last) => (*first..=*last).all(|number| {
                of_protocol().any(
                    |numbers| matches!(numbers, PortNumbers::Range(first, last) if (*first..=*last).contains(&number)),
                )
            }),
        }
}

/// Every requirement of the wider selector follows from one of the narrower one.
pub(super) fn selector_covers(wider: &Selector, narrower: &Selector) -> bool {
    wider.requirements().all(|needed| narrower.requirements().any(|given| follows(needed, given)))
}

fn follows(needed: &Requirement, given: &Requirement) -> bool {
    needed.key() == given.key()
        && match (needed.operator(), given.operator()) {
            (Operator::In(needed), Operator::In(given)) => given.is_subset(needed),
            (Operator::NotIn(needed), Operator::In(given)) => given.is_disjoint(needed),
            (Operator::NotIn(needed), Operator::NotIn(given)) => needed.is_subset(given),
            (Operator::Exists, Operator::In(_) | Operator::Exists)
            | (Operator::NotIn(_) | Operator::DoesNotExist, Operator::DoesNotExist) => true,
            (Operator::In(_), Operator::NotIn(_) | Operator::Exists | Operator::DoesNotExist)
            | (Operator::NotIn(_), Operator::Exists)
            | (Operator::Exists, Operator::NotIn(_) | Operator::DoesNotExist)
            | (Operator::DoesNotExist, Operator::In(_) | Operator::NotIn(_) | Operator::Exists) => false,
        }
}

#[cfg(test)]
mod tests {
    use minipod_model::{Labels, Selector};
    use netd_policy::object::Block;

    use super::{block_covers, selector_covers};

    fn selector(text: &str) -> Selector {
        Selector::parse(text).expect("a selector")
    }

    fn block(cidr: &str, except: &[&str]) -> Block {
        let net = |text: &str| text.parse().expect("a prefix");
        Block { cidr: net(cidr), except: except.iter().map(|text| net(text)).collect() }
    }

    #[test]
    fn a_selector_that_covers_another_matches_whatever_that_one_matches() {
        let texts = [
            "",
            "a=1",
            "a in (1,2)",
            "a!=1",
            "a notin (1,2)",
            "a notin (2,3)",
            "a",
            "!a",
            "a=1,b=1",
            "b=1",
            "a!=3,b",
            "!b",
        ];
        let values = [None, Some("1"), Some("2"), Some("3"), Some("4")];
        let labels: Vec<Labels> = values
            .iter()
            .flat_map(|a| values.iter().map(move |b| [("a", a), ("b", b)]))
            .map(|pairs| {
                pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), (*value)?.to_owned()))).collect()
            })
            .collect();
        for (wider, narrower) in texts.iter().flat_map(|wider| texts.iter().map(move |narrower| (wider, narrower))) {
            let (wider, narrower) = (selector(wider), selector(narrower));
            let matches_more = labels.iter().all(|labels| wider.matches(labels) || !narrower.matches(labels));
            assert_eq!(selector_covers(&wider, &narrower), matches_more, "`{wider}` over `{narrower}`");
        }
    }

    #[track_caller]
    fn check(wider: &Block, narrower: &Block, expected: bool) {
        assert_eq!(block_covers(wider, narrower), expected, "{wider:?} over {narrower:?}");
    }

    #[test]
    fn a_block_covers_another_unless_it_leaves_out_what_that_one_has() {
        check(&block("10.0.0.0/8", &[]), &block("10.1.0.0/16", &["10.1.1.0/24"]), true);
        check(&block("10.1.0.0/16", &[]), &block("10.0.0.0/8", &[]), false);
        check(&block("0.0.0.0/0", &[]), &block("fd00::/64", &[]), false);
        check(&block("10.0.0.0/8", &["10.1.1.0/24"]), &block("10.1.0.0/16", &["10.1.0.0/17"]), true);
        check(&block("10.0.0.0/8", &["10.1.0.0/17"]), &block("10.1.0.0/16", &["10.1.1.0/24"]), false);
        check(&block("10.0.0.0/8", &["10.2.0.0/16"]), &block("10.1.0.0/16", &[]), true);
        check(&block("10.0.0.0/8", &["10.1.0.0/16"]), &block("10.1.1.0/24", &[]), false);
    }
}
