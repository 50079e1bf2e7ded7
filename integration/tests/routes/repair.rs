//! What leads to other nodes is put back when somebody takes it away, and goes when nobody needs it any more.

use std::time::Duration;

use integration::lab::{Iptables, Lab};
use integration::snapshot::Snapshot;
use integration::wait::until;

use crate::site::{Site, Underlay, forget, routes, start};

/// A look of netd's that nobody asked for is at most 5 s away.
const PATIENCE: Duration = Duration::from_secs(12);

/// Everything that leads to other nodes.
fn tunnel(lab: &Lab) -> String {
    let script = "ip -d -o link show minipod-vxlan 2>/dev/null | sed 's/^[0-9]*: //; s/ qlen.*//' || true
        ip -o address show dev minipod-vxlan 2>/dev/null | sed 's/^[0-9]*: //; s/valid_lft.*//' || true
        { ip neighbour show dev minipod-vxlan nud permanent; ip -6 neighbour show dev minipod-vxlan nud permanent; } 2>/dev/null | sort || true
        bridge fdb show dev minipod-vxlan 2>/dev/null | grep ' dst ' || true";
    lab.shell(script).expect_success() + &routes(lab)
}

#[track_caller]
fn becomes(lab: &Lab, what: &str, expected: &str) {
    until(what, PATIENCE, || (tunnel(lab) == expected).then_some(())).unwrap_or_else(|error| {
        unreachable!("{error}:\n{}\n--- instead of\n{expected}\n{}", tunnel(lab), lab.node_log())
    });
}

#[test]
fn what_leads_to_other_nodes_is_repaired_follows_their_objects_and_leaves_nothing() {
    let site = Site::new(Iptables::Nft, Underlay::Router);
    let (lab, other) = (&site.one, site.places[1]);
    let before = Snapshot::of(lab);
    site.start(&[]);
    let alone = tunnel(lab);
    site.introduce();
    site.wait_for_routes();
    let whole = tunnel(lab);
    for part in ["minipod-vxlan", "10.244.1.1/32", "fd00:10:244:1::1/128", "PERMANENT", "dst 198.51.100.2"] {
        assert!(whole.contains(part), "no {part} in\n{whole}");
    }
    for damage in [
        "ip link del minipod-vxlan",
        "ip link set minipod-vxlan down",
        "ip route flush proto 109; ip -6 route flush proto 109",
        "ip address flush dev minipod-vxlan",
        "ip neighbour del 10.244.2.1 dev minipod-vxlan",
        "bridge fdb del $(bridge fdb show dev minipod-vxlan | sed -n 's/ .*//p' | head -1) dev minipod-vxlan",
        "bridge fdb add 02:00:00:00:00:09 dst 203.0.113.9 dev minipod-vxlan",
        "ip link set minipod-vxlan mtu 1300",
    ] {
        let _ = lab.shell(damage).expect_success();
        becomes(lab, &format!("repair after `{damage}`"), &whole);
    }
    // The device follows the uplink, and so do the routes of services.
    let _ = lab.shell("ip link set up0 mtu 1400").expect_success();
    let narrower = whole.replace("mtu 1450", "mtu 1350").replace("mtu 1500", "mtu 1400");
    becomes(lab, "the uplink's MTU", &narrower);
    let _ = lab.shell("ip link set up0 mtu 1500").expect_success();
    becomes(lab, "the uplink's MTU", &whole);
    // A daemon that comes back finds everything as it must be, and changes nothing.
    let index = || lab.shell("ip -o link show minipod-vxlan | cut -d: -f1").expect_success();
    let known = index();
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    assert_eq!(tunnel(lab), whole, "it stays while nobody looks");
    start(lab, site.places[0], &[]);
    becomes(lab, "the same", &whole);
    assert_eq!(index(), known, "the device is the one that it was");
    // One that needs no device takes it away.
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    start(lab, site.places[0], &["--routing", "none"]);
    becomes(lab, "nothing", &alone);
    let _ = lab.minipod(&["node", "stop"]).expect_success();
    start(lab, site.places[0], &[]);
    becomes(lab, "everything", &whole);
    forget(lab, other);
    becomes(lab, "nothing, after the other node's object is gone", &alone);
    // The rules that guard the device go after it.
    until("rules without VXLAN", PATIENCE, || {
        let sets = lab.shell("ipset list -n").expect_success();
        (!sets.contains("mp-vxlan") && !sets.contains("mp-inside") && !sets.contains("mp-nodes")).then_some(())
    })
    .expect("no sets of VXLAN");

    let two = Snapshot::of(&site.two);
    let _ = site.two.minipod(&["node", "reset", "--yes"]).expect_success();
    assert!(two.differences(&Snapshot::of(&site.two)).contains("minipod-vxlan"));
    let link = site.two.shell("ip link show minipod-vxlan");
    assert!(!link.succeeded(), "{link}");
    assert_eq!(routes(&site.two), "");
    let _ = lab.minipod(&["node", "reset", "--yes"]).expect_success();
    let left = before.differences(&Snapshot::of(lab));
    assert!(left.is_empty(), "left behind:\n{left}");
}
