//! Which crate may depend on which: the table of ARCHITECTURE.md, held against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
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
    ("integration", &["minipod-model", "minipod-protocol", "minipod-kernel"]),
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
/// `minipod-image` walks directories that hostile layers wrote; `minipod-hello` is the program inside a pod;
/// `integration` sends packets that nobody else would.
const MAY_USE_SYSTEM: [&str; 5] = ["minipod-kernel", "minipod-shim", "minipod-image", "minipod-hello", "integration"];

/// What the pure crates may not know: async, clients, files.
const IMPURE: [&str; 8] = ["tokio", "kube", "hyper", "axum", "redb", "futures", "reqwest", "tempfile"];
const PURE: [&str; 2] = ["minipod-model", "netd-policy"];

/// What of the standard library only the crates at the edge may use: programs are started by the kernel crate.
const STARTS_PROGRAMS: &str = "process::Command";
/// What of the standard library the pure crates may not know: files, the network, clocks, programs, the environment.
const IMPURE_STD: [&str; 7] =
    ["std::fs", "std::net::Tcp", "std::net::Udp", "SystemTime", "Instant::now", "std::process", "std::env"];

/// The folders of the crates, which are named in the code map.
const FOLDERS: [(&str, &str); 9] = [
    ("minipod-model", "runtime/model"),
    ("minipod-protocol", "runtime/protocol"),
    ("minipod-api", "runtime/api"),
    ("minipod-controllers", "runtime/controllers"),
    ("minipod", "runtime"),
    ("netd-policy", "netd/policy"),
    ("netd-dataplane", "netd/dataplane"),
    ("netd", "netd"),
    ("minipod-cni", "cni-plugin"),
];

/// The places in a crate's sources where one of the words stands.
fn places(folder: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(folder).join("src")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a crate's folder");
        let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            let lines = text.lines().enumerate().filter(|(_, line)| words.iter().any(|word| line.contains(word)));
            found.extend(lines.map(|(number, line)| format!("{}:{}: {}", path.display(), number + 1, line.trim())));
        }
    }
    found
}

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

#[test]
fn only_the_crates_at_the_edge_start_programs() {
    for (name, folder) in FOLDERS {
        let found = places(folder, &[STARTS_PROGRAMS]);
        assert!(found.is_empty(), "`{name}` may not start programs: {found:#?}");
    }
    assert!(
        !places("runtime/kernel", &[STARTS_PROGRAMS]).is_empty(),
        "the search finds nothing where there is something"
    );
}

#[test]
fn pure_crates_use_no_file_no_clock_and_no_network() {
    for name in PURE {
        let folder = FOLDERS.into_iter().find_map(|(crate_name, folder)| (crate_name == name).then_some(folder));
        let found = places(folder.expect("a folder"), &IMPURE_STD);
        assert!(found.is_empty(), "`{name}` is pure: {found:#?}");
    }
}
