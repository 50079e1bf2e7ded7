//! One suite for the fake and the real kernel, so that the fake cannot drift. The real one runs in a network namespace of its own and
//! needs root.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

use crate::sample::{addr, changed, facts, facts_with_vxlan, little, rich};
use minipod_kernel::iptables::Variant;
use minipod_kernel::netns::NetNs;
use minipod_model::IpFamily;
use netd_dataplane::fake::FakeKernel;
use netd_dataplane::kernel::execute_step;
use netd_dataplane::name::{ChainName, SetName};
use netd_dataplane::observed::Observed;
use netd_dataplane::plan::{Step, TableRestore};
use netd_dataplane::spec::{Chain, Directions, Entry, Match, Reject, Rule, SetKind, Table, Target};
use netd_dataplane::{Dataplane, DenyAction, HostFirewall, Kernel, LinuxKernel, MarkBits, NodeFacts, PodToNode};

/// Runs a test with the real kernel in an empty network namespace, for each variant of iptables.
fn on_linux(test: impl Fn(LinuxKernel) + Sync) {
    for variant in Variant::ALL {
        let netns = NetNs::create().expect("this test needs root: cannot make a network namespace");
        netns.run(|| test(LinuxKernel::open(Some(variant)).expect("iptables, ipset and root"))).expect("a namespace");
    }
}

fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split_whitespace()).status().expect("the program runs");
    assert!(status.success(), "{program} {arguments}");
}

fn what_is_applied_is_there(kernel: impl Kernel) {
    let mut dataplane = Dataplane::adopt(kernel).expect("adopts nothing");
    assert!(dataplane.is_empty());
    for intent in [little(), rich(), changed(), rich(), little(), changed()] {
        dataplane.apply(&intent, &facts()).expect("applies");
        let wanted = Observed::of(dataplane.spec().expect("was applied"));
        let there = dataplane.kernel().observe().expect("observes");
        assert_eq!(there.sets, wanted.sets);
        assert_eq!(there.jumps, wanted.jumps);
        assert_eq!(there.chains, wanted.chains);
        let again = dataplane.apply(&intent, &facts()).expect("applies");
        assert!(again.is_empty(), "{again:?}");
        let repaired = dataplane.repair().expect("repairs");
        assert!(repaired.is_empty(), "{repaired:?}");
    }
}

#[test]
fn what_is_applied_is_there_on_the_fake() {
    what_is_applied_is_there(FakeKernel::default());
}

#[test]
fn what_is_applied_is_there_on_linux() {
    on_linux(what_is_applied_is_there);
}

fn a_set_has_its_name_only_with_all_that_belongs_into_it(mut kernel: impl Kernel) {
    let name = SetName::parse("mp-p-x-4").expect("a name of ours");
    let step = |addresses: &[&str]| Step::CreateSet {
        name: name.clone(),
        kind: SetKind::HashIp(IpFamily::V4),
        entries: addresses.iter().map(|address| (Entry::Ip(addr(address)), None)).collect(),
    };
    execute_step(&mut kernel, &step(&["10.0.0.1", "fd00::1"])).expect_err("it takes IPv4 only");
    assert!(!kernel.observe().expect("observes").sets.contains_key(&name));
    execute_step(&mut kernel, &step(&["10.0.0.1", "10.0.0.2"])).expect("what is left of the first is in nobody's way");
    let there = kernel.observe().expect("observes").sets;
    assert_eq!(there.iter().map(|(name, set)| (name, set.entries.len())).collect::<Vec<_>>(), [(&name, 2)]);
}

#[test]
fn a_set_has_its_name_only_with_all_that_belongs_into_it_on_the_fake() {
    a_set_has_its_name_only_with_all_that_belongs_into_it(FakeKernel::default());
}

#[test]
fn a_set_has_its_name_only_with_all_that_belongs_into_it_on_linux() {
    on_linux(a_set_has_its_name_only_with_all_that_belongs_into_it);
}

