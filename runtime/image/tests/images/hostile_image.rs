//! Layers that want to write outside. Each test unpacks into a cage and compares everything beside it byte for byte.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use minipod_image::unpack::{BadPath, Limits, Refusal, SkippedKind, UnpackError};
use proptest::prelude::*;
use tar::EntryType;

use crate::canary::Cage;
use crate::layer::Layer;

fn refusal(result: Result<impl std::fmt::Debug, UnpackError>) -> Refusal {
    match result {
        Err(UnpackError::Refused { reason, .. }) => reason,
        other => unreachable!("not refused: {other:?}"),
    }
}

#[test]
fn a_path_that_ascends_is_refused() {
    for name in ["../canary/file", "a/../../canary/file", "..", "a/b/../../..", "./../canary/new"] {
        for kind in [EntryType::Regular, EntryType::Directory, EntryType::Fifo, EntryType::Char] {
            let cage = Cage::new();
            let layer = Layer::new().entry(kind, name.as_bytes(), b"", b"").finish();
            assert_eq!(refusal(cage.unpack(&layer)), Refusal::Path(BadPath::Ascends), "{name} {kind:?}");
        }
    }
}

#[test]
fn an_absolute_path_means_the_layers_root() {
    let cage = Cage::new();
    let path = cage.canary("file");
    cage.unpack(&Layer::new().file(&path, "forged").finish()).expect("unpacked");
    let inside = cage.layer().join(path.trim_start_matches('/'));
    assert_eq!(fs::read_to_string(inside).expect("inside"), "forged");
}

#[test]
fn a_symlinked_parent_leads_to_the_layers_root_at_most() {
    for target in ["../canary", "../../../../../../../..", "/", "/proc/self/root"] {
        let cage = Cage::new();
        let layer = Layer::new()
            .symlink("way", target)
            .file("way/file", "forged")
            .directory("way/dir")
            .file("way/dir/inner", "forged")
            .finish();
        // Links to what the layer does not have are refused, the others end inside.
        let _either = cage.unpack(&layer);
    }
    let cage = Cage::new();
    let canary = cage.canary("");
    let layer = Layer::new().symlink("way", &canary).file("way/file", "forged").finish();
    assert_eq!(refusal(cage.unpack(&layer)), Refusal::Parent);
}

#[test]
fn an_absolute_link_inside_the_layer_is_followed_inside_the_layer() {
    let cage = Cage::new();
    let layer = Layer::new().directory("usr/lib").symlink("lib", "/usr/lib").file("lib/x", "here").finish();
    cage.unpack(&layer).expect("unpacked");
    assert_eq!(fs::read_to_string(cage.layer().join("usr/lib/x")).expect("inside"), "here");
}

#[test]
fn chains_and_circles_of_links_lead_nowhere() {
    let cage = Cage::new();
    let layer = Layer::new().symlink("a", "b").symlink("b", "c").symlink("c", "a").file("a/x", "forged").finish();
    assert_eq!(refusal(cage.unpack(&layer)), Refusal::Parent);
    let cage = Cage::new();
    let canary = cage.canary("dir");
    let layer = Layer::new().symlink("a", "b").symlink("b", &canary).file("a/inner", "forged").finish();
    assert_eq!(refusal(cage.unpack(&layer)), Refusal::Parent);
}

#[test]
fn an_entry_over_a_link_replaces_the_link() {
    let cage = Cage::new();
    let (file, directory) = (cage.canary("file"), cage.canary("dir"));
    let layer = Layer::new()
        .symlink("f", &file)
        .file("f", "mine")
        .symlink("d", &directory)
        .with(EntryType::Directory, "d", b"", |header| header.set_mode(0o777))
        .file("d/inner", "mine")
        .symlink("p", &file)
        .entry(EntryType::Fifo, b"p", b"", b"")
        .symlink("s", &file)
        .symlink("s", "elsewhere")
        .finish();
    cage.unpack(&layer).expect("unpacked");
    let layer = cage.layer();
    assert_eq!(fs::read_to_string(layer.join("f")).expect("file"), "mine");
    assert_eq!(fs::read_to_string(layer.join("d/inner")).expect("file"), "mine");
    assert!(fs::symlink_metadata(layer.join("p")).expect("pipe").file_type().is_fifo());
    assert_eq!(fs::read_link(layer.join("s")).expect("link").to_str(), Some("elsewhere"));
}

