//! Files that lie where the node expects them: programs of ours, and what the image store is opened with.
//!
//! The daemon and the commands that work straight on the store open the same one.

use std::path::{Path, PathBuf};

use super::options::{Directories, OptionsError};

/// Where mirrors are configured, unless said otherwise.
const REGISTRIES: &str = "/etc/minipod/registries.toml";

/// A program of ours: named by the variable, or beside this one.
pub(crate) fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        return path.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or(Path::new("/")).join(name)
}

/// A file that was asked for has to be there; the default one need not.
pub(crate) fn check_registries(asked: Option<&Path>) -> Result<(), OptionsError> {
    match asked.filter(|path| !path.is_file()) {
        None => Ok(()),
        Some(path) => Err(OptionsError {
            flag: "--registries",
            value: path.display().to_string(),
            problem: "no such file",
            next: "give one that is there, or leave the option (and `MINIPOD_REGISTRIES`) out",
        }),
    }
}

/// What the node's image store is opened with; `registries` is the file that was asked for, if one was.
pub(crate) fn image_options(directories: &Directories, registries: Option<PathBuf>) -> minipod_image::Options {
    minipod_image::Options {
        directory: directories.images(),
        registries: registries.unwrap_or_else(|| REGISTRIES.into()),
        builtin: Some(program("MINIPOD_HELLO", "minipod-hello")),
    }
}
