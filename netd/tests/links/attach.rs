//! `docs/datapath.md`, "Links and addresses" and "Addresses are not reused in a hurry".

use std::net::{IpAddr, SocketAddr};

use minipod_kernel::conntrack::Conntrack;
use minipod_kernel::iptables::{Iptables, Variant};
use minipod_kernel::netlink::{Request, Rtnl};
use minipod_kernel::netns::NetNs;
use minipod_model::defaults::ROUTE_PROTOCOL;
use minipod_model::{IpFamily, LinkName};
use minipod_protocol::netd::{Attached, Check, Code, Error};
use netd::attach::Attacher;

use crate::node::{Pod, attach, exchange, ip, now, on_a_node, socket};

/// Everything of ours in the kernel here: links and routes.
fn ours() -> (usize, usize) {
    let mut rtnl = Rtnl::open().expect("netlink");
    let links = rtnl.links().expect("links").iter().filter(|link| link.name.starts_with("mpod")).count();
    let routes = IpFamily::ALL.iter().flat_map(|family| rtnl.routes(*family).expect("routes"));
    (links, routes.filter(|route| route.protocol == ROUTE_PROTOCOL).count())
}

fn addresses(attached: &Attached) -> Vec<IpAddr> {
    attached.addresses.iter().map(|address| address.address).collect()
}

#[test]
fn an_attached_pod_and_its_node_reach_each_other_in_both_families() {
    on_a_node(|node| {
        let (mut attacher, swept) = node.open();
        assert_eq!(swept, netd::attach::Swept::default());
        let pod = Pod::new("one");
        let attached = pod.attach(&mut attacher).expect("attached");
        assert_eq!(addresses(&attached), [ip("10.244.0.2"), ip("fd00:10:244::2")]);
        assert_eq!(attached.mtu, 1400);
        for (address, own) in addresses(&attached).into_iter().zip([ip("192.0.2.1"), ip("2001:db8::1")]) {
            let in_pod = pod.ns.run(|| socket(address, 7)).expect("pod");
            assert_eq!(exchange(&in_pod, (address, 7).into()).expect("node to pod"), own);
            let on_node = socket(own, 7);
            let seen = pod.ns.run(|| exchange(&on_node, SocketAddr::new(own, 7))).expect("pod").expect("pod to node");
            assert_eq!(seen, address);
        }
        let check = Check { sandbox: pod.sandbox(), netns: pod.request().netns, attached };
        attacher.check(&check).expect("as it was made");
        assert_eq!(ours(), (1, 2));
    });
}

#[test]
fn two_pods_of_a_node_reach_each_other() {
    on_a_node(|node| {
        let mut host = node.host();
        let (mut attacher, _) = node.open();
        let (one, two) = (Pod::new("one"), Pod::new("two"));
        let (first, second) = (one.attach(&mut attacher).expect("one"), two.attach(&mut attacher).expect("two"));
        host.ensure(&attacher.pod_routes()).expect("routes");
        for (client, server) in addresses(&first).into_iter().zip(addresses(&second)) {
            let listening = two.ns.run(|| socket(server, 7)).expect("two");
            let seen = one.ns.run(|| exchange(&listening, (server, 7).into())).expect("one").expect("answered");
            assert_eq!(seen, client);
        }
    });
}