#[test]
fn a_hard_link_out_of_the_tree_is_refused() {
    let cage = Cage::new();
    let target = cage.canary("file");
    assert_eq!(
        refusal(cage.unpack(&Layer::new().hard_link("h", &target).finish())),
        Refusal::LinkTarget(target),
        "absolute: there is no such file inside"
    );
    let cage = Cage::new();
    let result = cage.unpack(&Layer::new().hard_link("h", "../canary/file").finish());
    assert!(matches!(refusal(result), Refusal::LinkPath { problem: BadPath::Ascends, .. }));
    let cage = Cage::new();
    let directory = cage.canary("");
    let layer = Layer::new().symlink("way", &directory).hard_link("h", "way/file").finish();
    assert_eq!(refusal(cage.unpack(&layer)), Refusal::LinkTarget("way/file".into()));
    let cage = Cage::new();
    let layer = Layer::new().symlink("way", "../canary").hard_link("h", "way/file").finish();
    assert_eq!(refusal(cage.unpack(&layer)), Refusal::LinkTarget("way/file".into()));
}

#[test]
fn a_hard_link_to_a_link_is_the_link_and_writing_over_it_changes_no_other_name() {
    let cage = Cage::new();
    let target = cage.canary("file");
    let layer = Layer::new()
        .symlink("s", &target)
        .hard_link("h", "s")
        .file("h", "mine")
        .file("one", "first")
        .hard_link("two", "one")
        .file("two", "second")
        .finish();
    cage.unpack(&layer).expect("unpacked");
    assert_eq!(fs::read_to_string(cage.layer().join("h")).expect("file"), "mine");
    assert_eq!(fs::read_to_string(cage.layer().join("one")).expect("file"), "first");
    assert_eq!(fs::read_to_string(cage.layer().join("two")).expect("file"), "second");
}

#[test]
fn a_hard_link_to_a_directory_or_to_nothing_is_refused() {
    let cage = Cage::new();
    let layer = Layer::new().directory("d").hard_link("h", "d").finish();
    assert_eq!(refusal(cage.unpack(&layer)), Refusal::LinkTarget("d".into()));
    let cage = Cage::new();
    assert_eq!(refusal(cage.unpack(&Layer::new().hard_link("h", "").finish())), Refusal::NoTarget);
    let cage = Cage::new();
    let layer = Layer::new().file(".wh.gone", "").hard_link("h", "gone").finish();
    assert_eq!(refusal(cage.unpack(&layer)), Refusal::LinkTarget("gone".into()), "a whiteout is no file");
}

#[test]
fn whiteouts_and_opaque_marks_stay_inside() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        let cage = Cage::new();
        let result = cage.unpack(&Layer::new().directory("a").file(name, "").finish());
        assert_eq!(refusal(result), Refusal::Path(BadPath::NamelessWhiteout), "{name}");
    }
    let cage = Cage::new();
    let result = cage.unpack(&Layer::new().file("../canary/.wh.file", "").finish());
    assert_eq!(refusal(result), Refusal::Path(BadPath::Ascends));
    for mark in ["way/.wh.file", "way/.wh..wh..opq", "way/.wh.dir"] {
        for target in ["../canary", "/canary"] {
            let cage = Cage::new();
            let layer = Layer::new().symlink("way", target).file(mark, "").finish();
            assert_eq!(refusal(cage.unpack(&layer)), Refusal::Parent, "{mark} {target}");
        }
    }
}

#[test]
fn what_removes_a_directory_does_not_follow_its_links() {
    let cage = Cage::new();
    let (directory, file) = (cage.canary("dir"), cage.canary("file"));
    let layer =
        Layer::new().symlink("d/way", &directory).symlink("d/deep/er/way", &file).file("d", "now a file").finish();
    cage.unpack(&layer).expect("unpacked");
    assert_eq!(fs::read_to_string(cage.layer().join("d")).expect("file"), "now a file");
}

