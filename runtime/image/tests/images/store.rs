//! The store among processes, crashes and damage.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};

use minipod_image::store::{LayerError, Store};
use minipod_image::{Digest, PullPolicy, Reference, StoreError};

use crate::image::Image;
use crate::layer::Layer;
use crate::node::Node;
use crate::overlay::look;

async fn imported(names: &[&str]) -> Node {
    let node = Node::new();
    let path = node.write("image.tar", &Image::small().docker_archive(names));
    node.images.import_archive(&path, None).await.expect("imported");
    node
}

#[tokio::test]
async fn an_image_goes_with_its_last_name_and_its_layers_with_it() {
    let node = imported(&["one:1", "two:2"]).await;
    let id = Image::small().id();
    let removed = node.images.remove("one:1", &BTreeSet::from([id.clone()])).expect("another name is left");
    assert_eq!((removed.image, node.layers()), (None, 2));
    let error = node.images.remove("two:2", &BTreeSet::from([id.clone()])).expect_err("in use");
    assert!(matches!(&error, StoreError::InUse { name, .. } if name == "two:2"), "{error}");
    let removed = node.images.remove(id.short(), &BTreeSet::new()).expect("removed");
    assert_eq!((removed.image, removed.layers.len(), node.layers(), node.work()), (Some(id), 2, 0, 0));
    for directory in ["s", "configs"] {
        let left = fs::read_dir(node.images.store().root().join(directory)).expect("list").count();
        assert_eq!(left, 0, "{directory}");
    }
    assert!(
        matches!(node.images.remove("two:2", &BTreeSet::new()), Err(StoreError::NotFound(name)) if name == "two:2")
    );
}

#[tokio::test]
async fn layers_are_not_collected_while_others_come_in() {
    let node = imported(&["one:1"]).await;
    let store = node.images.store();
    let staged = store.stage_layer(Layer::new().file("x", "y").finish().as_slice()).expect("staged");
    let hold = store.hold().expect("hold");
    store.publish_layer(staged, None).expect("published");
    assert_eq!(store.collect(&BTreeSet::new()).expect("nothing to do").len(), 0);
    drop(hold);
    assert_eq!(store.collect(&BTreeSet::new()).expect("collected").len(), 1);
    assert_eq!(node.layers(), 2);
}

#[tokio::test]
async fn a_layer_that_is_gone_makes_the_image_incomplete_and_not_present() {
    let node = imported(&["one:1"]).await;
    let image = node.images.find("one:1").expect("there");
    fs::remove_dir_all(image.layers[0].canonicalize().expect("layer").parent().expect("parent")).expect("removed");
    assert!(matches!(node.images.find("one:1"), Err(StoreError::LayerMissing { .. })));
    assert!(node.ensure("one:1", PullPolicy::Never).await.is_err());
}

/// A stream during whose reading nothing of the layer may be visible.
struct Watched<'a>(&'a [u8], &'a Node);
impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert_eq!((self.1.layers(), self.1.work()), (0, 1));
        let _second = self.1.again();
        let chunk = buffer.len().min(700);
        self.0.read(&mut buffer[..chunk])
    }
}

#[test]
fn a_layer_is_visible_whole_or_not_at_all() {
    let node = Node::new();
    let store = node.images.store();
    let stream = Layer::new().file("a", "1").file("b", &"2".repeat(5000)).finish();
    // While it is unpacked there is nothing in `layers`, and a second process that opens the store leaves it alone.
    let staged = store.stage_layer(Watched(&stream, &node)).expect("staged");
    let diff_id = Digest::of(&stream);
    assert_eq!((staged.diff_id(), store.has_layer(&diff_id)), (&diff_id, false));
    let wrong = Digest::of(b"something else");
    let error = store.publish_layer(staged, Some(&wrong)).expect_err("wrong contents");
    assert!(matches!(error, LayerError::DiffId { expected, actual } if expected == wrong && actual == diff_id));
    assert_eq!((node.layers(), node.work()), (0, 0));

    let (one, two) =
        (store.stage_layer(stream.as_slice()).expect("one"), store.stage_layer(stream.as_slice()).expect("two"));
    store.publish_layer(one, Some(&diff_id)).expect("first");
    store.publish_layer(two, Some(&diff_id)).expect("the second finds it there");
    assert_eq!((node.layers(), node.work()), (1, 0));
    assert!(store.layer_path(&diff_id).join("b").exists());
}

#[test]
fn what_a_dead_process_left_is_swept() {
    let node = Node::new();
    let left = node.images.store().root().join("work/abandoned/fs");
    fs::create_dir_all(&left).expect("directory");
    fs::write(left.join("half"), "x").expect("file");
    let _again = node.again();
    assert_eq!(node.work(), 0);
}

#[test]
fn a_damaged_index_is_refused_and_never_replaced() {
    let node = Node::new();
    for contents in
        ["{", r#"{"version":"2","names":{},"images":{}}"#, r#"{"version":"1","names":{},"images":{},"x":1}"#]
    {
        let index = node.images.store().root().join("index.json");
        fs::write(&index, contents).expect("damaged");
        let error = Store::open(node.images.store().root()).expect_err("damaged");
        assert!(error.to_string().contains("index.json") && error.to_string().contains("damaged"), "{error}");
        assert_eq!(fs::read_to_string(&index).expect("kept"), contents);
    }
}

#[tokio::test]
async fn an_opaque_root_hides_the_layers_below() {
    let layers = vec![
        Layer::new().file("below", "1").finish(),
        Layer::new().file(".wh..wh..opq", "").file("middle", "2").finish(),
        Layer::new().file("top", "3").finish(),
    ];
    let node = Node::new();
    let image = Image { layers, settings: serde_json::json!({}) };
    let path = node.write("image.tar", &image.docker_archive(&["opaque"]));
    let imported = node.images.import_archive(&path, None).await.expect("imported");
    assert_eq!(look(&imported[0].image.layers, "echo *"), "middle top\n");
    let all = node.images.remove("opaque", &BTreeSet::new()).expect("removed");
    assert_eq!(all.layers.len(), 3);
}

#[tokio::test]
async fn many_writers_lose_no_name() {
    let node = imported(&["start:0"]).await;
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = node.images.store();
            scope.spawn(move || {
                for number in 0..10 {
                    let name: Reference = format!("w{writer}:{number}").parse().expect("name");
                    store.tag("start:0", &name).expect("tagged");
                }
            });
        }
    });
    let images = node.images.list().expect("list");
    assert_eq!((images.len(), images[0].names.len()), (1, 81));
}

#[test]
fn a_full_disk_is_told_from_a_bad_layer() {
    // The shell gives the test a small file system; this test binary runs again inside it.
    const INSIDE: &str = "MINIPOD_TEST_SMALL_DISK";
    if let Some(directory) = std::env::var_os(INSIDE) {
        let store = Store::open(&std::path::Path::new(&directory).join("images")).expect("store");
        let layer = Layer::new().file("large", &"x".repeat(4 << 20)).finish();
        let error = store.stage_layer(layer.as_slice()).expect_err("full");
        assert!(error.to_string().contains("no space left") && error.to_string().contains("`large`"), "{error}");
        assert_eq!(fs::read_dir(store.root().join("work")).expect("list").count(), 0, "nothing is left behind");
        return;
    }
    let script =
        "mount -t tmpfs -o size=1m none /mnt && exec \"$0\" --exact store::a_full_disk_is_told_from_a_bad_layer";
    let status = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(std::env::current_exe().expect("own path"))
        .env(INSIDE, "/mnt")
        .status()
        .expect("unshare runs");
    assert!(status.success());
}