#[test]
fn an_attach_that_cannot_work_is_refused_by_name_and_leaves_nothing() {
    on_a_node(|node| {
        let (mut attacher, _) = node.open();
        let refused = |attacher: &mut netd::attach::Attacher, request: &minipod_protocol::netd::Attach| {
            let error: Error = attach(attacher, request).expect_err("refused").into();
            assert_eq!(ours(), (0, 0), "{error}");
            assert_eq!(attacher.attachments().count(), 0);
            error
        };
        let pod = Pod::new("one");

        let mut gone = pod.request();
        gone.netns = "/run/netns/there-is-no-such-namespace".into();
        assert_eq!(refused(&mut attacher, &gone).code, Code::UnknownContainer);

        let mut file = pod.request();
        file.netns = "/etc/passwd".into();
        let error = refused(&mut attacher, &file);
        assert_eq!(
            (error.code, error.message.as_str()),
            (Code::InvalidRequest, "`/etc/passwd` is not a network namespace")
        );

        let mut node_ns = pod.request();
        node_ns.netns = "/proc/thread-self/ns/net".into();
        assert_eq!(refused(&mut attacher, &node_ns).code, Code::InvalidRequest);

        for bad in ["lo", "a/b", "sixteen-bytes-ab"] {
            let mut named = pod.request();
            named.sandbox.ifname = bad.into();
            assert_eq!(refused(&mut attacher, &named).code, Code::InvalidRequest, "{bad}");
        }
        for bad in ["xx", "01:00:00:00:00:01"] {
            let mut mac = pod.request();
            mac.mac = Some(bad.into());
            assert_eq!(refused(&mut attacher, &mac).code, Code::InvalidRequest, "{bad}");
        }
        let mut outside = pod.request();
        outside.addresses = vec![ip("192.0.2.9")];
        let error = refused(&mut attacher, &outside);
        assert!(error.message.contains("`192.0.2.9` is not in this node's ranges (10.244.0.0/24, fd00:10:244::/64)"));

        // An interface of that name inside.
        let other = NetNs::create().expect("a namespace");
        pod.ns
            .run(|| {
                use minipod_kernel::netlink::{Mac, VethEnd};
                let end = |name, last| VethEnd { name, mac: Mac([2, 0, 0, 0, 0, last]) };
                let pair = Request::add_veth(end("eth0", 1), end("peer", 2), 1500, &other);
                Rtnl::open().expect("netlink").send(vec![pair]).expect("veth");
            })
            .expect("pod");
        let error = refused(&mut attacher, &pod.request());
        assert_eq!(error.code, Code::InvalidRequest);
        assert!(error.message.starts_with("interface `eth0` exists already in"), "{error}");

        // A record that cannot be written, after everything is in the kernel.
        let two = Pod::new("two");
        let link = minipod_model::LinkName::for_sandbox("two", "eth0");
        std::fs::create_dir(node.run_dir().join(format!("attachments/{link}.json"))).expect("in the way");
        let error = refused(&mut attacher, &two.request());
        assert_eq!(error.code, Code::Io);
        assert!(error.message.starts_with("cannot write attachment record"), "{error}");
        let inside = two.ns.run(|| Rtnl::open().expect("netlink").link("eth0").expect("look up")).expect("pod");
        assert_eq!(inside, None);
    });
}

#[test]
fn a_second_attach_of_a_sandbox_is_refused_and_the_first_stays() {
    on_a_node(|node| {
        let (mut attacher, _) = node.open();
        let pod = Pod::new("one");
        let attached = pod.attach(&mut attacher).expect("attached");
        let error: Error = pod.attach(&mut attacher).expect_err("attached already").into();
        assert_eq!(error.code, Code::InvalidRequest);
        assert_eq!(
            error.message,
            format!(
                "sandbox `one` has interface `eth0` already (`{}` on the node); release it first",
                attached.host_ifname
            )
        );
        assert_eq!(ours(), (1, 2));
    });
}

#[test]
fn a_detach_takes_everything_away_is_idempotent_and_the_sandbox_can_come_back() {
    on_a_node(|node| {
        let (mut attacher, _) = node.open();
        let tool = Iptables::detect(Some(Variant::Nft)).expect("iptables is installed");
        tool.restore(IpFamily::V4, "*filter\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n")
            .expect("rules");
        let pod = Pod::new("one");
        let attached = pod.attach(&mut attacher).expect("attached");
        let address = addresses(&attached)[0];
        let in_pod = pod.ns.run(|| socket(address, 7)).expect("pod");
        exchange(&in_pod, (address, 7).into()).expect("node to pod");
        let mut tracked = Conntrack::open().expect("ctnetlink");
        assert_eq!(tracked.of_address(address).expect("list").len(), 1);

        let record = attacher.detach(&pod.sandbox(), now()).expect("detached").expect("there was one");
        assert_eq!(record.addresses, addresses(&attached));
        assert_eq!(ours().1, 0, "the routes are gone at once");
        attacher.finish_deletions();
        assert_eq!(tracked.of_address(address).expect("list"), []);
        assert_eq!(attacher.detach(&pod.sandbox(), now()).expect("nothing to do"), None);

        let again = pod.attach(&mut attacher).expect("the same sandbox again");
        assert_eq!(again.host_ifname, attached.host_ifname);
        assert_ne!(addresses(&again), addresses(&attached), "the addresses are in quarantine");
        attacher.detach(&pod.sandbox(), now()).expect("detached");
        let third = pod.attach(&mut attacher).expect("while the link is still being deleted");
        assert_eq!(third.host_ifname, attached.host_ifname);
        attacher.detach(&pod.sandbox(), now()).expect("detached");
        attacher.finish_deletions();
        assert_eq!(ours(), (0, 0));
        assert_eq!(std::fs::read_dir(node.run_dir().join("attachments")).expect("records").count(), 0);
    });
}

