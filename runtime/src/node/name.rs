//! The name of this node: chosen at the first start and kept in the state directory, because the pods in the store are bound to it
//! and the host's name may be another one tomorrow.

use std::io;
use std::path::PathBuf;

use minipod_kernel::file::{Durability, read_if_present, write_atomically};

use super::options::Directories;

/// Why the node has no name.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// the state directory belongs to a node of another name
    #[error(
        "`--node-name {given}`: the state directory `{}` is the one of node `{kept}`, to which its pods are bound: leave the option out or \
         give `--node-name {kept}`, or remove everything with `minipod node reset --yes`", .state_dir.display()
    )]
    Other {
        /// what was asked for
        given: String,
        /// the name of the first start
        kept: String,
        /// where it is kept
        state_dir: PathBuf,
    },
    /// the file could not be read or written
    #[error("cannot read or write `{}`, which keeps the node's name: check its file system", .path.display())]
    File {
        /// the file
        path: PathBuf,
        /// what the kernel said
        #[source]
        source: io::Error,
    },
}

/// The name that the first start kept; `None` before it.
pub(super) fn kept(directories: &Directories) -> Result<Option<String>, NameError> {
    let path = directories.node_name();
    let read = read_if_present(&path).map_err(|source| NameError::File { path, source })?;
    Ok(read.map(|name| String::from_utf8_lossy(&name).trim().to_owned()).filter(|name| !name.is_empty()))
}

/// Keeps the name; refused where another one is kept.
pub(super) fn keep(directories: &Directories, name: &str) -> Result<(), NameError> {
    match kept(directories)? {
        Some(kept) if kept == name => Ok(()),
        Some(kept) => Err(NameError::Other { given: name.to_owned(), kept, state_dir: directories.state_dir.clone() }),
        None => {
            let path = directories.node_name();
            let written = write_atomically(&path, format!("{name}\n").as_bytes(), Durability::Durable);
            written.map_err(|source| NameError::File { path, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{keep, kept};
    use crate::node::Directories;

    #[test]
    fn the_name_of_the_first_start_stays_and_another_is_refused_by_both_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let directories = Directories { state_dir: directory.path().to_owned(), ..Directories::default() };
        assert_eq!(kept(&directories).expect("nothing yet"), None);
        keep(&directories, "aaa").expect("the first");
        keep(&directories, "aaa").expect("the same");
        let refused = keep(&directories, "bbb").expect_err("another").to_string();
        for word in ["`--node-name bbb`", "node `aaa`", "`--node-name aaa`", "`minipod node reset --yes`"] {
            assert!(refused.contains(word), "{word}: {refused}");
        }
        assert_eq!(kept(&directories).expect("read").as_deref(), Some("aaa"));
    }
}
