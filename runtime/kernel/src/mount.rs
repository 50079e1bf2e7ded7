//! Mounts of this process's mount namespace: what is there, and taking it away.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

/// A mount that could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The list cannot be read.
    #[error("cannot read /proc/self/mountinfo; is /proc mounted?")]
    List(#[source] io::Error),
    /// It stays mounted.
    #[error("cannot unmount `{path}`; this needs root or CAP_SYS_ADMIN")]
    Unmount {
        /// where
        path: PathBuf,
        /// why
        #[source]
        source: io::Error,
    },
}

/// The mount points at or below `directory`, the last mounted first: the order in which they can be unmounted.
///
/// # Errors
/// [`MountError::List`]
pub fn mounts_below(directory: &Path) -> Result<Vec<PathBuf>, MountError> {
    let text = fs::read("/proc/self/mountinfo").map_err(MountError::List)?;
    Ok(parse(&text).into_iter().rev().filter(|point| point.starts_with(directory)).collect())
}

/// Takes a mount out of the tree at once; it goes away when its last user does. What is not mounted is fine.
///
/// # Errors
/// [`MountError::Unmount`]
pub fn ensure_unmounted(path: &Path) -> Result<(), MountError> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: no mount point.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(MountError::Unmount { path: path.to_owned(), source: errno.into() }),
    }
}

/// Takes away every mount at or below `directory`.
///
/// # Errors
/// The first that stays.
pub fn ensure_none_below(directory: &Path) -> Result<(), MountError> {
    mounts_below(directory)?.iter().try_for_each(|point| ensure_unmounted(point))
}

/// The fifth field of each line, with its octal escapes undone (`proc_pid_mountinfo(5)`).
fn parse(text: &[u8]) -> Vec<PathBuf> {
    text.split(|&b| b == b'\n')
        .filter_map(|line| line.split(|&b| b == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .collect()
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::parse;

    #[test]
    fn mount_points_are_read_with_their_blanks() {
        let text = b"22 1 0:20 / /proc rw - proc proc rw\n23 1 0:21 / /mnt/a\\040b rw - tmpfs tmpfs rw\n";
        assert_eq!(parse(text), [PathBuf::from("/proc"), PathBuf::from("/mnt/a b")]);
        assert!(parse(b"\n\nx y\n").is_empty());
    }
}
