//! How rules are spelled, and that nothing that `iptables-save` could print stops the reader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::sample::{addr, facts, net, rich};
use minipod_model::{IpFamily, Protocol};
use netd_dataplane::index::Indexes;
use netd_dataplane::name::{ChainName, SetName};
use netd_dataplane::observed::Observed;
use netd_dataplane::spec::{
    Chain, ConnState, Directions, Interface, MarkValue, Match, Reason, Reject, Rule, Table, Target,
};
use netd_dataplane::text::{jump_text, read_save, restore_text};
use netd_dataplane::{Spec, compile};
use proptest::prelude::*;

fn chain(name: &str) -> ChainName {
    ChainName::parse(name).expect("a chain's name")
}

fn set(name: &str) -> SetName {
    SetName::parse(name).expect("a set's name")
}

/// The words of one rule, without the comment.
#[track_caller]
fn check(family: IpFamily, matches: Vec<Match>, target: Target, expected: &str) {
    let last = Rule::always(Target::Return);
    let chains = BTreeMap::from([(chain("MP-X"), Arc::new(Chain::new(vec![Rule::new(matches, target), last])))]);
    let text = restore_text(family, Table::Mangle, &chains, &BTreeSet::new());
    assert_eq!(text.lines().nth(2), Some(format!("-A MP-X {expected}").as_str()), "{text}");
}

#[test]
fn rules_are_spelled_as_iptables_reads_them() {
    let (v4, v6) = (IpFamily::V4, IpFamily::V6);
    let tcp = || Match::Protocol(Protocol::Tcp);
    let mark = MarkValue { value: 0x12_0000, mask: 0xffff_0000 };
    check(v4, vec![Match::In(Interface::AnyPod)], Target::Accept, "-i mpod+ -j ACCEPT");
    check(v4, vec![Match::NotOut(Interface::Loopback)], Target::Drop, "! -o lo -j DROP");
    check(v4, vec![Match::Icmp], Target::Drop, "-p icmp -j DROP");
    check(v6, vec![Match::Icmp], Target::Drop, "-p ipv6-icmp -j DROP");
    check(
        v6,
        vec![Match::Destination(net("fe80::/10")), Match::Icmpv6Type(135), Match::HopLimit(255)],
        Target::Return,
        "-p ipv6-icmp -d fe80::/10 -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -j RETURN",
    );
    check(
        v4,
        vec![tcp(), Match::DestinationPorts(vec![(80, 80)])],
        Target::Return,
        "-p tcp -m tcp --dport 80 -j RETURN",
    );
    check(
        v4,
        vec![Match::Protocol(Protocol::Sctp), Match::DestinationPorts(vec![(80, 80), (90, 99)])],
        Target::Return,
        "-p sctp -m multiport --dports 80,90:99 -j RETURN",
    );
    check(
        v4,
        vec![Match::State(BTreeSet::from([ConnState::New, ConnState::Untracked])), Match::Translated],
        Target::MapMark(set("mp-sig4"), Directions::Src),
        "-m conntrack --ctstate NEW,UNTRACKED -m conntrack --ctstate DNAT -j SET --map-set mp-sig4 src --map-mark",
    );
    check(v4, vec![Match::Mark(mark)], Target::Goto(chain("MP-Y")), "-m mark --mark 0x120000/0xffff0000 -g MP-Y");
    check(
        v4,
        vec![Match::Share(1, 4)],
        Target::Jump(chain("MP-Y")),
        "-m statistic --mode random --probability 0.250000000 -j MP-Y",
    );
    check(
        v6,
        vec![tcp()],
        Target::DestinationNat((addr("fd00::1"), 80).into()),
        "-p tcp -j DNAT --to-destination [fd00::1]:80",
    );
    check(v4, vec![], Target::Remember(set("mp-a-x-4"), 60), "-j SET --add-set mp-a-x-4 src --exist --timeout 60");
    check(v6, vec![], Target::Reject(Reject::PortUnreachable), "-j REJECT --reject-with icmp6-port-unreachable");
    check(
        v4,
        vec![Match::Seldom(Reason::Spoofed)],
        Target::Tell(Reason::Spoofed),
        "-m limit --limit 50/sec --limit-burst 100 -j NFLOG --nflog-prefix mp:spoofed --nflog-group 28016 --nflog-size 128",
    );
}

