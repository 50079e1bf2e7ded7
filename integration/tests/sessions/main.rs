//! Sessions with real containers: `exec`, `attach` and `run`, with pipes and with a terminal.

mod pipes;
mod terminal;
mod terminals;

use integration::fixture::image::Image;
use integration::lab::{Iptables, Lab};

/// The image of these tests: busybox.
const IMAGE: &str = "test.local/busybox:1";

/// A node that has the image.
fn lab() -> Lab {
    let lab = Lab::started("n1", Iptables::Nft).expect("a lab");
    let layer = lab.directory().join("busybox.tar.gz");
    std::fs::write(&layer, Image::busybox().expect("busybox").layer).expect("written");
    let layer = layer.to_str().expect("a path");
    let import = ["image", "import", "--rootfs", layer, IMAGE, "--env", "PATH=/bin", "--cmd", "sh"];
    let _ = lab.minipod(&import).expect_success();
    lab
}

/// A node with a pod `web` that stays.
fn lab_with_pod() -> Lab {
    let lab = lab();
    let _ = lab.minipod(&["run", "web", "--image", IMAGE, "--", "sleep", "1000000"]).expect_success();
    lab.wait_ready("web");
    lab
}

/// Whether a process of that very command line runs in the node.
fn runs(lab: &Lab, line: &str) -> bool {
    lab.shell(&format!("pgrep -fx '{line}'")).succeeded()
}