#[test]
fn a_successor_adopts_what_is_there_and_sweeps_the_rest() {
    on_a_node(|node| {
        let (mut attacher, _) = node.open();
        let (stays, vanishes, forgotten) = (Pod::new("stays"), Pod::new("vanishes"), Pod::new("forgotten"));
        let kept = stays.attach(&mut attacher).expect("attached");
        let gone = vanishes.attach(&mut attacher).expect("attached");
        let unknown = forgotten.attach(&mut attacher).expect("attached");
        let released = Pod::new("released");
        let last = released.attach(&mut attacher).expect("attached");
        attacher.detach(&released.sandbox(), now()).expect("detached");
        attacher.finish_deletions();
        drop(attacher);
        let records = node.run_dir().join("attachments");
        std::fs::remove_file(records.join(format!("{}.json", unknown.host_ifname))).expect("forgotten");
        std::fs::write(records.join("mpod00000000000.json"), "{").expect("damaged");
        let kept_path = records.join(format!("{}.json", kept.host_ifname));
        let text = std::fs::read_to_string(&kept_path).expect("record");
        let boot = minipod_kernel::process::boot_id().expect("boot id");
        std::fs::write(records.join("mpod11111111111.json"), text.replace(&boot, "another-boot")).expect("older");
        let mut rtnl = Rtnl::open().expect("netlink");
        let index = rtnl.link(&gone.host_ifname).expect("look up").expect("the link").index;
        rtnl.send(vec![Request::remove_link(index)]).expect("deleted");
        let vanished = vanishes.sandbox();
        drop(vanishes);

        let (mut successor, swept) = node.open();
        assert_eq!(swept.earlier_boot, 1);
        assert_eq!(swept.gone.len(), 1);
        assert_eq!(swept.gone[0].sandbox, vanished);
        assert_eq!(swept.unknown_links.len(), 1);
        assert_eq!(swept.damaged.len(), 1);
        successor.finish_deletions();
        assert_eq!(ours(), (1, 2));
        assert!(successor.attachment(&stays.sandbox()).is_some());
        let check = Check { sandbox: stays.sandbox(), netns: stays.request().netns, attached: kept.clone() };
        successor.check(&check).expect("untouched");
        let next = Pod::new("next").attach(&mut successor).expect("attached");
        for earlier in [&kept, &gone, &last] {
            assert_ne!(addresses(&next), addresses(earlier));
        }
        assert_eq!(successor.not_among(&[stays.sandbox()]).len(), 1);
    });
}

#[test]
fn a_check_names_the_first_difference() {
    on_a_node(|node| {
        let (mut attacher, _) = node.open();
        let pod = Pod::new("one");
        let attached = pod.attach(&mut attacher).expect("attached");
        let netns = pod.request().netns;
        let check = Check { sandbox: pod.sandbox(), netns: netns.clone(), attached: attached.clone() };
        let mut other = check.clone();
        other.attached.addresses[0].address = ip("10.244.0.99");
        let error: Error = attacher.check(&other).expect_err("another address").into();
        assert_eq!(error.code, Code::Differs);
        assert_eq!(
            error.message,
            "the pod's addresses is `10.244.0.2, fd00:10:244::2`, `10.244.0.99, fd00:10:244::2` was attached"
        );
        pod.ns
            .run(|| {
                let mut rtnl = Rtnl::open().expect("netlink");
                let routes = rtnl.routes(IpFamily::V4).expect("routes");
                let default = routes.iter().find(|route| route.destination.prefix_len() == 0).expect("default route");
                rtnl.send(vec![Request::remove_route(default)]).expect("removed");
            })
            .expect("pod");
        let error: Error = attacher.check(&check).expect_err("the route is gone").into();
        assert_eq!(error.message, "IPv4 default route by `169.254.1.1` in the pod is `absent`, `present` was attached");
        let stranger = Check { sandbox: Pod::new("x").sandbox(), netns, attached };
        let error: Error = attacher.check(&stranger).expect_err("never attached").into();
        assert_eq!(error.code, Code::UnknownContainer);
    });
}