#[test]
fn a_label_cannot_break_out_of_its_comment() {
    let evil = Chain::new(vec![Rule::always(Target::Drop)]).labelled("a\" -j ACCEPT\nCOMMIT\n\\");
    let text =
        restore_text(IpFamily::V4, Table::Nat, &BTreeMap::from([(chain("MP-X"), Arc::new(evil))]), &BTreeSet::new());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[2].ends_with("a__-j_ACCEPT_COMMIT__\" -j DROP"), "{text}");
}

/// What `iptables-save` prints of a spec of one family.
fn saved(spec: &Spec, family: IpFamily) -> String {
    let mut text = String::new();
    for table in Table::ALL {
        let chains: BTreeMap<ChainName, Arc<Chain>> = spec
            .chains
            .iter()
            .filter(|(key, _)| key.family == family && key.table == table)
            .map(|(key, chain)| (key.name.clone(), chain.clone()))
            .collect();
        let restore = restore_text(family, table, &chains, &BTreeSet::new());
        let jumps: Vec<String> = spec
            .jumps
            .iter()
            .filter(|jump| jump.family == family && jump.table == table)
            .map(|jump| format!("-A {} {}\n", netd_dataplane::text::hook_name(jump.hook), jump_text(jump)))
            .collect();
        let head = format!("*{table}\n");
        text += &restore.replacen(&head, &format!("{head}:FORWARD ACCEPT [0:0]\n"), 1).replace("COMMIT\n", "");
        text += &jumps.concat();
        text += "COMMIT\n";
    }
    text
}

#[test]
fn what_is_written_is_read_again() {
    let spec = compile(&rich(), &facts(), &Indexes::default()).expect("compiles");
    let mut observed = Observed::default();
    for family in IpFamily::ALL {
        read_save(family, &saved(&spec, family), &mut observed);
    }
    let wanted = Observed::of(&spec);
    assert_eq!(observed.chains, wanted.chains);
    assert_eq!(observed.jumps, wanted.jumps);
    assert_eq!(observed.indexes(facts().marks), spec.indexes);
}

#[test]
fn a_rule_that_somebody_replaced_is_seen_and_another_way_to_print_it_is_not() {
    let spec = compile(&rich(), &facts(), &Indexes::default()).expect("compiles");
    let text = saved(&spec, IpFamily::V4);
    let wrong = |text: &str| {
        let mut observed = Observed::default();
        read_save(IpFamily::V4, text, &mut observed);
        let wrong =
            observed.chains.iter().filter(|(_, chain)| chain.hash.is_none()).map(|(key, _)| key.name.to_string());
        wrong.collect::<Vec<_>>()
    };
    assert_eq!(wrong(&text), [""; 0]);
    let printed = text
        .replace("--ctstate NEW,UNTRACKED", "--ctstate UNTRACKED,NEW")
        .replace("-p tcp -m conntrack --ctstate NEW", "-m conntrack -p tcp --ctstate NEW");
    assert_eq!(wrong(&printed), [""; 0]);
    let mut replaced = 0;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with("-A MP-")) {
        let chain = line.split(' ').nth(1).expect("a chain");
        let changed = match line.split_once("-j DROP") {
            Some((before, _)) => format!("{before}-j ACCEPT"),
            None => format!("{line} -s 192.0.2.1/32"),
        };
        let lines: Vec<&str> =
            text.lines().enumerate().map(|(n, line)| if n == number { changed.as_str() } else { line }).collect();
        assert_eq!(wrong(&lines.join("\n")), [chain], "{changed}");
        replaced += 1;
    }
    assert!(replaced > 50, "{replaced} rules");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_stops_the_reader(text: String) {
        read_save(IpFamily::V4, &text, &mut Observed::default());
    }

    #[test]
    fn nothing_that_looks_like_rules_stops_the_reader(words in proptest::collection::vec(
        prop_oneof![
            Just("*mangle\n"), Just("*nat\n"), Just("*x\n"), Just(":MP-X - [0:0]\n"), Just(":"), Just("\n"), Just("-A "), Just("MP-X "),
            Just("FORWARD "), Just("-m mark --mark "), Just("0x1/0x"), Just("0xffff0000 "), Just("-g "), Just("-j MP-X"), Just("/"),
            Just("-m comment --comment "), Just("\"mp:"), Just("abc:1"), Just(":9\" "), Just("é"),
        ],
        0..40,
    )) {
        read_save(IpFamily::V6, &words.concat(), &mut Observed::default());
    }
}