#[test]
fn device_nodes_are_left_out_and_reported() {
    for kind in [EntryType::Char, EntryType::Block] {
        for numbers in [(0, 0), (1, 3), (8, 0)] {
            let cage = Cage::new();
            let layer = Layer::new()
                .with(kind, "dev/node", b"", |header| {
                    header.set_device_major(numbers.0).expect("major");
                    header.set_device_minor(numbers.1).expect("minor");
                })
                .finish();
            let report = cage.unpack(&layer).expect("unpacked");
            assert_eq!(report.skipped.len(), 1);
            assert_eq!((report.skipped[0].entry.as_str(), &report.skipped[0].what), ("dev/node", &SkippedKind::Device));
            assert!(fs::symlink_metadata(cage.layer().join("dev/node")).is_err());
        }
    }
}

#[test]
fn attributes_that_steer_overlayfs_are_left_out() {
    let cage = Cage::new();
    let names =
        ["trusted.overlay.redirect", "trusted.overlay.opaque", "trusted.overlay.metacopy", "user.overlay.whiteout"];
    let keys: Vec<String> = names.iter().map(|name| format!("SCHILY.xattr.{name}")).collect();
    let pairs: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), b"/../canary".as_slice())).collect();
    let report =
        cage.unpack(&Layer::new().pax(&pairs).directory("d").pax(&pairs).file("f", "").finish()).expect("unpacked");
    assert_eq!(report.skipped.len(), 2 * names.len());
    for path in ["d", "f"] {
        assert_eq!(xattr::list(cage.layer().join(path)).expect("attributes").count(), 0, "{path}");
    }
}

#[test]
fn sizes_beyond_the_limit_are_refused_before_anything_is_written() {
    let cage = Cage::new();
    let layer = Layer::new().with(EntryType::Regular, "huge", b"", |header| header.set_size(1 << 62)).finish();
    assert!(matches!(cage.unpack(&layer), Err(UnpackError::TooLarge { entry, .. }) if entry == "huge"));
    let cage = Cage::new();
    let layer = Layer::new().with(EntryType::Regular, "large", b"", |header| header.set_size(1 << 34)).finish();
    assert!(
        matches!(cage.unpack(&layer), Err(UnpackError::Corrupt { entry, .. }) if entry == "large"),
        "it ends early"
    );
    let cage = Cage::new();
    let layer = Layer::new().with(EntryType::Directory, "d", b"", |header| header.set_size(u64::MAX - 600)).finish();
    assert!(cage.unpack(&layer).is_err());
}

#[test]
fn many_small_files_meet_the_limits_too() {
    let cage = Cage::new();
    let layer = Layer::new().file("a", "12345").file("b", "12345").finish();
    let limits = Limits { bytes: 9, entries: 10 };
    assert!(
        matches!(cage.unpack_within(layer.as_slice(), limits), Err(UnpackError::TooLarge { entry, .. }) if entry == "b")
    );
    let cage = Cage::new();
    let limits = Limits { bytes: 100, entries: 1 };
    assert!(
        matches!(cage.unpack_within(layer.as_slice(), limits), Err(UnpackError::TooLarge { entry, .. }) if entry == "b")
    );
}

#[test]
fn headers_that_want_to_fill_the_memory_end_the_stream() {
    for kind in [EntryType::GNULongName, EntryType::XHeader, EntryType::GNULongLink] {
        let cage = Cage::new();
        let layer = Layer::new().with(kind, "x", b"", |header| header.set_size(1 << 40)).unfinished();
        let stream = layer.as_slice().chain(std::io::repeat(b'a').take(1 << 40));
        let result = cage.unpack_within(stream, Limits::default());
        assert!(matches!(result, Err(UnpackError::Corrupt { .. })), "{kind:?}: {result:?}");
    }
}

#[test]
fn paths_that_are_too_long_are_refused() {
    let cage = Cage::new();
    let component = "c".repeat(256);
    assert_eq!(
        refusal(cage.unpack(&Layer::new().file(&component, "").finish())),
        Refusal::Path(BadPath::ComponentTooLong)
    );
    let cage = Cage::new();
    let path = "d/".repeat(2048) + "f";
    assert_eq!(refusal(cage.unpack(&Layer::new().file(&path, "").finish())), Refusal::Path(BadPath::TooLong));
    let cage = Cage::new();
    let layer = Layer::new().symlink("s", &"t".repeat(5000)).finish();
    assert_eq!(refusal(cage.unpack(&layer)), Refusal::Path(BadPath::TooLong));
    let cage = Cage::new();
    let deep = "d/".repeat(2000) + "f";
    cage.unpack(&Layer::new().file(&deep, "deep").finish()).expect("the longest path that is allowed");
}

