//! Rules that others flush, move or edit are as they were within two seconds, and it is told.

use std::time::{Duration, Instant};

use integration::lab::{Iptables, Lab};
use integration::wait::until;

use crate::node;

integration::on_both_variants! {
    what_others_do_to_rules_is_put_right_within_two_seconds_and_told
}

const BOUND: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(20);

/// What somebody does, with `ipt` for the program of a family.
const DEEDS: [(&str, &str); 9] = [
    ("flushes a table", "ipt -t mangle -F"),
    ("flushes a chain", "ipt -t mangle -F MP-FORWARD"),
    ("removes the jump to a chain", "$(ipt -t raw -S PREROUTING | sed -n 's/^-A/ipt -t raw -D/p' | head -1)"),
    ("goes before the jump to a chain", "ipt -t mangle -I FORWARD -j ACCEPT"),
    ("adds a jump to a chain", "ipt -t filter -A FORWARD -j MP-FORWARD"),
    ("adds a rule", "ipt -t mangle -I MP-FORWARD 2 -j ACCEPT"),
    ("removes a rule", "ipt -t mangle -D MP-FORWARD 2"),
    (
        "exchanges two rules",
        "
        second=$(ipt -t mangle -S MP-VERDICT | sed -n 's/^-A MP-VERDICT//p' | sed -n 2p)
        ipt -t mangle -D MP-VERDICT 2
        eval ipt -t mangle -I MP-VERDICT 3 $second",
    ),
    (
        "turns a drop into an accept",
        "
        rule=$(ipt -t mangle -S | grep '^-A MP-.* -j DROP' | grep -v -e --comment | head -1)
        chain=$(echo $rule | cut -d' ' -f2)
        number=$(ipt -t mangle -S $chain | grep -v '^-N' | grep -n -x -F -e \"$rule\" | head -1 | cut -d: -f1)
        eval ipt -t mangle -R $chain $number $(echo \"$rule\" | sed -e \"s/^-A $chain//\" -e 's/-j DROP/-j ACCEPT/')",
    ),
];

fn what_others_do_to_rules_is_put_right_within_two_seconds_and_told(iptables: Iptables) {
    let lab = Lab::started("n1", iptables).expect("a lab");
    lab.pod("web", "app=web");
    let differences = || node::judge(&lab, Vec::new()).map(|(_, differences)| differences);
    let repaired = || until("the rules", LIMIT, || differences().filter(Vec::is_empty).map(drop)).expect("right");
    repaired();
    for (deed, script) in DEEDS {
        for program in ["iptables", "ip6tables"] {
            let repairs = node::report(&lab)["repairs"].as_u64().expect("a number");
            let _ = lab.shell(&format!("ipt() {{ {program}-$MINIPOD_IPTABLES \"$@\"; }}\n{script}")).expect_success();
            let done = Instant::now();
            let told = until("the repair to be told", LIMIT, || {
                (node::report(&lab)["repairs"].as_u64() > Some(repairs)).then(|| done.elapsed())
            });
            let told =
                told.unwrap_or_else(|error| unreachable!("{program}, somebody {deed}: {error}: {:?}", differences()));
            assert!(told < BOUND, "{program}, somebody {deed}: repaired after {told:?}");
            repaired();
        }
    }
    let status = lab.minipod(&["node", "status"]).expect_success();
    assert!(status.contains("after somebody else changed them"), "{status}");
    assert!(lab.node_log().contains("somebody else changed our rules or sets; repaired"), "{}", lab.node_log());
}
