//! The iptables programs in both variants, each test in a network namespace of its own. Needs root and `apt-get install iptables`.

use std::net::UdpSocket;
use std::process::Command;

use minipod_kernel::iptables::{Generations, Iptables, IptablesError, Jump, Table, Variant};
use minipod_kernel::netns::NetNs;
use minipod_model::IpFamily;

fn inside(test: impl FnOnce() + Send) {
    NetNs::create().expect("a network namespace of its own; run as root").run(test).expect("the test");
}

fn each(test: impl Fn(&Iptables, IpFamily) + Sync) {
    for variant in Variant::ALL {
        for family in IpFamily::ALL {
            inside(|| test(&Iptables::detect(Some(variant)).expect("the programs are installed"), family));
        }
    }
}

fn rules(tool: &Iptables, family: IpFamily) -> Vec<String> {
    let text = tool.save(family, Table::Filter).expect("save");
    text.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
}

#[test]
fn declared_chains_are_replaced_and_others_stay() {
    each(|tool, family| {
        tool.restore(family, "*filter\n:MP-A - [0:0]\n:MP-B - [0:0]\n-A MP-A -j MP-B\n-A MP-B -j DROP\nCOMMIT\n")
            .expect("restore");
        tool.restore(family, "*filter\n:MP-B - [0:0]\n-A MP-B -j RETURN\nCOMMIT\n").expect("restore");
        assert_eq!(rules(tool, family), ["-A MP-A -j MP-B", "-A MP-B -j RETURN"]);
    });
}

#[test]
fn a_refused_line_is_quoted_and_the_table_stays() {
    each(|tool, family| {
        tool.restore(family, "*filter\n:MP-A - [0:0]\n-A MP-A -j DROP\nCOMMIT\n").expect("restore");
        let bad = "*filter\n:MP-A - [0:0]\n-A MP-A -j ACCEPT\n-A MP-A -m set --match-set mp-none src -j DROP\nCOMMIT\n";
        match tool.restore(family, bad) {
            Err(IptablesError::Line { number: 4, line, .. }) => assert!(line.contains("mp-none"), "{line}"),
            other => panic!("{} {family}: {other:?}", tool.variant()),
        }
        assert_eq!(rules(tool, family), ["-A MP-A -j DROP"]);
    });
}

#[test]
fn a_jump_is_put_first_again_after_another_went_on_top() {
    each(|tool, family| {
        tool.restore(family, "*filter\n:MP-FWD - [0:0]\nCOMMIT\n").expect("restore");
        let jump = Jump {
            table: Table::Filter,
            chain: "FORWARD".into(),
            target: "MP-FWD".into(),
            matches: "-i mpod+ -m comment --comment \"minipod: pods\"".into(),
        };
        assert!(tool.ensure_first(family, &jump).expect("jump"));
        assert!(!tool.ensure_first(family, &jump).expect("jump"), "nothing to change");
        tool.restore(family, "*filter\n-I FORWARD -j ACCEPT\nCOMMIT\n").expect("restore");
        assert_eq!(tool.positions(family, &jump).expect("positions"), [2]);
        assert!(tool.ensure_first(family, &jump).expect("jump"));
        assert_eq!(tool.positions(family, &jump).expect("positions"), [1]);
        assert_eq!(rules(tool, family).len(), 2);
        assert!(tool.remove_jump(family, &jump).expect("remove"));
        assert!(!tool.remove_jump(family, &jump).expect("remove"));
        assert_eq!(rules(tool, family), ["-A FORWARD -j ACCEPT"]);
    });
}

#[test]
fn the_variant_that_has_rules_is_chosen() {
    for variant in Variant::ALL {
        inside(|| {
            let forced = Iptables::detect(Some(variant)).expect("the programs are installed");
            forced.restore(IpFamily::V4, "*filter\n-A FORWARD -j ACCEPT\nCOMMIT\n").expect("restore");
            assert_eq!(Iptables::detect(None).expect("detect").variant(), variant);
            let other = if variant == Variant::Nft { Variant::Legacy } else { Variant::Nft };
            Iptables::detect(Some(other))
                .expect("the programs are installed")
                .restore(IpFamily::V4, "*filter\n:MP-FWD - [0:0]\nCOMMIT\n")
                .expect("restore");
            assert_eq!(Iptables::detect(None).expect("detect").variant(), other, "our own chains weigh most");
        });
    }
}

#[test]
fn a_rule_that_is_replaced_by_one_as_long_is_noticed_and_a_packet_is_not() {
    each(|tool, family| {
        let (program, loopback) = match family {
            IpFamily::V4 => ("iptables", "127.0.0.1"),
            IpFamily::V6 => ("ip6tables", "::1"),
        };
        let run = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(Command::new(words[0]).args(&words[1..]).status().expect("it starts").success(), "{line}");
        };
        tool.restore(family, "*filter\n:MP-A - [0:0]\n-A OUTPUT -j MP-A\n-A MP-A -j RETURN\nCOMMIT\n")
            .expect("restore");
        let mut generations = Generations::open(tool.variant());
        let before = generations.observe();
        assert!(before.is_some());
        run("ip link set lo up");
        let socket = UdpSocket::bind((loopback, 0)).expect("a socket");
        socket.send_to(b"x", (loopback, 9)).expect("sent");
        assert_eq!(generations.observe(), before, "{program}: counters are no rules");
        run(&format!("{program}-{} -R MP-A 1 -j ACCEPT", tool.variant()));
        assert_ne!(generations.observe(), before, "{program}");
    });
}

#[test]
fn looking_for_changed_rules_makes_no_table() {
    each(|tool, family| {
        let mut generations = Generations::open(tool.variant());
        let before = generations.observe();
        assert!(before.is_some());
        assert_eq!(tool.save_all(family).expect("save"), "", "{}", tool.variant());
        tool.restore(family, "*filter\n:MP-A - [0:0]\nCOMMIT\n").expect("restore");
        assert_ne!(generations.observe(), before, "{}: a table that came later counts too", tool.variant());
    });
}
