//! What layers bring and take away, as the kernel's overlay shows it.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use minipod_image::Rootfs;
use minipod_image::unpack::{Limits, SkippedKind, unpack};
use tar::EntryType;
use tempfile::TempDir;

use crate::layer::Layer;
use crate::overlay::look;

/// Layers given lowest first; directories topmost first.
struct Stack {
    _base: TempDir,
    layers: Vec<PathBuf>,
}

fn stack(layers: Vec<Layer>) -> Stack {
    let base = TempDir::new().expect("temporary directory");
    let mut directories = Vec::new();
    for (number, layer) in layers.into_iter().enumerate() {
        let directory = base.path().join(number.to_string());
        fs::create_dir(&directory).expect("directory");
        unpack(layer.finish().as_slice(), &directory, Limits::default()).expect("unpacked");
        directories.insert(0, directory);
    }
    Stack { _base: base, layers: directories }
}

fn tree(stack: &Stack) -> Vec<String> {
    look(&stack.layers, "find . -mindepth 1 | sort").lines().map(|line| line[2..].to_owned()).collect()
}

#[test]
fn whiteouts_hide_what_is_below_and_only_that() {
    let stack = stack(vec![
        Layer::new().file("a", "1").file("d/x", "1").file("d/y", "1").file("e/z", "1"),
        Layer::new().file(".wh.a", "").file("d/.wh.x", "").file("d/new", "2").file(".wh.e", ""),
    ]);
    assert_eq!(tree(&stack), ["d", "d/new", "d/y"]);
}

#[test]
fn an_opaque_directory_hides_everything_below_wherever_its_mark_stands() {
    for mark_first in [true, false] {
        let upper = if mark_first {
            Layer::new().file("d/.wh..wh..opq", "").file("d/new", "2")
        } else {
            Layer::new().file("d/new", "2").file("d/.wh..wh..opq", "")
        };
        let stack = stack(vec![Layer::new().file("d/x", "1").file("d/sub/y", "1").file("other", "1"), upper]);
        assert_eq!(tree(&stack), ["d", "d/new", "other"], "mark first: {mark_first}");
    }
}

#[test]
fn a_whiteout_beside_its_own_name_hides_only_lower_layers() {
    for whiteout_first in [true, false] {
        let lower = || Layer::new().file("f", "old").file("d/old", "1").file("i/old", "1");
        let whiteouts = |layer: Layer| layer.file(".wh.f", "").file(".wh.d", "").file(".wh.i", "");
        let contents = |layer: Layer| layer.file("f", "new").directory("d").file("d/new", "2").file("i/new", "2");
        let upper = if whiteout_first { contents(whiteouts(Layer::new())) } else { whiteouts(contents(Layer::new())) };
        let stack = stack(vec![lower(), upper]);
        assert_eq!(tree(&stack), ["d", "d/new", "f", "i", "i/new"], "whiteout first: {whiteout_first}");
        assert_eq!(look(&stack.layers, "cat f"), "new");
    }
}

#[test]
fn owners_modes_and_times_are_kept() {
    let header = |mode: u32, uid: u64, gid: u64| {
        move |header: &mut tar::Header| {
            header.set_mode(mode);
            header.set_uid(uid);
            header.set_gid(gid);
        }
    };
    let stack = stack(vec![
        Layer::new()
            .with(EntryType::Directory, "./", b"", header(0o711, 5, 6))
            .with(EntryType::Directory, "tmp", b"", header(0o1777, 0, 0))
            .pax(&[("mtime", b"1234567890.123456789")])
            .with(EntryType::Regular, "su", b"#!", header(0o4755, 1, 2))
            .with(EntryType::Regular, "tmp/sg", b"#!", header(0o2750, 70_000, 4_000_000_000))
            .with(EntryType::Fifo, "pipe", b"", header(0o640, 3, 4))
            .with(EntryType::Directory, "ro", b"", header(0o500, 0, 0))
            .file("ro/late", ""),
    ]);
    let layer = &stack.layers[0];
    let stat = |name: &str| {
        let metadata = fs::symlink_metadata(layer.join(name)).expect("metadata");
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.mtime())
    };
    assert_eq!(stat(""), (0o711, 5, 6, 1_000_000_000));
    assert_eq!(stat("tmp"), (0o1777, 0, 0, 1_000_000_000), "its time is its own, not that of its last change");
    assert_eq!(stat("su"), (0o4755, 1, 2, 1_234_567_890));
    assert_eq!(fs::metadata(layer.join("su")).expect("metadata").mtime_nsec(), 123_456_789);
    assert_eq!(stat("tmp/sg"), (0o2750, 70_000, 4_000_000_000, 1_000_000_000));
    assert_eq!(stat("pipe"), (0o640, 3, 4, 1_000_000_000));
    assert!(fs::symlink_metadata(layer.join("pipe")).expect("pipe").file_type().is_fifo());
    assert_eq!(stat("ro").0, 0o500);
}