fn everything_of_ours_is_removed(kernel: impl Kernel) {
    let mut dataplane = Dataplane::adopt(kernel).expect("adopts nothing");
    dataplane.apply(&rich(), &facts()).expect("applies");
    dataplane.remove_all().expect("removes");
    assert!(dataplane.kernel().observe().expect("observes").is_empty());
    dataplane.remove_all().expect("removes nothing");
    dataplane.apply(&rich(), &facts()).expect("applies again");
}

#[test]
fn everything_of_ours_is_removed_from_the_fake() {
    everything_of_ours_is_removed(FakeKernel::default());
}

#[test]
fn everything_of_ours_is_removed_from_linux() {
    on_linux(everything_of_ours_is_removed);
}

fn what_is_there_is_adopted(mut kernel: impl Kernel) {
    let mut first = Dataplane::adopt(&mut kernel).expect("adopts nothing");
    first.apply(&rich(), &facts()).expect("applies");
    drop(first);
    let mut second = Dataplane::adopt(&mut kernel).expect("adopts");
    assert!(!second.is_empty());
    let changes = second.apply(&rich(), &facts()).expect("applies");
    assert!(changes.is_empty(), "{changes:?}");
    let changes = second.apply(&changed(), &facts()).expect("applies");
    assert!(!changes.is_empty());
}

#[test]
fn what_is_there_is_adopted_on_the_fake() {
    what_is_there_is_adopted(FakeKernel::default());
}

#[test]
fn what_is_there_is_adopted_on_linux() {
    on_linux(what_is_there_is_adopted);
}

fn the_kernel_refuses(mut kernel: impl Kernel) {
    let set = SetName::parse("mp-x4").expect("a name");
    let chain = ChainName::parse("MP-X").expect("a name");
    let restore = |table, chains: BTreeMap<ChainName, Chain>| {
        let replace = chains.into_iter().map(|(name, chain)| (name, Arc::new(chain))).collect();
        vec![TableRestore { family: IpFamily::V4, table, replace, delete: BTreeSet::new() }]
    };
    let naming = |set: &SetName| {
        let rule = Rule::new(vec![Match::Set(set.clone(), Directions::Src)], Target::Return);
        BTreeMap::from([(chain.clone(), Chain::new(vec![rule]))])
    };
    let (v4, mangle) = (IpFamily::V4, Table::Mangle);
    kernel.restore(&restore(mangle, naming(&set))).expect_err("the set is unknown");
    assert!(kernel.observe().expect("observes").is_empty(), "a refused restore leaves nothing");

    kernel.create_set(&set, SetKind::HashIp(v4)).expect("a set");
    kernel.create_set(&set, SetKind::HashIp(v4)).expect_err("it is there already");
    kernel.restore(&restore(mangle, naming(&set))).expect("the set is known now");
    kernel.destroy_set(&set).expect_err("a rule refers to it");
    let dangling = Chain::new(vec![Rule::always(Target::Jump(ChainName::parse("MP-NONE").expect("a name")))]);
    kernel
        .restore(&restore(mangle, BTreeMap::from([(ChainName::parse("MP-Y").expect("a name"), dangling)])))
        .expect_err("a rule to an unknown chain");
    for (table, target) in [
        (Table::Nat, Target::Drop),
        (Table::Mangle, Target::Masquerade),
        (Table::Mangle, Target::Reject(Reject::AdminProhibited)),
    ] {
        let chain = Chain::new(vec![Rule::always(target)]);
        let name = ChainName::parse("MP-Z").expect("a name");
        kernel.restore(&restore(table, BTreeMap::from([(name, chain)]))).expect_err("not in this table");
    }
    let delete = BTreeSet::from([chain.clone()]);
    let without = TableRestore { family: v4, table: mangle, replace: BTreeMap::new(), delete };
    kernel.restore(&[without]).expect("nothing leads there");
    kernel.destroy_set(&set).expect("nothing refers to it");
    kernel.destroy_set(&set).expect("gone already");
    assert!(kernel.observe().expect("observes").is_empty());
}

