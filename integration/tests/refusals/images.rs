//! Images that are missing, damaged or not what their digests say, and commands that an image does not have.

use integration::fixture::HELLO_IMAGE;
use integration::fixture::image::{Image, digest};
use integration::fixture::registry::{ADDRESS, Registry};
use integration::wait::until;

use crate::{LIMIT, assert_nothing_made, assert_refused, fresh, started, until_no_pod};

#[test]
fn an_image_that_is_not_there_is_told_and_leaves_nothing() {
    let lab = started();
    let _registry = Registry::start(&lab).expect("a registry");
    let missing = format!("image `docker.io/library/nosuch:1` is not in the registry `{ADDRESS}`; check name and tag");
    assert_refused(
        &lab,
        &[
            (&["image", "pull", "nosuch:1"], &format!("error: {missing}")),
            (
                &["image", "pull", "No Such"],
                "error: invalid image reference `No Such`: `No Such` is no repository component; use lower-case letters and digits, separated by `.`, `_`, `__` or `-`",
            ),
            (
                &["image", "rm", "nosuch:1"],
                "error: no image `nosuch:1` in the store; `minipod image ls` lists what is there",
            ),
        ],
    );
    let run = ["run", "web", "--image", "nosuch:1", "--rm", "-i", "--pod-running-timeout", "2s"];
    assert_nothing_made(
        &lab,
        || {
            let ran = lab.minipod(&run);
            assert_eq!(ran.stdout, "pod \"web\" deleted\n");
            let said = format!(
                "error: container web has not started: ErrImagePull: {missing}: timed out waiting for the condition after 2s"
            );
            assert_eq!((ran.code, ran.stderr.trim_end()), (Some(1), said.as_str()));
        },
        "run",
    );

    // Without a session the pod is there and says what it waits for, as in Kubernetes; nothing but the object is.
    let _ = lab.minipod(&["run", "web", "--image", "nosuch:1"]).expect_success();
    let waiting = "jsonpath={.status.containerStatuses[0].state.waiting.message}";
    until("the reason", LIMIT, || (lab.minipod(&["get", "pod", "web", "-o", waiting]).stdout == missing).then_some(()))
        .unwrap_or_else(|error| unreachable!("{error}\n{}", lab.minipod(&["get", "pod", "web", "-o", "yaml"])));
    let left = lab.shell("pgrep -x minipod-shim; ip -o link | grep mpod; ls /run/state/images/layers; true").stdout;
    assert_eq!(left, "");
}

#[test]
fn a_layer_that_a_registry_changed_is_refused_and_leaves_nothing() {
    let lab = started();
    let registry = Registry::start(&lab).expect("a registry");
    let image = Image::hello().expect("an image");
    registry.push("library/web", "1", &image).expect("pushed");
    let blob = registry.blob_file(&image.layer);
    let mut bad = image.layer.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    for sent in [bad.as_slice(), &image.layer[..middle]] {
        std::fs::write(&blob, sent).expect("damaged");
        let (right, wrong) = (digest(&image.layer), digest(sent));
        let said = format!(
            "error: layer `{right}` of image `docker.io/library/web:1` from `{ADDRESS}` is damaged or forged: its digest is `{wrong}`, not `{right}`; pull again, and if it stays so do not trust the registry"
        );
        assert_refused(&lab, &[(&["image", "pull", "web:1"], &said)]);
    }
    std::fs::write(&blob, &image.layer).expect("repaired");
    let _ = lab.minipod(&["image", "pull", "web:1"]).expect_success();
}

#[test]
fn a_damaged_archive_is_refused_and_leaves_nothing() {
    let lab = fresh();
    let image = Image::hello().expect("an image");
    let mut changed = image.layer.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let cut = &image.layer[..middle];
    let docker = |layer: &[u8]| image.docker_archive("web:1", layer).expect("an archive");
    let forged = image.oci_archive("web:1", &changed).expect("an archive");
    let hex = digest(&image.layer).replace("sha256:", "");
    let no_image = "is no image archive: it has neither `manifest.json` (docker save) nor `index.json` (OCI); for a plain root file system use `minipod image import --rootfs`";
    let no_tar = "is no image archive, or a damaged one: give a file that `docker save` or `podman save` has written";
    let cases = [
        ("empty", Vec::new(), format!("`FILE` {no_image}")),
        (
            "text",
            b"hello\n".to_vec(),
            format!("`FILE` {no_tar}"),
        ),
        ("passwd", "root:x:0:0:root:/root:/bin/bash\n".repeat(40).into_bytes(), format!("`FILE` {no_tar}")),
        (
            "cut",
            docker(cut),
            "cannot unpack layer `layer.tar` of `FILE`: the layer is damaged after entry `hello-app`; get the image again: incomplete deflate stream".to_owned(),
        ),
        (
            "forged",
            forged,
            format!("`blobs/sha256/{hex}` in the image archive `FILE` is damaged: its digest is `{}`; get the archive again", digest(&changed)),
        ),
    ];
    // The store's own directories come with its first use.
    let _ = lab.minipod(&["image", "ls"]).expect_success();
    let path = |name: &str| lab.directory().join(name).display().to_string();
    for (name, bytes, said) in cases {
        let file = path(name);
        std::fs::write(&file, bytes).expect("written");
        let said = format!("error: {}", said.replace("FILE", &file));
        assert_refused(&lab, &[(&["image", "import", &file], &said)]);
    }
    let missing = "error: cannot read `/nosuch.tar`: No such file or directory (os error 2)";
    assert_refused(&lab, &[(&["image", "import", "/nosuch.tar"], missing)]);
    std::fs::write(path("good"), docker(&image.layer)).expect("written");
    let _ = lab.minipod(&["image", "import", &path("good")]).expect_success();
}

#[test]
fn a_command_that_the_image_does_not_have_is_told() {
    let lab = started();
    lab.pod("web", "app=web");
    let said = "exec: \"nosuch\": executable file not found in $PATH; give a program that the image has";
    assert_refused(
        &lab,
        &[
            (
                &["exec", "web", "--", "nosuch"],
                &format!("Error from server (InternalError): Internal error occurred: {said}"),
            ),
            (&["exec", "web", "-c", "foo", "--", "true"], "error: container foo not found in pod web; it has web"),
        ],
    );
    let run = ["run", "bad", "--image", HELLO_IMAGE, "--restart=Never", "--rm", "-i", "--command", "--", "nosuch"];
    assert_nothing_made(
        &lab,
        || {
            let ran = lab.minipod(&run);
            let expected = format!(
                "error: pod bad does not run: container bad cannot be made (CreateContainerError): command `nosuch` is not in the image `{HELLO_IMAGE}`: no executable file has this name in PATH `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`; set `command` to a program of the image, or use another image"
            );
            assert_eq!((ran.code, ran.stderr.trim_end()), (Some(1), expected.as_str()), "{ran}");
        },
        "run",
    );
    let _ = lab.minipod(&["delete", "pod", "web"]).expect_success();
    until_no_pod(&lab);
}