#[test]
fn hard_links_are_one_file_and_links_keep_their_targets() {
    let stack = stack(vec![
        Layer::new()
            .file("a", "1")
            .hard_link("d/b", "a")
            .hard_link("c", "./a")
            .symlink("s", "../../etc")
            .symlink("t", "/a"),
    ]);
    let inode = |name: &str| fs::metadata(stack.layers[0].join(name)).expect("metadata").ino();
    assert_eq!((inode("a"), inode("a")), (inode("d/b"), inode("c")));
    assert_eq!(fs::read_link(stack.layers[0].join("s")).expect("link").to_str(), Some("../../etc"));
}

#[test]
fn file_capabilities_are_kept_and_other_attributes_reported() {
    // VFS_CAP_REVISION_2, effective, cap_net_raw (linux/capability.h).
    let capability: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let base = TempDir::new().expect("temporary directory");
    let layer = Layer::new()
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"kept"),
            ("SCHILY.xattr.security.selinux", b"x"),
        ])
        .with(EntryType::Regular, "ping", b"#!", |header| header.set_uid(7))
        .finish();
    let report = unpack(layer.as_slice(), base.path(), Limits::default()).expect("unpacked");
    let get = |name: &str| xattr::get(base.path().join("ping"), name).expect("attribute");
    assert_eq!(get("security.capability").as_deref(), Some(capability));
    assert_eq!(get("user.note").as_deref(), Some(b"kept".as_slice()));
    assert_eq!(get("security.selinux"), None);
    assert_eq!(report.skipped.len(), 1);
    assert_eq!(report.skipped[0].what, SkippedKind::Attribute("security.selinux".into()));
}

#[test]
fn an_image_is_read_without_a_mount_as_the_kernel_shows_it() {
    let stack = stack(vec![
        Layer::new()
            .file("etc/passwd", "old")
            .file("etc/gone", "x")
            .file("opaque/old", "x")
            .file("usr/bin/tool", "#!")
            .symlink("bin", "usr/bin")
            .file("shadowed", "file below"),
        Layer::new()
            .file("etc/passwd", "new")
            .file("etc/.wh.gone", "")
            .file("opaque/.wh..wh..opq", "")
            .with(EntryType::Regular, "usr/bin/run", b"#!", |header| header.set_mode(0o755))
            .symlink("etc/link", "../../../../etc/passwd")
            .symlink("etc/out", "/../../opaque/old")
            .symlink("circle", "circle")
            .directory("shadowed"),
    ]);
    let rootfs = Rootfs::open(&stack.layers).expect("opened");
    let read =
        |path: &str| rootfs.read(path, 100).expect(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    for path in ["etc/passwd", "etc/link", "etc/gone", "etc/out", "opaque/old", "bin/tool", "shadowed", "nowhere/x"] {
        let shown = look(&stack.layers, &format!("if [ -f {path} ]; then cat {path}; else echo none; fi"));
        // The kernel resolves links against the test's own root where they are absolute; these are compared by hand.
        if !path.ends_with("link") && !path.ends_with("out") {
            assert_eq!(read(path).unwrap_or_else(|| "none\n".into()), shown, "{path}");
        }
    }
    assert_eq!(read("/etc/link").as_deref(), Some("new"), "a link that ascends stays inside");
    assert_eq!(read("/etc/out"), None);
    assert!(rootfs.read("circle", 100).is_err());
    assert!(rootfs.read("etc/passwd", 2).is_err(), "too long");
    let find = |program: &str| rootfs.find_program(program, "/usr", "/bin:/usr/bin").expect(program);
    assert_eq!(find("run").as_deref(), Some("/bin/run"));
    assert_eq!(find("bin/run").as_deref(), Some("/usr/bin/run"));
    assert_eq!(find("tool"), None, "it is not executable");
    assert_eq!(find("nothing"), None);
    let here = rootfs.find_program("run", "/bin", ":/usr/bin").expect("found");
    assert_eq!(here.as_deref(), Some("/bin/./run"), "an empty word of the search path is the working directory");
    assert!(rootfs.is_directory("/shadowed").expect("directory") && !rootfs.is_directory("/etc/passwd").expect("file"));
}
