//! What a container sees of layers: mounted by the kernel in a mount namespace of its own.

use std::path::PathBuf;
use std::process::Command;

/// Runs a shell command in the merged root, mounted read-only at the working directory.
pub(crate) fn look(layers: &[PathBuf], script: &str) -> String {
    let lower: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
    // A single lower directory is no overlay without an upper one; an empty one below changes nothing.
    let mount = "set -e; mount -t tmpfs none /mnt; mkdir /mnt/empty /mnt/root; \
                 mount -t overlay overlay -o \"ro,lowerdir=$1:/mnt/empty\" /mnt/root; cd /mnt/root; eval \"$2\"";
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", mount, "sh", &lower.join(":"), script])
        .output()
        .expect("unshare runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
