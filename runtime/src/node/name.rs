//! The name of this node: chosen at the first start and kept in the state directory, because the pods in the store are bound to it
//! and the host's name may be another one tomorrow.

use std::io;
use std::path::PathBuf;

use minipod_kernel::file::{Durability, read_if_present, write_atomically};
use minipod_model::name::dns_subdomain_problem;

use super::options::Directories;

/// So much of what is no name is shown.
const SHOWN: usize = 60;

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
    /// the file says something that is no name
    #[error(
        "`{}` says `{found}`, which is not a name that a Node can have: write the node's name into it, which the first start took from \
         `--node-name` or the host name, or remove everything with `minipod node reset --yes`", .path.display()
    )]
    Damaged {
        /// the file
        path: PathBuf,
        /// how it begins
        found: String,
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
    let read = read_if_present(&path).map_err(|source| NameError::File { path: path.clone(), source })?;
    let Some(text) = read else { return Ok(None) };
    let name = String::from_utf8_lossy(&text).trim().to_owned();
    match dns_subdomain_problem(&name) {
        None => Ok(Some(name)),
        Some(_) => {
            Err(NameError::Damaged { path, found: name.chars().take(SHOWN).flat_map(char::escape_debug).collect() })
        }
    }
}

/// Keeps the name; refused where another one is kept. Says whether it was kept before.
pub(super) fn keep(directories: &Directories, name: &str) -> Result<bool, NameError> {
    match kept(directories)? {
        Some(kept) if kept == name => Ok(true),
        Some(kept) => Err(NameError::Other { given: name.to_owned(), kept, state_dir: directories.state_dir.clone() }),
        None => {
            let path = directories.node_name();
            let written = write_atomically(&path, format!("{name}\n").as_bytes(), Durability::Durable);
            written.map(|()| false).map_err(|source| NameError::File { path, source })
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
        assert!(!keep(&directories, "aaa").expect("the first"));
        assert!(keep(&directories, "aaa").expect("the same"));
        let refused = keep(&directories, "bbb").expect_err("another").to_string();
        for word in ["`--node-name bbb`", "node `aaa`", "`--node-name aaa`", "`minipod node reset --yes`"] {
            assert!(refused.contains(word), "{word}: {refused}");
        }
        assert_eq!(kept(&directories).expect("read").as_deref(), Some("aaa"));
        for garbage in ["", "a b", "\0\u{1}", &"x".repeat(300)] {
            std::fs::write(directories.node_name(), garbage).expect("written");
            let refused = keep(&directories, "aaa").expect_err("no name").to_string();
            assert!(refused.contains("node-name` says `") && refused.len() < 500, "{refused}");
        }
    }
}
