//! Images from files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use minipod_image::{ImageRef, Imported, PullPolicy, Rootfs, RootfsSettings, resolve_user};
use tar::EntryType;

use crate::image::{Image, gzip};
use crate::layer::Layer;
use crate::node::{Node, chain};

/// The image is whole: contents of both layers, configuration, user.
fn check(image: &ImageRef) {
    assert_eq!(image.id, Image::small().id());
    let rootfs = Rootfs::open(&image.layers).expect("layers");
    assert_eq!(rootfs.read("hello", 100).expect("read").as_deref(), Some(b"above".as_slice()));
    assert_eq!(rootfs.read("gone", 100).expect("read"), None);
    assert_eq!(image.config.cmd, ["/hello"]);
    assert_eq!(image.config.env_value("A"), Some("1"));
    assert_eq!(resolve_user(&image.layers, &image.config.user).map(|user| (user.uid, user.gid)).expect("user"), (7, 8));
}

async fn import(node: &Node, bytes: &[u8], name: Option<&str>) -> Vec<Imported> {
    let path = node.write("image.tar", bytes);
    node.images.import_archive(&path, name).await.expect("imported")
}

#[tokio::test]
async fn a_docker_archive_has_its_names() {
    let node = Node::new();
    let archive = Image::small().docker_archive(&["small:1", "localhost:5000/small:2"]);
    let imported = import(&node, &archive, None).await;
    assert_eq!(imported.len(), 1);
    check(&imported[0].image);
    for name in ["small:1", "docker.io/library/small:1", "localhost:5000/small:2"] {
        check(&node.ensure(name, PullPolicy::Never).await.expect(name));
    }
    assert!(node.ensure("small:3", PullPolicy::Never).await.is_err());
    assert_eq!((node.work(), node.layers()), (0, 2));
    // Another process finds them as well.
    check(&node.again().find("small:1").expect("found"));
}

#[tokio::test]
async fn oci_archives_and_compressed_ones_give_the_same_image() {
    let small = Image::small();
    let oci = small.oci_archive(Some("docker.io/library/small:1"));
    let zstd = zstd::stream::encode_all(oci.as_slice(), 1).expect("zstd");
    for archive in [&oci, &gzip(&oci), &zstd, &gzip(&small.docker_archive(&["small:1"]))] {
        let node = Node::new();
        import(&node, archive, None).await;
        check(&node.ensure("small:1", PullPolicy::Never).await.expect("there"));
    }
}

#[tokio::test]
async fn a_given_name_replaces_those_of_the_archive() {
    let node = Node::new();
    import(&node, &Image::small().docker_archive(&["small:1"]), Some("mine")).await;
    check(&node.ensure("mine:latest", PullPolicy::Never).await.expect("there"));
    assert!(node.ensure("small:1", PullPolicy::Never).await.is_err());
    let nameless = import(&node, &Image::small().oci_archive(None), None).await;
    assert!(nameless[0].names.is_empty());
    check(&node.images.find(Image::small().id().short()).expect("by the begin of its ID"));
}

#[tokio::test]
async fn an_archive_cannot_take_the_names_that_are_built_in() {
    let node = Node::new();
    let imported = import(&node, &Image::small().docker_archive(&["minipod.local/hello-app:1.0"]), None).await;
    assert!(imported[0].names.is_empty());
    let path = node.write("image.tar", &Image::small().docker_archive(&[]));
    let error = node.images.import_archive(&path, Some("minipod.local/x")).await.expect_err("reserved");
    assert!(error.to_string().contains("reserved"), "{error}");
}

#[tokio::test]
async fn equal_layers_of_an_archive_may_be_links() {
    let mut image = Image::small();
    image.layers.push(image.layers[0].clone());
    let node = Node::new();
    let imported = import(&node, &image.docker_archive(&["twice"]), None).await;
    assert_eq!((imported[0].image.layers.len(), node.layers()), (3, 2));
}