#[test]
fn a_namespace_that_went_away_without_a_word_is_noticed() {
    on_a_node(|node| {
        let (mut attacher, _) = node.open();
        let pod = Pod::new("one");
        let sandbox = pod.sandbox();
        pod.attach(&mut attacher).expect("attached");
        assert_eq!(attacher.vanished().expect("links"), []);
        drop(pod);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while attacher.vanished().expect("links").is_empty() {
            assert!(std::time::Instant::now() < deadline, "the link is still there");
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
        assert!(!attacher.restore(&sandbox).expect("looked"), "there is nothing to make a link in");
        assert!(attacher.detach(&sandbox, now()).expect("released").is_some());
    });
}

/// Everything that an attachment is, and that packets pass.
#[track_caller]
fn works_as_attached(attacher: &mut Attacher, pod: &Pod, attached: &Attached) {
    let check = Check { sandbox: pod.sandbox(), netns: pod.request().netns, attached: attached.clone() };
    attacher.check(&check).expect("as it was made");
    for address in addresses(attached) {
        let server = pod.ns.run(|| socket(address, 7)).expect("pod");
        exchange(&server, (address, 7).into()).expect("answered");
    }
}

fn ip_command(arguments: &[&str]) {
    assert!(std::process::Command::new("ip").args(arguments).status().expect("`ip` runs").success());
}

#[test]
fn a_link_that_somebody_deleted_is_made_anew_as_it_was() {
    on_a_node(|node| {
        let (mut host, mut attacher, pod, attached) = node.with_pod();
        let end_in_pod = ["link", "del", "dev", "eth0"];
        let elsewhere = NetNs::create().expect("a namespace");
        let path = {
            use std::os::fd::{AsFd as _, AsRawFd as _};
            format!("/proc/{}/fd/{}", std::process::id(), elsewhere.as_fd().as_raw_fd())
        };
        let deletions: [&dyn Fn(); 3] = [
            &|| ip_command(&["link", "del", "dev", &attached.host_ifname]),
            &|| pod.ns.run(|| ip_command(&end_in_pod)).expect("pod"),
            &|| ip_command(&["link", "set", "dev", &attached.host_ifname, "netns", &path]),
        ];
        for delete in deletions {
            delete();
            assert_eq!(attacher.vanished().expect("links"), [pod.sandbox()]);
            assert!(attacher.restore(&pod.sandbox()).expect("made anew"));
            assert_eq!(attacher.vanished().expect("links"), []);
            assert!(host.ensure(&attacher.pod_routes()).expect("routes").is_empty(), "its routes are back as well");
            works_as_attached(&mut attacher, &pod, &attached);
        }
        assert_eq!(
            elsewhere.run(|| Rtnl::open().expect("netlink").links().expect("links").len()).expect("elsewhere"),
            1
        );
    });
}

#[test]
fn a_successor_keeps_a_pod_whose_link_was_deleted_in_the_meantime() {
    on_a_node(|node| {
        let (_, attacher, pod, attached) = node.with_pod();
        drop(attacher);
        ip_command(&["link", "del", "dev", &attached.host_ifname]);
        // What a predecessor leaves that ended in the middle of making it anew.
        ip_command(&["link", "add", &attached.host_ifname, "type", "veth", "peer", "name", "half-made"]);
        let (mut successor, swept) = node.open();
        assert_eq!(swept, netd::attach::Swept::default());
        assert_eq!(successor.vanished().expect("links"), [pod.sandbox()]);
        assert!(successor.restore(&pod.sandbox()).expect("made anew"));
        works_as_attached(&mut successor, &pod, &attached);
        assert_eq!(Rtnl::open().expect("netlink").link("half-made").expect("look up"), None);
    });
}

#[test]
fn a_namespace_that_took_the_place_of_a_pods_gets_no_link() {
    on_a_node(|node| {
        let (mut attacher, _) = node.open();
        let (pod, other) = (Pod::new("one"), Pod::new("other"));
        let path = node.dir.path().join("netns");
        let lead_to = |target: &std::path::Path| {
            let _ = std::fs::remove_file(&path);
            std::os::unix::fs::symlink(target, &path).expect("a link");
        };
        let mut request = pod.request();
        lead_to(&request.netns);
        request.netns.clone_from(&path);
        let attached = attach(&mut attacher, &request).expect("attached");
        lead_to(&other.request().netns);
        ip_command(&["link", "del", "dev", &attached.host_ifname]);
        assert!(!attacher.restore(&pod.sandbox()).expect("looked"), "the namespace at that path is another");
    });
}

#[test]
fn a_link_that_somebody_switched_off_works_again() {
    on_a_node(|node| {
        let (mut host, mut attacher, pod, attached) = node.with_pod();
        let off = ["link", "set", "dev", &attached.host_ifname, "down"];
        assert!(std::process::Command::new("ip").args(off).status().expect("`ip` runs").success());
        let repaired = attacher.repair_links().expect("repaired");
        assert_eq!(repaired.iter().map(LinkName::as_str).collect::<Vec<_>>(), [attached.host_ifname.as_str()]);
        assert!(host.ensure(&attacher.pod_routes()).expect("routes").is_empty(), "its routes are back as well");
        for address in attached.addresses.iter().map(|address| address.address) {
            let server = pod.ns.run(|| socket(address, 7)).expect("pod");
            exchange(&server, (address, 7).into()).expect("answered");
        }
        assert!(attacher.repair_links().expect("nothing to do").is_empty());
    });
}
