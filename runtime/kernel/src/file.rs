//! Files that are there as a whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Whether a write has to survive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// true for this boot: no `fsync`
    Volatile,
    /// on the disk when the call returns: file and directory are synced
    Durable,
}

/// Writes `contents` to `path`: a reader sees the old file or the new one. Writers of one path take turns outside of here.
///
/// # Errors
/// What the file system says; the old file is untouched then.
pub fn write_atomically(path: &Path, contents: &[u8], durability: Durability) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file's path is expected"));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let beside = directory.join(hidden);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(contents)?;
        if durability == Durability::Durable { file.sync_all() } else { Ok(()) }
    });
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        // The first error is the one to tell.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    if durability == Durability::Durable {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Removes a file; an absent one is fine.
///
/// # Errors
/// What the file system says.
pub fn ensure_removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Reads a file; `None` if it is not there.
///
/// # Errors
/// What the file system says.
pub fn read_if_present(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Durability, ensure_removed, read_if_present, write_atomically};

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("record.json");
        for (contents, durability) in [("one", Durability::Volatile), ("two", Durability::Durable)] {
            write_atomically(&path, contents.as_bytes(), durability).expect("written");
            assert_eq!(read_if_present(&path).expect("read").as_deref(), Some(contents.as_bytes()));
        }
        assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 1);
        ensure_removed(&path).expect("removed");
        ensure_removed(&path).expect("gone already");
        assert_eq!(read_if_present(&path).expect("read"), None);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("taken");
        std::fs::create_dir(&path).expect("a directory in the way");
        assert!(write_atomically(&path, b"x", Durability::Volatile).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 1);
    }
}
