//! Tells `NetworkManager` and systemd-networkd to leave our links and routes alone, by files under `/run` that a reboot forgets. What
//! they take away nevertheless is repaired; the files make it rare.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use minipod_kernel::file::{Durability, ensure_removed, read_if_present, write_atomically};

use super::HostNetError;

/// A file, and the directory whose presence means that its reader runs on this host.
struct DropIn {
    reader: &'static str,
    path: &'static str,
    contents: &'static str,
}

const DROP_INS: [DropIn; 3] = [
    DropIn {
        reader: "run/NetworkManager",
        path: "run/NetworkManager/conf.d/minipod.conf",
        contents: "# Written by minipod.\n[keyfile]\nunmanaged-devices+=interface-name:mpod*;interface-name:minipod-vxlan;interface-name:minipod-svc\n",
    },
    DropIn {
        reader: "run/systemd/netif",
        path: "run/systemd/network/05-minipod.network",
        contents: "# Written by minipod.\n[Match]\nName=mpod* minipod-vxlan minipod-svc\n\n[Link]\nUnmanaged=yes\n",
    },
    DropIn {
        reader: "run/systemd/netif",
        path: "run/systemd/networkd.conf.d/minipod.conf",
        contents: "# Written by minipod.\n[Network]\nManageForeignRoutes=no\n",
    },
];

/// Writes the files whose readers run on the host at `root`.
pub(super) fn ensure(root: &Path) -> Result<(), HostNetError> {
    for drop_in in DROP_INS.iter().filter(|drop_in| root.join(drop_in.reader).is_dir()) {
        let path = root.join(drop_in.path);
        write(&path, drop_in.contents).map_err(|source| HostNetError::File { verb: "write", path, source })?;
    }
    Ok(())
}

/// Removes the files.
pub(super) fn remove(root: &Path) -> Result<(), HostNetError> {
    for drop_in in &DROP_INS {
        let path: PathBuf = root.join(drop_in.path);
        ensure_removed(&path).map_err(|source| HostNetError::File { verb: "remove", path, source })?;
    }
    Ok(())
}

fn write(path: &Path, contents: &str) -> io::Result<()> {
    if read_if_present(path)?.is_some_and(|present| present == contents.as_bytes()) {
        return Ok(());
    }
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    write_atomically(path, contents.as_bytes(), Durability::Volatile)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use minipod_model::link::{SERVICE_LINK, VXLAN_LINK};

    use super::{ensure, remove};

    #[test]
    fn only_the_managers_that_run_are_told_and_a_reset_takes_it_back() {
        let root = tempfile::tempdir().expect("a directory");
        ensure(root.path()).expect("nobody to tell");
        assert_eq!(fs::read_dir(root.path()).expect("listed").count(), 0);
        fs::create_dir_all(root.path().join("run/systemd/netif")).expect("a directory");
        ensure(root.path()).expect("told");
        ensure(root.path()).expect("told already");
        let network = root.path().join("run/systemd/network/05-minipod.network");
        let names = format!("Name=mpod* {VXLAN_LINK} {SERVICE_LINK}\n");
        assert!(fs::read_to_string(&network).expect("written").contains(&names));
        assert!(!root.path().join("run/NetworkManager").exists());
        remove(root.path()).expect("removed");
        remove(root.path()).expect("removed already");
        assert!(!network.exists());
    }
}