#[test]
fn names_are_bytes_and_a_nul_ends_none() {
    let cage = Cage::new();
    let layer = Layer::new().entry(EntryType::Regular, b"\xff\n\x1b[2J", b"", b"x").finish();
    cage.unpack(&layer).expect("unpacked");
    assert_eq!(fs::read_dir(cage.layer()).expect("list").count(), 1);
    let cage = Cage::new();
    let layer = Layer::new().pax(&[("path", b"a\0/../../canary/file")]).file("x", "forged").finish();
    assert!(matches!(refusal(cage.unpack(&layer)), Refusal::Path(BadPath::Nul | BadPath::Ascends)));
}

#[test]
fn the_root_of_the_layer_is_a_directory_or_nothing() {
    for kind in [EntryType::Regular, EntryType::Symlink, EntryType::Fifo] {
        let cage = Cage::new();
        let layer = Layer::new().entry(kind, b"./", b"/etc", b"").finish();
        assert_eq!(refusal(cage.unpack(&layer)), Refusal::Root, "{kind:?}");
    }
}

#[test]
fn unknown_kinds_of_entries_are_refused() {
    let cage = Cage::new();
    let layer = Layer::new().entry(EntryType::new(b'Z'), b"x", b"", b"").finish();
    assert_eq!(refusal(cage.unpack(&layer)), Refusal::Type('Z'));
    let cage = Cage::new();
    let layer =
        Layer::new().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"99999999999999")]).file("x", "");
    assert!(matches!(refusal(cage.unpack(&layer.finish())), Refusal::Sparse(_)));
}

#[test]
fn a_stream_that_ends_early_or_is_none_is_damaged() {
    let cage = Cage::new();
    let whole = Layer::new().file("a", &"x".repeat(2000)).file("b", "y").finish();
    for length in [1, 511, 513, 1500, 2559, 2561] {
        let result = cage.unpack(&whole[..length]);
        assert!(matches!(result, Err(UnpackError::Corrupt { .. })), "{length}: {result:?}");
    }
    assert!(matches!(cage.unpack(&[b'x'; 4096]), Err(UnpackError::Corrupt { .. })));
    let trailing = Layer::new().file("a", "1").raw(&[7; 512]).finish();
    assert!(matches!(cage.unpack(&trailing), Err(UnpackError::Corrupt { .. })));
}

#[test]
fn setuid_programs_of_a_layer_are_out_of_reach_for_other_users() {
    let base = tempfile::TempDir::new().expect("temporary directory");
    let store = minipod_image::store::Store::open(&base.path().join("images")).expect("store");
    let mode = fs::metadata(store.root()).expect("root").mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// One entry of a random layer: kind, name, target.
fn random_entry() -> impl Strategy<Value = (EntryType, String, String)> {
    let kind = prop::sample::select(vec![
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Fifo,
        EntryType::Char,
    ]);
    let part = prop::sample::select(vec![
        "a",
        "b",
        "canary",
        "dir",
        "file",
        "..",
        ".",
        ".wh.a",
        ".wh.file",
        ".wh..wh..opq",
        "",
    ]);
    let name = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    let target = prop::sample::select(vec![
        "a",
        "b",
        "/",
        "..",
        "../canary",
        "../canary/file",
        "CANARY",
        "CANARY/dir",
        "a/b",
        "b/a",
    ]);
    (kind, name, target.prop_map(str::to_owned))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(400), ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_entries_changes_anything_outside(entries in prop::collection::vec(random_entry(), 1..12)) {
        let cage = Cage::new();
        let canary = cage.canary("");
        let canary = canary.trim_end_matches('/');
        // One layer after the other, since a refused entry ends its layer.
        for (kind, name, target) in entries {
            let target = target.replace("CANARY", canary);
            let layer = Layer::new().entry(kind, name.as_bytes(), target.as_bytes(), b"forged");
            let _either = cage.unpack(&layer.finish());
        }
    }
}

/// How many random cases: `scripts/test --full` tries twenty times as many as usual.
fn cases(usual: u32) -> u32 {
    if std::env::var_os("MINIPOD_TEST_FULL").is_some() { usual * 20 } else { usual }
}
