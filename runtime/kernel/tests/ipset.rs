//! Sets on the real kernel, each test in a network namespace of its own. Needs root.

use std::net::IpAddr;

use minipod_kernel::ipset::{Batch, Edit, Element, Entry, Ipset, IpsetError, Mark, Reason, SetName, SetSpec, SetType};
use minipod_kernel::netns::NetNs;
use minipod_model::{IpFamily, Protocol};

fn inside(test: impl FnOnce(&mut Ipset) + Send) {
    let ns = NetNs::create().expect("a network namespace of its own; run as root");
    ns.run(|| test(&mut Ipset::open().expect("ipset in the kernel"))).expect("the test");
}

fn name(text: &str) -> SetName {
    SetName::new(text).expect("a set's name")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn entries(of: SetType, family: IpFamily) -> Vec<Entry> {
    let (a, b, net) = match family {
        IpFamily::V4 => (ip("10.1.2.3"), ip("10.1.2.4"), "10.9.0.0/16"),
        IpFamily::V6 => (ip("fd00::3"), ip("fd00::4"), "fd00:9::/48"),
    };
    let net: ipnet::IpNet = net.parse().expect("a network");
    let mut entries = match of {
        SetType::HashIp => vec![Entry::Ip(a), Entry::Ip(b)],
        SetType::HashNet => vec![Entry::Net(net), Entry::Net(a.into())],
        SetType::HashIpPort => vec![
            Entry::ip_port(a, Protocol::Tcp, 80),
            Entry::ip_port(a, Protocol::Udp, 53),
            Entry::ip_port(b, Protocol::Sctp, 9),
        ],
        SetType::HashNetPort => {
            vec![Entry::net_port(net, Protocol::Tcp, 80), Entry::net_port(a.into(), Protocol::Udp, 1)]
        }
        SetType::HashIpPortIp => vec![Entry::IpPortIp(a, 6, 80, b), Entry::IpPortIp(b, 17, 80, a)],
        SetType::HashNetIface => vec![Entry::NetIface(net, "mpod0".into()), Entry::NetIface(a.into(), "mpod1".into())],
        SetType::BitmapPort => vec![Entry::Port(0), Entry::Port(80), Entry::Port(65535)],
        SetType::ListSet => vec![Entry::Set(name("member"))],
    };
    entries.sort();
    entries
}

#[test]
fn members_of_every_type_and_family_are_read_back_as_they_were_written() {
    inside(|sets| {
        sets.create(&name("member"), &SetSpec::new(SetType::HashIp, IpFamily::V4)).expect("create");
        for kind in SetType::ALL {
            for family in IpFamily::ALL {
                let set = name("subject");
                sets.create(&set, &SetSpec::new(kind, family)).unwrap_or_else(|e| panic!("{kind} {family}: {e}"));
                let written: Vec<Element> = entries(kind, family).into_iter().map(Element::from).collect();
                sets.add(&set, &written).unwrap_or_else(|e| panic!("{kind} {family}: {e}"));
                let (header, read) = sets.members(&set).expect("list").expect("the set");
                assert_eq!(read, written, "{kind} {family}");
                assert_eq!((header.kind, header.elements as usize), (Some(kind), written.len()));
                assert_eq!(header.family, kind.has_family().then_some(family), "{kind}");
                sets.remove(&set, &written[..1]).expect("remove");
                assert_eq!(sets.members(&set).expect("list").expect("the set").1, written[1..], "{kind} {family}");
                sets.destroy(&set).expect("destroy");
            }
        }
        assert_eq!(sets.members(&name("subject")).expect("list"), None);
    });
}

#[test]
fn adding_twice_and_removing_what_is_absent_change_nothing() {
    inside(|sets| {
        let set = name("s");
        sets.create(&set, &SetSpec::new(SetType::HashIp, IpFamily::V4)).expect("create");
        let member = [Entry::Ip(ip("10.0.0.1")).into()];
        sets.add(&set, &member).expect("add");
        sets.add(&set, &member).expect("add again");
        sets.remove(&set, &member).expect("remove");
        sets.remove(&set, &member).expect("remove again");
    });
}

#[test]
fn marks_are_carried_and_updated_in_place() {
    inside(|sets| {
        let set = name("marks");
        sets.create(&set, &SetSpec::new(SetType::HashIp, IpFamily::V6).skbinfo()).expect("create");
        for value in [0x10, 0x20] {
            sets.add(&set, &[Element::marked(Entry::Ip(ip("fd00::1")), value, 0xff0)]).expect("add");
            let (header, members) = sets.members(&set).expect("list").expect("the set");
            assert!(header.skbinfo);
            assert_eq!(members[0].mark, Some(Mark { value, mask: 0xff0 }));
            assert_eq!(members.len(), 1);
        }
    });
}

#[test]
fn ten_thousand_members_go_in_and_come_out() {
    inside(|sets| {
        let set = name("large");
        sets.create(&set, &SetSpec::new(SetType::HashIp, IpFamily::V4).maxelem(20_000)).expect("create");
        let members: Vec<Element> =
            (0..10_000_u32).map(|n| Entry::Ip(IpAddr::from((0x0a00_0001 + n).to_be_bytes())).into()).collect();
        sets.add(&set, &members).expect("add");
        assert_eq!(sets.members(&set).expect("list").expect("the set").1, members);
    });
}

#[test]
fn several_sets_are_edited_in_one_exchange() {
    inside(|sets| {
        let (a, b) = (name("a"), name("b"));
        for set in [&a, &b] {
            sets.create(set, &SetSpec::new(SetType::HashIp, IpFamily::V4)).expect("create");
        }
        let (one, two) = ([Entry::Ip(ip("10.0.0.1")).into()], [Entry::Ip(ip("10.0.0.2")).into()]);
        sets.add(&a, &one).expect("add");
        sets.edit(&[
            Batch { set: &a, edit: Edit::Remove, elements: &one },
            Batch { set: &b, edit: Edit::Add, elements: &one },
            Batch { set: &b, edit: Edit::Add, elements: &two },
        ])
        .expect("edit");
        let found: Vec<_> = sets.dump("").expect("dump").into_iter().map(|(h, m)| (h.name, m.len())).collect();
        assert_eq!(found, [("a".to_owned(), 0), ("b".to_owned(), 2)]);
    });
}

#[test]
fn contents_are_swapped_renamed_and_flushed() {
    inside(|sets| {
        let (a, b, c) = (name("a"), name("b"), name("c"));
        for set in [&a, &b] {
            sets.create(set, &SetSpec::new(SetType::HashNet, IpFamily::V4)).expect("create");
        }
        sets.add(&a, &[Entry::Net("10.0.0.0/8".parse().expect("net")).into()]).expect("add");
        sets.swap(&a, &b).expect("swap");
        let count = |sets: &mut Ipset, set| sets.members(set).expect("list").expect("the set").1.len();
        assert_eq!((count(sets, &a), count(sets, &b)), (0, 1));
        sets.rename(&b, &c).expect("rename");
        assert_eq!(count(sets, &c), 1);
        sets.flush(&c).expect("flush");
        assert_eq!(count(sets, &c), 0);
        let error = sets.rename(&a, &c).expect_err("the name is taken");
        assert_eq!(error.reason(), Some(Reason::SecondName));
    });
}

#[test]
fn a_refusal_names_the_set_the_member_and_the_reason() {
    inside(|sets| {
        let set = name("mp-tiny");
        assert_eq!(
            sets.flush(&set).expect_err("absent").to_string(),
            "cannot flush set `mp-tiny`: there is no such set"
        );
        let absent = sets.add(&set, &[Entry::Ip(ip("10.0.0.1")).into()]).expect_err("absent");
        assert_eq!(absent.to_string(), "cannot add to set `mp-tiny`: there is no such set");
        sets.create(&set, &SetSpec::new(SetType::HashNet, IpFamily::V4)).expect("create");
        assert_eq!(
            sets.create(&set, &SetSpec::new(SetType::HashNet, IpFamily::V4)).expect_err("twice").reason(),
            Some(Reason::SetExists)
        );
        let batch = ["10.0.0.0/8", "11.0.0.0/8", "0.0.0.0/0", "12.0.0.0/8"];
        let batch: Vec<Element> = batch.iter().map(|n| Entry::Net(n.parse().expect("net")).into()).collect();
        let refused = sets.add(&set, &batch).expect_err("a /0 fits in no hash:net");
        assert_eq!(
            refused.to_string(),
            "cannot add `0.0.0.0/0` to set `mp-tiny`: this prefix length fits in no such set"
        );
        assert_eq!(sets.members(&set).expect("list").expect("the set").1.len(), 2, "those before it are in");
        let family = sets.add(&set, &[Entry::Net("fd00::/8".parse().expect("net")).into()]).expect_err("wrong family");
        assert_eq!(family.reason(), Some(Reason::Protocol));
        let unmarked = sets.add(&set, &[Element::marked(Entry::Net("13.0.0.0/8".parse().expect("net")), 1, 1)]);
        assert_eq!(unmarked.expect_err("no skbinfo").reason(), Some(Reason::Skbinfo));
    });
}

#[test]
fn a_full_set_says_so() {
    inside(|sets| {
        let set = name("full");
        sets.create(&set, &SetSpec::new(SetType::HashIp, IpFamily::V4).maxelem(2)).expect("create");
        let members: Vec<Element> = (1..=200_u8).map(|n| Entry::Ip(IpAddr::from([10, 0, 0, n])).into()).collect();
        assert_eq!(sets.add(&set, &members).expect_err("full").reason(), Some(Reason::Full));
    });
}

#[test]
fn a_set_in_a_list_cannot_be_destroyed() {
    inside(|sets| {
        let (list, set) = (name("list"), name("set"));
        sets.create(&list, &SetSpec::new(SetType::ListSet, IpFamily::V4)).expect("create");
        sets.create(&set, &SetSpec::new(SetType::HashIp, IpFamily::V4)).expect("create");
        sets.add(&list, &[Entry::Set(set.clone()).into()]).expect("add");
        assert_eq!(sets.destroy(&set).expect_err("referenced").reason(), Some(Reason::Busy));
        sets.destroy(&list).expect("destroy");
        sets.ensure_destroyed(&set).expect("destroy");
        sets.ensure_destroyed(&set).expect("gone already");
    });
}

#[test]
fn a_port_range_is_one_element_of_a_bitmap() {
    inside(|sets| {
        let set = name("ports");
        sets.create(&set, &SetSpec::new(SetType::BitmapPort, IpFamily::V4)).expect("create");
        sets.add(&set, &[Entry::Ports(1024, 65535).into()]).expect("add");
        assert_eq!(sets.members(&set).expect("list").expect("the set").1.len(), 64512);
    });
}

#[test]
fn without_the_right_the_error_says_what_is_needed() {
    let ns = NetNs::create().expect("a network namespace of its own; run as root");
    ns.run(|| {
        let mut sets = Ipset::open().expect("ipset in the kernel");
        // The socket is checked by the rights of whoever sends.
        drop_rights();
        let error =
            sets.create(&name("s"), &SetSpec::new(SetType::HashIp, IpFamily::V4)).expect_err("a thread without rights");
        assert!(matches!(error, IpsetError::Permission { .. }), "{error}");
    })
    .expect("the test");
}

/// Gives up root on this thread alone, which ends with the test; the C library's `setresuid` would change the whole process.
#[expect(unsafe_code, reason = "no crate offers the system call for one thread")]
fn drop_rights() {
    // SAFETY: setresuid takes three integers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
    assert_eq!(result, 0, "setresuid");
}