#[test]
fn the_fake_refuses_what_linux_refuses() {
    the_kernel_refuses(FakeKernel::default());
}

#[test]
fn linux_refuses_what_the_fake_refuses() {
    on_linux(the_kernel_refuses);
}

#[test]
fn what_somebody_changed_is_put_right() {
    on_linux(|kernel| {
        let variant = kernel.variant();
        let mut dataplane = Dataplane::adopt(kernel).expect("adopts nothing");
        run(&format!("iptables-{variant}"), "-t nat -A OUTPUT -p tcp -m tcp --dport 1 -j ACCEPT");
        dataplane.apply(&rich(), &rejects()).expect("applies");
        let before = dataplane.kernel().observe().expect("observes");
        let tampering = [
            ("", "-F FORWARD"),
            ("", "-F"),
            ("", "-t mangle -F"),
            ("", "-t mangle -D MP-VERDICT 1"),
            ("", "-t mangle -I MP-VERDICT 1 -j RETURN"),
            ("", "-t mangle -R MP-VERDICT 1 -j RETURN"),
            ("", "-t mangle -I FORWARD 1 -j ACCEPT"),
            ("", "-t raw -D PREROUTING 1"),
            ("", "-t nat -F MP-SERVICES"),
            ("", "-t security -F"),
            ("", "-t security -I INPUT 1 -j ACCEPT"),
            ("ipset", "flush mp-sig4"),
            ("ipset", "del mp-p-foo-4 10.244.1.2"),
            ("ipset", "add mp-p-foo-4 10.244.1.99"),
            ("ipset", "add mp-sig4 10.244.1.1 skbmark 0x10000/0xffff0000"),
        ];
        for (program, arguments) in tampering {
            match program {
                "" => run(&format!("iptables-{variant}"), arguments),
                program => run(program, &format!("-exist {arguments}")),
            }
            let changes = dataplane.repair().expect("repairs");
            assert!(!changes.is_empty(), "{arguments}");
            assert_eq!(dataplane.kernel().observe().expect("observes"), before, "{arguments}");
        }
        // What is not ours stays.
        let save = Command::new(format!("iptables-{variant}-save")).output().expect("the program runs");
        let save = String::from_utf8_lossy(&save.stdout).into_owned();
        assert!(save.contains("-A OUTPUT -p tcp -m tcp --dport 1 -j ACCEPT"), "{save}");
    });
}

#[test]
fn a_change_makes_again_what_somebody_removed() {
    on_linux(|kernel| {
        let variant = kernel.variant();
        let mut dataplane = Dataplane::adopt(kernel).expect("adopts nothing");
        for next in [rich(), changed()] {
            dataplane.apply(&little(), &facts()).expect("applies");
            // Only elements change, then more than elements.
            for intent in [little(), next] {
                let mut intent = intent;
                for program in ["iptables", "ip6tables"] {
                    for table in ["raw", "mangle", "nat", "filter"] {
                        run(&format!("{program}-{variant}"), &format!("-t {table} -F"));
                        run(&format!("{program}-{variant}"), &format!("-t {table} -X"));
                    }
                }
                run("ipset", "destroy");
                crate::sample::add_pod(&mut intent, 9, "open");
                dataplane.apply(&intent, &facts()).expect("applies");
                let wanted = Observed::of(dataplane.spec().expect("was applied"));
                assert_eq!(dataplane.kernel().observe().expect("observes"), wanted);
            }
        }
    });
}

