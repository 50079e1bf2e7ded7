//! The directory that a layer is unpacked into, and the only code that writes there.
//!
//! Every write names a single component below a directory that the kernel resolved with `openat2` and
//! `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV`: a symbolic link of the layer, absolute or ascending, leads
//! at most to the layer's own root, as it would inside the container. The last component is never followed.
//!
//! Owner: the one thread that unpacks. Nobody else may write below the directory meanwhile, which the store's private
//! temporary directories ensure.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, futimens, makedev, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, fchownat, linkat, mkfifoat, symlinkat, unlinkat};
use xattr::FileExt as _;

use super::entry_path::{Place, join, os};

/// Marks a directory whose contents in lower layers are gone.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// Owner, mode, time and extended attributes of an entry.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: TimeSpec,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A layer's directory.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
}

/// What was in an entry's place before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Whiteout,
    Directory,
    Other,
}

impl Tree {
    /// Opens a directory that exists.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(Self { root: openat(AT_FDCWD, directory, flags, Mode::empty())? })
    }

    /// The layer's root as its tar entry wants it.
    pub(super) fn set_root(&self, attributes: &Attributes) -> io::Result<()> {
        let root = self.directory(&[])?;
        set_on_open(&File::from(root), attributes)
    }

    /// A new regular file; the caller fills it and then calls [`finish_file`].
    pub(super) fn create_file(&self, place: &Place) -> io::Result<File> {
        let parent = self.parent(place)?;
        make_room(&parent, &place.name, false)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&parent, os(&place.name), flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }

    /// A directory; one that is there already stays and gets the new attributes. Its time is set by [`Self::set_time`] in
    /// the end, because everything that is put into it changes it.
    pub(super) fn ensure_directory(&self, place: &Place, attributes: &Attributes) -> io::Result<()> {
        let parent = self.parent(place)?;
        let before = make_room(&parent, &place.name, true)?;
        if before != Before::Directory {
            mkdirat(&parent, os(&place.name), Mode::S_IRWXU)?;
        }
        let directory = File::from(open_directory(&parent, &place.name)?);
        if before == Before::Whiteout {
            directory.set_xattr(OPAQUE_XATTR, b"y")?;
        }
        set_on_open(&directory, attributes)
    }

    /// A symbolic link, whatever it points at: it is only ever resolved inside a root.
    pub(super) fn create_symlink(&self, place: &Place, target: &[u8], attributes: &Attributes) -> io::Result<()> {
        let parent = self.parent(place)?;
        make_room(&parent, &place.name, false)?;
        symlinkat(os(target), &parent, os(&place.name))?;
        set_owner(&parent, &place.name, attributes)?;
        set_time(&parent, &place.name, &attributes.mtime)
    }

    /// Another name for a file of this layer.
    pub(super) fn create_hard_link(&self, place: &Place, target: &Place) -> io::Result<()> {
        let target_parent = self.directory(&target.parent)?;
        let status = status_of(&target_parent, &target.name)?.ok_or(Errno::ENOENT)?;
        if is_whiteout(&status) || kind_of(&status) == SFlag::S_IFDIR {
            return Err(Errno::EPERM.into());
        }
        let parent = self.parent(place)?;
        if let Some(there) = status_of(&parent, &place.name)?
            && (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)
        {
            return Ok(());
        }
        make_room(&parent, &place.name, false)?;
        linkat(&target_parent, os(&target.name), &parent, os(&place.name), LinkatFlags::empty())?;
        Ok(())
    }

    /// A named pipe.
    pub(super) fn create_fifo(&self, place: &Place, attributes: &Attributes) -> io::Result<()> {
        let parent = self.parent(place)?;
        make_room(&parent, &place.name, false)?;
        mkfifoat(&parent, os(&place.name), Mode::S_IRUSR)?;
        set_owner(&parent, &place.name, attributes)?;
        // No link can be followed here: the pipe was made one line above and nobody else writes.
        fchmodat(&parent, os(&place.name), mode_of(attributes), FchmodatFlags::FollowSymlink)?;
        set_time(&parent, &place.name, &attributes.mtime)
    }

    /// Hides what lower layers have in this place. What this layer has there stays, and a directory becomes opaque.
    pub(super) fn create_whiteout(&self, place: &Place) -> io::Result<()> {
        let parent = self.parent(place)?;
        match before_of(&parent, &place.name)? {
            Before::Nothing => {
                mknodat(&parent, os(&place.name), SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?;
            }
            Before::Directory => {
                File::from(open_directory(&parent, &place.name)?).set_xattr(OPAQUE_XATTR, b"y")?;
            }
            Before::Whiteout | Before::Other => {}
        }
        Ok(())
    }

    /// Hides what lower layers have in this directory.
    pub(super) fn make_opaque(&self, components: &[Vec<u8>]) -> io::Result<()> {
        File::from(self.ensure_parents(components)?).set_xattr(OPAQUE_XATTR, b"y")
    }

    /// Sets a directory's time; one that was replaced since is left alone.
    pub(super) fn set_time(&self, components: &[Vec<u8>], mtime: &TimeSpec) -> io::Result<()> {
        match self.directory(components) {
            Ok(directory) => Ok(futimens(&directory, &TimeSpec::UTIME_OMIT, mtime)?),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The directory of an entry, made where the layer does not list it.
    fn parent(&self, place: &Place) -> io::Result<OwnedFd> {
        self.ensure_parents(&place.parent)
    }

    fn ensure_parents(&self, components: &[Vec<u8>]) -> io::Result<OwnedFd> {
        match self.directory(components) {
            Ok(directory) => return Ok(directory),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut directory = self.directory(&[])?;
        for depth in 1..=components.len() {
            let path = components.get(..depth).unwrap_or(components);
            directory = match self.directory(path) {
                Ok(next) => next,
                Err(Errno::ENOENT | Errno::ENOTDIR) => {
                    let name = path.last().map(Vec::as_slice).unwrap_or_default();
                    make_implied_directory(&directory, name)?;
                    self.directory(path)?
                }
                Err(errno) => return Err(errno.into()),
            };
        }
        Ok(directory)
    }

    /// Resolves a directory inside the root.
    fn directory(&self, components: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV);
        openat2(&self.root, os(&join(components)), how)
    }
}

/// Gives a filled file its owner, mode, attributes and time. The owner comes first: changing it drops the setuid bit and
/// the capabilities.
pub(super) fn finish_file(file: &File, attributes: &Attributes) -> io::Result<()> {
    set_on_open(file, attributes)?;
    Ok(futimens(file, &TimeSpec::UTIME_OMIT, &attributes.mtime)?)
}

fn set_on_open(file: &File, attributes: &Attributes) -> io::Result<()> {
    fchown(file, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)))?;
    fchmod(file, mode_of(attributes))?;
    for (name, value) in &attributes.xattrs {
        file.set_xattr(os(name), value)?;
    }
    Ok(())
}