#[tokio::test]
async fn a_damaged_archive_is_refused_by_name_and_leaves_nothing() {
    let small = Image::small();
    let flip = |archive: Vec<u8>, needle: &[u8]| {
        let at = archive.windows(needle.len()).position(|window| window == needle).expect("needle");
        let mut damaged = archive;
        damaged[at] ^= 1;
        damaged
    };
    let mut oci = small.oci_archive(Some("small"));
    let blob = &small.blobs()[0];
    let at = oci.windows(blob.len()).position(|window| window == blob.as_slice()).expect("blob");
    oci[at + blob.len() - 3] ^= 1;
    let cases = [
        (oci, "its digest is"),
        (flip(small.docker_archive(&["small"]), b"below"), "the image's configuration says"),
        (flip(small.docker_archive(&["small"]), b"A=1"), "its digest is"),
        (b"neither this nor that".repeat(100), "image.tar"),
        (Layer::new().file("x", "y").finish(), "no image archive"),
        (Layer::new().file("manifest.json", "[{}]").finish(), "manifest.json"),
        (Layer::new().file("manifest.json", "[]").finish(), "empty"),
        (Layer::new().file("manifest.json", r#"[{"Config":"c","Layers":["l"]}]"#).finish(), "has no `c`"),
        (small.docker_archive(&["small"])[..4000].to_vec(), "image.tar"),
    ];
    for (number, (archive, expected)) in cases.into_iter().enumerate() {
        let node = Node::new();
        let path = node.write("image.tar", &archive);
        let error = node.images.import_archive(&path, None).await.expect_err(expected);
        assert!(chain(&error).contains(expected), "{number}: {}", chain(&error));
        assert!(node.images.list().expect("list").is_empty(), "{number}");
        assert_eq!(node.work(), 0, "{number}");
    }
    let node = Node::new();
    let error = node.images.import_archive(Path::new("/nonexistent.tar"), None).await.expect_err("missing");
    assert!(chain(&error).contains("/nonexistent.tar"), "{}", chain(&error));
}

#[tokio::test]
async fn a_hostile_layer_in_an_archive_is_refused_with_its_entry() {
    let node = Node::new();
    let layers = vec![Layer::new().file("../../../../escaped", "x").finish()];
    let image = Image { layers, settings: serde_json::json!({}) };
    let path = node.write("image.tar", &image.docker_archive(&["bad"]));
    let error = node.images.import_archive(&path, None).await.expect_err("hostile");
    let text = chain(&error);
    assert!(text.contains("layer0/layer.tar") && text.contains("../../../../escaped"), "{text}");
    assert_eq!((node.work(), node.layers()), (0, 0));
}

#[tokio::test]
async fn a_root_file_system_is_an_image_as_a_directory_and_as_a_tar_file() {
    let node = Node::new();
    let root = node.base.path().join("rootfs");
    fs::create_dir_all(root.join("bin")).expect("directory");
    fs::write(root.join("bin/su"), "#!").expect("file");
    fs::set_permissions(root.join("bin/su"), fs::Permissions::from_mode(0o4755)).expect("mode");
    std::os::unix::fs::chown(root.join("bin"), Some(3), Some(4)).expect("owner");
    fs::hard_link(root.join("bin/su"), root.join("bin/sudo")).expect("hard link");
    symlink("/bin/su", root.join("link")).expect("link");
    xattr::set(root.join("bin/su"), "user.note", b"kept").expect("attribute");
    let settings = RootfsSettings { cmd: vec!["/bin/su".into()], env: vec!["B=2".into()], ..RootfsSettings::default() };
    let imported = node.images.import_rootfs(&root, "plain:1", settings.clone()).await.expect("imported");
    let layer = &imported.image.layers[0];
    let su = fs::metadata(layer.join("bin/su")).expect("file");
    assert_eq!((su.mode() & 0o7777, su.nlink()), (0o4755, 2));
    assert_eq!(fs::metadata(layer.join("bin")).map(|bin| (bin.uid(), bin.gid())).expect("directory"), (3, 4));
    assert_eq!(fs::read_link(layer.join("link")).expect("link"), Path::new("/bin/su"));
    assert_eq!(xattr::get(layer.join("bin/su"), "user.note").expect("attribute").as_deref(), Some(b"kept".as_slice()));
    assert_eq!(
        (imported.image.config.cmd.as_slice(), imported.image.config.env_value("B")),
        (["/bin/su".to_owned()].as_slice(), Some("2"))
    );

    let tar = Layer::new().file("etc/x", "y").with(EntryType::Char, "dev/null", b"", |_| {}).finish();
    let path = node.write("rootfs.tar.gz", &gzip(&tar));
    let imported = node.images.import_rootfs(&path, "plain:2", settings).await.expect("imported");
    assert_eq!(imported.skipped.len(), 1, "the device is reported");
    assert!(imported.image.layers[0].join("etc/x").exists());
    assert_eq!(node.work(), 0);
}