#[test]
fn a_foreign_rule_that_holds_a_chain_or_set_stops_nothing() {
    on_linux(|kernel| {
        let variant = kernel.variant();
        let mut dataplane = Dataplane::adopt(kernel).expect("adopts nothing");
        dataplane.apply(&rich(), &facts()).expect("applies");
        let chain = dataplane.spec().expect("was applied").chains.keys().find_map(|key| {
            let of_a_signature = key.name.as_str().starts_with("MP-SI-web") && key.family == IpFamily::V4;
            of_a_signature.then(|| key.name.clone())
        });
        let chain = chain.expect("the signature has a chain");
        run(&format!("iptables-{variant}"), "-t mangle -N OTHER");
        run(&format!("iptables-{variant}"), &format!("-t mangle -A OTHER -j {chain}"));
        run(&format!("iptables-{variant}"), "-A OUTPUT -m set --match-set mp-p-some-4 dst");
        // The signature and the group go, and cannot be removed.
        let changes = dataplane.apply(&changed(), &facts()).expect("applies");
        assert!(!changes.leftovers.is_empty());
        let again = dataplane.repair().expect("repairs");
        assert!(!again.leftovers.is_empty() && again.chains == 0, "{again:?}");
        run(&format!("iptables-{variant}"), "-t mangle -F OTHER");
        run(&format!("iptables-{variant}"), "-D OUTPUT -m set --match-set mp-p-some-4 dst");
        dataplane.repair().expect("repairs");
        let wanted = Observed::of(dataplane.spec().expect("was applied"));
        assert_eq!(dataplane.kernel().observe().expect("observes"), wanted);
    });
}

fn mark_bits_can_be_changed(mut kernel: impl Kernel) {
    let mut other = facts();
    other.marks = MarkBits::new(0x0fff_0000, 0x1000_0000).expect("bits that can be used");
    let mut dataplane = Dataplane::adopt(&mut kernel).expect("adopts nothing");
    dataplane.apply(&rich(), &facts()).expect("applies");
    dataplane.apply(&rich(), &other).expect("applies");
    let wanted = Observed::of(dataplane.spec().expect("was applied"));
    assert_eq!(dataplane.kernel().observe().expect("observes"), wanted);
    drop(dataplane);
    // The same by a node that was started anew.
    let mut dataplane = Dataplane::adopt(&mut kernel).expect("adopts");
    dataplane.apply(&rich(), &facts()).expect("applies");
    let wanted = Observed::of(dataplane.spec().expect("was applied"));
    assert_eq!(dataplane.kernel().observe().expect("observes"), wanted);
}

#[test]
fn mark_bits_can_be_changed_on_the_fake() {
    mark_bits_can_be_changed(FakeKernel::default());
}

#[test]
fn mark_bits_can_be_changed_on_linux() {
    on_linux(mark_bits_can_be_changed);
}

fn rejects() -> NodeFacts {
    NodeFacts { deny_action: DenyAction::Reject, ..facts() }
}

fn what_the_node_is_can_change(kernel: impl Kernel) {
    let mut dataplane = Dataplane::adopt(kernel).expect("adopts nothing");
    let respect = NodeFacts { host_firewall: HostFirewall::Respect, pod_to_node: PodToNode::Allow, ..facts() };
    let without_v6 = NodeFacts { v6: None, ..facts() };
    let mut kubernetes = facts();
    for part in [&mut kubernetes.v4, &mut kubernetes.v6].into_iter().flatten() {
        part.service_cidr = None;
        part.cluster_dns = None;
        part.forwarding_switched_on = false;
    }
    let mut without_services = rich();
    without_services.services = Arc::default();
    for (intent, facts) in [
        (rich(), facts()),
        (rich(), rejects()),
        (rich(), respect),
        (without_services, kubernetes),
        (rich(), facts_with_vxlan()),
        (rich(), NodeFacts { v6: None, ..facts_with_vxlan() }),
        (rich(), without_v6),
        (changed(), facts()),
        (changed(), rejects()),
        (changed(), facts()),
    ] {
        dataplane.apply(&intent, &facts).expect("applies");
        let wanted = Observed::of(dataplane.spec().expect("was applied"));
        assert_eq!(dataplane.kernel().observe().expect("observes"), wanted);
    }
}

#[test]
fn what_the_node_is_can_change_on_the_fake() {
    what_the_node_is_can_change(FakeKernel::default());
}

#[test]
fn what_the_node_is_can_change_on_linux() {
    on_linux(what_the_node_is_can_change);
}