fn set_owner(parent: &OwnedFd, name: &[u8], attributes: &Attributes) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    Ok(fchownat(parent, os(name), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

fn set_time(parent: &OwnedFd, name: &[u8], mtime: &TimeSpec) -> io::Result<()> {
    Ok(utimensat(parent, os(name), &TimeSpec::UTIME_OMIT, mtime, UtimensatFlags::NoFollowSymlink)?)
}

fn mode_of(attributes: &Attributes) -> Mode {
    Mode::from_bits_truncate(attributes.mode & 0o7777)
}

/// A parent that the layer does not list: root's, 0755. A whiteout in its place becomes an opaque directory; a link to
/// nothing stays what it is and is reported by the next lookup.
fn make_implied_directory(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let before = before_of(parent, name)?;
    if before == Before::Whiteout {
        unlinkat(parent, os(name), UnlinkatFlags::NoRemoveDir)?;
    }
    if matches!(before, Before::Nothing | Before::Whiteout) {
        mkdirat(parent, os(name), Mode::S_IRWXU)?;
        let directory = File::from(open_directory(parent, name)?);
        fchmod(&directory, Mode::from_bits_truncate(0o755))?;
        if before == Before::Whiteout {
            directory.set_xattr(OPAQUE_XATTR, b"y")?;
        }
    }
    Ok(())
}

/// Removes what is in the way of a new entry, except a directory that may stay.
fn make_room(parent: &OwnedFd, name: &[u8], keep_directory: bool) -> io::Result<Before> {
    let before = before_of(parent, name)?;
    match before {
        Before::Directory if keep_directory => {}
        Before::Nothing => {}
        Before::Directory => fs::remove_dir_all(path_through(parent, os(name)))?,
        Before::Whiteout | Before::Other => unlinkat(parent, os(name), UnlinkatFlags::NoRemoveDir)?,
    }
    Ok(before)
}

fn before_of(parent: &OwnedFd, name: &[u8]) -> io::Result<Before> {
    Ok(match status_of(parent, name)? {
        None => Before::Nothing,
        Some(status) if is_whiteout(&status) => Before::Whiteout,
        Some(status) if kind_of(&status) == SFlag::S_IFDIR => Before::Directory,
        Some(_) => Before::Other,
    })
}

fn status_of(parent: &OwnedFd, name: &[u8]) -> io::Result<Option<FileStat>> {
    match fstatat(parent, os(name), AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(status) => Ok(Some(status)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn kind_of(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits())
}

fn is_whiteout(status: &FileStat) -> bool {
    kind_of(status) == SFlag::S_IFCHR && status.st_rdev == 0
}

fn open_directory(parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(parent, os(name), flags, Mode::empty())?)
}

/// The path of a name below an open directory, for calls that take no directory descriptor.
fn path_through(parent: &impl AsFd, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", parent.as_fd().as_raw_fd())).join(name)
}
