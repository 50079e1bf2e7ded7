//! The built-in image.

use std::fs;

use minipod_image::{PullPolicy, Rootfs, builtin};

use crate::node::{Node, chain};

#[tokio::test]
async fn the_builtin_image_is_made_of_the_program_once_and_again_when_that_changes() {
    let node = Node::new();
    node.write("program", b"first program");
    let image = node.ensure("minipod.local/hello-app:1.0", PullPolicy::Always).await.expect("made");
    assert_eq!(image.config.entrypoint, ["/hello-app"]);
    assert_eq!(image.config.exposed_ports, ["8080/tcp"]);
    let rootfs = Rootfs::open(&image.layers).expect("layers");
    assert_eq!(rootfs.read("/hello-app", 100).expect("read").as_deref(), Some(b"first program".as_slice()));
    let path = image.config.env_value("PATH").expect("PATH");
    for program in builtin::PROGRAMS {
        assert_eq!(rootfs.find_program(program, "/", path).expect("found"), Some(format!("/bin/{program}")));
    }
    assert!(rootfs.is_directory("/tmp").expect("tmp") && rootfs.read("/etc/passwd", 1000).expect("passwd").is_some());

    for name in ["minipod.local/hello-app", "minipod.local/hello-app:latest"] {
        assert_eq!(node.ensure(name, PullPolicy::Never).await.expect(name), image);
    }
    let tools = node.ensure("minipod.local/tools", PullPolicy::IfNotPresent).await.expect("tools");
    assert_eq!((tools.layers, tools.config.entrypoint), (image.layers.clone(), Vec::<String>::new()));
    assert_eq!(node.layers(), 1);

    let path = node.write("new", b"second program, longer");
    fs::rename(path, node.base.path().join("program")).expect("replaced");
    let newer = node.ensure("minipod.local/hello-app:1.0", PullPolicy::IfNotPresent).await.expect("made again");
    assert_ne!(newer.id, image.id);
}

#[tokio::test]
async fn a_built_in_image_is_not_removed_by_name_or_id() {
    let node = Node::new();
    node.write("program", b"program");
    let image = node.ensure("minipod.local/tools:1.0", PullPolicy::IfNotPresent).await.expect("made");
    let nobody = std::collections::BTreeSet::new();
    for name in ["minipod.local/tools:1.0", image.id.short()] {
        let error = node.images.remove(name, &nobody).expect_err("built in").to_string();
        assert!(error.contains("minipod.local/tools") && error.contains("is built in"), "{error}");
    }
    let other = "docker.io/library/mine:1".parse().expect("a name");
    node.images.store().tag("minipod.local/tools:1.0", &other).expect("another name");
    assert_eq!(node.images.remove("mine:1", &nobody).expect("not built in").names, [other]);
}

#[tokio::test]
async fn only_names_of_ours_are_built_in() {
    let node = Node::new();
    node.write("program", b"program");
    for name in ["gcr.io/google-samples/hello-app:1.0", "hello-app:1.0", "alpine"] {
        let error = node.ensure(name, PullPolicy::Never).await.expect_err(name);
        assert_eq!(error.reason(), "ErrImageNeverPull");
    }
    let error = node.ensure("minipod.local/nginx", PullPolicy::Always).await.expect_err("unknown");
    assert!(error.to_string().contains("minipod.local/hello-app:1.0"), "{error}");
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let node = Node::new();
    let error = node.ensure("minipod.local/hello-app:1.0", PullPolicy::Never).await.expect_err("missing");
    assert!(chain(&error).contains("/program"), "{}", chain(&error));
}
