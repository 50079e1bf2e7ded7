//! Users of an image, through its layers.

use std::fs;

use minipod_image::resolve_user;
use minipod_image::unpack::{Limits, unpack};
use tempfile::TempDir;

use crate::layer::Layer;

#[test]
fn the_topmost_passwd_counts_and_links_stay_inside() {
    let base = TempDir::new().expect("temporary directory");
    let [lower, upper] = ["lower", "upper"].map(|name| base.path().join(name));
    for (directory, layer) in [
        (&lower, Layer::new().file("etc/passwd", "web:x:1:1::/:\n").file("etc/group", "old:x:9:\n")),
        (
            &upper,
            Layer::new()
                .file("etc/.wh.group", "")
                .file("real/passwd", "web:x:101:102::/srv:\n")
                .symlink("etc/passwd", "/real/passwd"),
        ),
    ] {
        fs::create_dir(directory).expect("directory");
        unpack(layer.finish().as_slice(), directory, Limits::default()).expect("unpacked");
    }
    let layers = [upper, lower];
    let user = resolve_user(&layers, "web").expect("resolved");
    assert_eq!((user.uid, user.gid, user.home.as_str()), (101, 102, "/srv"));
    assert!(resolve_user(&layers, "web:old").expect_err("group is hidden").to_string().contains("`old`"));
    // The node's own file has a root; an image without any has numbers only.
    assert!(resolve_user(&[], "daemon").is_err());
    assert_eq!(resolve_user(&[], "12:13").map(|user| (user.uid, user.gid)).expect("numbers"), (12, 13));
}
