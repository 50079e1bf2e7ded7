//! Which crate may depend on which: the table of ARCHITECTURE.md, held against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use integration::ran::Ran;

/// Each crate of ours with those of ours that it may name as a dependency.
const EDGES: [(&str, &[&str]); 14] = [
    ("minipod-model", &[]),
    ("minipod-protocol", &[]),
    ("minipod-hello", &[]),
    ("minipod-kernel", &["minipod-model"]),
    ("minipod-api", &["minipod-model"]),
    ("minipod-controllers", &["minipod-model"]),
    ("minipod-image", &["minipod-model"]),
    ("minipod-shim", &["minipod-model", "minipod-protocol"]),
    ("netd-policy", &["minipod-model"]),
    ("netd-dataplane", &["minipod-model", "netd-policy", "minipod-kernel"]),
    ("netd", &["minipod-model", "minipod-protocol", "minipod-kernel", "netd-policy", "netd-dataplane"]),
    (
        "minipod",
        &[
            "minipod-model",
            "minipod-protocol",
            "minipod-kernel",
            "minipod-api",
            "minipod-controllers",
            "minipod-image",
            "netd",
            "netd-policy",
        ],
    ),
    ("minipod-cni", &["minipod-protocol"]),
    ("integration", &["minipod-model", "minipod-protocol"]),
];

/// Crates that reach into the kernel, and who may name them.
const SYSTEM: [&str; 8] = [
    "nix",
    "libc",
    "rustix",
    "rtnetlink",
    "netlink-sys",
    "netlink-packet-core",
    "netlink-packet-route",
    "netlink-packet-netfilter",
];
/// `minipod-image` walks directories that hostile layers wrote; `minipod-hello` is the program inside a pod.
const MAY_USE_SYSTEM: [&str; 4] = ["minipod-kernel", "minipod-shim", "minipod-image", "minipod-hello"];

/// What the pure crates may not know: async, clients, files.
const IMPURE: [&str; 8] = ["tokio", "kube", "hyper", "axum", "redb", "futures", "reqwest", "tempfile"];
const PURE: [&str; 2] = ["minipod-model", "netd-policy"];

/// The dependencies that each crate of the workspace names, without those of its tests.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let args = ["metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path", manifest];
    let text = Ran::run(Command::new("cargo").args(args)).expect("cargo metadata").expect_success();
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let mut table = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let named = package["dependencies"].as_array().expect("dependencies").iter();
        let named = named.filter(|d| d["kind"].as_str() != Some("dev"));
        let named = named.filter_map(|d| d["name"].as_str().map(str::to_owned)).collect();
        table.insert(package["name"].as_str().expect("a name").to_owned(), named);
    }
    table
}

#[test]
fn crates_depend_only_on_those_that_they_may_know() {
    let table = dependencies();
    let ours: BTreeSet<&String> = table.keys().collect();
    assert_eq!(ours.len(), EDGES.len(), "a crate is missing in the table of edges: {ours:?}");
    for (name, allowed) in EDGES {
        for dependency in table[name].iter().filter(|d| ours.contains(d)) {
            assert!(allowed.contains(&dependency.as_str()), "`{name}` may not depend on `{dependency}`");
        }
    }
}

#[test]
fn only_the_crates_at_the_edge_reach_into_the_kernel() {
    for (name, named) in dependencies() {
        for system in SYSTEM.iter().filter(|s| named.contains(**s)) {
            assert!(MAY_USE_SYSTEM.contains(&name.as_str()), "`{name}` may not depend on `{system}`");
        }
        assert_eq!(named.contains("libcontainer"), name == "minipod-shim", "`{name}` and libcontainer");
    }
}

#[test]
fn pure_crates_know_no_async_no_client_and_no_files() {
    let table = dependencies();
    for name in PURE {
        for impure in IMPURE {
            assert!(!table[name].contains(impure), "`{name}` may not depend on `{impure}`");
        }
    }
}
