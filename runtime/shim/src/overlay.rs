//! A container's root file system: an overlay of its image's layers with a writable layer of its own.
//!
//! The mount lives in the shim's mount namespace and goes with it. A restarted container begins with an empty writable layer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use minipod_protocol::shim::Container;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The kernel takes one page of options, the final zero byte included.
const LONGEST_OPTIONS: usize = 4095;

/// Why there is no root file system.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OverlayError {
    /// the image has nothing in it
    #[error("the image of container `{0}` has no layers")]
    NoLayers(String),
    /// a layer is not where the agent said
    #[error("layer `{}` is missing; pull the image again", .path.display())]
    MissingLayer {
        /// the layer's directory
        path: PathBuf,
    },
    /// too many or too long layers
    #[error(
        "the {layers} layers of container `{container}` need {length} bytes of mount options, {LONGEST_OPTIONS} are possible"
    )]
    TooLong {
        /// the container
        container: String,
        /// how many
        layers: usize,
        /// bytes
        length: usize,
    },
    /// a directory could not be prepared
    #[error("cannot prepare `{}`", .path.display())]
    Prepare {
        /// the directory
        path: PathBuf,
        /// what refused
        #[source]
        source: io::Error,
    },
    /// the kernel refused
    #[error("cannot mount the overlay at `{}`", .at.display())]
    Mount {
        /// the mount point
        at: PathBuf,
        /// what refused
        #[source]
        source: nix::Error,
    },
}

/// Mounts a fresh root file system for the container and returns its path. What an earlier start left there is removed.
pub(crate) fn ensure_fresh_rootfs(container: &Container) -> Result<PathBuf, OverlayError> {
    let rootfs = rootfs_of(container);
    unmount(&rootfs);
    let prepare = |path: &Path, step: io::Result<()>| {
        step.map_err(|source| OverlayError::Prepare { path: path.to_owned(), source })
    };
    let (upper, work) = (container.directory.join("upper"), container.directory.join("work"));
    for directory in [&upper, &work] {
        prepare(directory, remove_if_there(directory))?;
    }
    for directory in [&upper, &work, &rootfs] {
        prepare(directory, fs::create_dir_all(directory))?;
    }
    if let Some(missing) = container.layers.iter().find(|layer| !layer.is_dir()) {
        return Err(OverlayError::MissingLayer { path: missing.clone() });
    }
    let base = common_directory(&container.layers).ok_or_else(|| OverlayError::NoLayers(container.name.clone()))?;
    let options = compile_options(&container.layers, &base, &upper, &work);
    if options.len() + ",volatile".len() > LONGEST_OPTIONS {
        let (container, layers) = (container.name.clone(), container.layers.len());
        return Err(OverlayError::TooLong { container, layers, length: options.len() });
    }
    // short names relative to the layers' directory leave room for many layers
    let before = std::env::current_dir().and_then(|before| std::env::set_current_dir(&base).map(|()| before));
    let before = before.map_err(|source| OverlayError::Prepare { path: base.clone(), source })?;
    let mounted = mount_overlay(&rootfs, &options);
    prepare(&before, std::env::set_current_dir(&before))?;
    mounted.map_err(|source| OverlayError::Mount { at: rootfs.clone(), source })?;
    Ok(rootfs)
}

/// `volatile`: the writable layer is thrown away with the container, so nobody waits for it to reach the disk. A kernel
/// before 5.10 does not know it.
fn mount_overlay(rootfs: &Path, options: &[u8]) -> nix::Result<()> {
    let mount = |options: &[u8]| {
        mount(Some("overlay"), rootfs, Some("overlay"), MsFlags::MS_NODEV, Some(OsStr::from_bytes(options)))
    };
    match mount(&[options, b",volatile"].concat()) {
        Err(Errno::EINVAL) => mount(options),
        other => other,
    }
}

/// Where the container's root file system is mounted.
pub(crate) fn rootfs_of(container: &Container) -> PathBuf {
    container.directory.join("rootfs")
}

/// Unmounts what is mounted there, if anything is.
pub(crate) fn unmount(rootfs: &Path) {
    // EINVAL: nothing is mounted there; ENOENT: the container was never made
    let _ = umount2(rootfs, MntFlags::MNT_DETACH);
}

fn remove_if_there(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The nearest directory that holds all of these.
fn common_directory(paths: &[PathBuf]) -> Option<PathBuf> {
    let (first, rest) = paths.split_first()?;
    let common = first.parent().unwrap_or(first);
    Some(rest.iter().fold(common.to_owned(), |common, path| {
        common.ancestors().find(|ancestor| path.starts_with(ancestor)).unwrap_or(Path::new("/")).to_owned()
    }))
}

fn compile_options(layers: &[PathBuf], base: &Path, upper: &Path, work: &Path) -> Vec<u8> {
    let mut options = b"lowerdir=".to_vec();
    for (index, layer) in layers.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        let name = layer.strip_prefix(base).ok().filter(|name| !name.as_os_str().is_empty());
        append_escaped(&mut options, name.unwrap_or(layer));
    }
    for (key, path) in [(",upperdir=", upper), (",workdir=", work)] {
        options.extend_from_slice(key.as_bytes());
        append_escaped(&mut options, path);
    }
    options
}

/// Colons, commas and backslashes mean something in the options.
fn append_escaped(options: &mut Vec<u8>, path: &Path) {
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{common_directory, compile_options};

    fn options(layers: &[&str]) -> String {
        let layers: Vec<PathBuf> = layers.iter().map(PathBuf::from).collect();
        let base = common_directory(&layers).expect("layers");
        String::from_utf8(compile_options(&layers, &base, Path::new("/p/u"), Path::new("/p/w"))).expect("text")
    }

    #[test]
    fn layers_are_named_relative_to_their_common_directory() {
        assert_eq!(options(&["/l/a/fs", "/l/b/fs"]), "lowerdir=a/fs:b/fs,upperdir=/p/u,workdir=/p/w");
        assert_eq!(options(&["/l/a"]), "lowerdir=a,upperdir=/p/u,workdir=/p/w");
        assert_eq!(options(&["/l/a", "/m/b"]), "lowerdir=l/a:m/b,upperdir=/p/u,workdir=/p/w");
        assert_eq!(options(&["/l/a/b", "/l/a"]), "lowerdir=b:/l/a,upperdir=/p/u,workdir=/p/w");
    }

    #[test]
    fn what_means_something_in_the_options_is_escaped() {
        assert_eq!(options(&["/l/a:b,c\\d"]), "lowerdir=a\\:b\\,c\\\\d,upperdir=/p/u,workdir=/p/w");
    }

    #[test]
    fn there_is_no_common_directory_of_nothing() {
        assert_eq!(common_directory(&[]), None);
    }
}
