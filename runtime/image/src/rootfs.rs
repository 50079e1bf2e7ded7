//! Looks into an image's merged root file system without mounting it.
//!
//! Follows overlayfs: the topmost layer that has a name decides, whiteouts and opaque directories hide what is below, symbolic
//! links are resolved inside the image. Reads only; every step opens one component below an open directory and follows nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use xattr::FileExt as _;

use crate::unpack::OPAQUE_XATTR;

/// As many links as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// The layers of an image seen as one tree.
#[derive(Debug)]
pub struct Rootfs {
    /// roots of the layers, topmost first
    roots: Merged,
}

/// One directory as its layers have it, topmost first.
type Merged = Vec<Rc<OwnedFd>>;

/// What a path leads to.
#[derive(Debug)]
enum Found {
    Directory,
    File { parent: Rc<OwnedFd>, name: Vec<u8>, status: FileStat },
}

/// One component in one merged directory.
enum Step {
    Missing,
    Directory(Merged),
    Link(Vec<u8>),
    File { parent: Rc<OwnedFd>, status: FileStat },
}

impl Rootfs {
    /// The image with these layers, topmost first.
    pub fn open(layers: &[PathBuf]) -> io::Result<Self> {
        let open = |layer: &PathBuf| Ok(Rc::new(openat(AT_FDCWD, layer, DIRECTORY, Mode::empty())?));
        Ok(Self { roots: layers.iter().map(open).collect::<io::Result<_>>()? })
    }

    /// The contents of a regular file; `None` if there is none at that path. Longer than `limit` bytes is an error.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(Found::File { parent, name, status }) = self.find(path)? else {
            return Ok(None);
        };
        if kind_of(&status) != SFlag::S_IFREG {
            return Ok(None);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = File::from(openat(&*parent, Path::new(std::ffi::OsStr::from_bytes(&name)), flags, Mode::empty())?);
        let mut contents = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut contents)?;
        if contents.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("`{path}` is longer than {limit} bytes")));
        }
        Ok(Some(contents))
    }

    /// Whether there is a directory at that path.
    pub fn is_directory(&self, path: &str) -> io::Result<bool> {
        Ok(matches!(self.find(path)?, Some(Found::Directory)))
    }

    /// The path under which a program would be started: a name with a slash is looked up from `working_dir`, any other in the
    /// directories of `search` (a `PATH`). `None` where there is no file that anybody may execute.
    pub fn find_program(&self, program: &str, working_dir: &str, search: &str) -> io::Result<Option<String>> {
        let candidates: Vec<String> = if program.contains('/') {
            vec![absolute(program, working_dir)]
        } else {
            // An empty word is the working directory, as for a shell.
            let directories = search.split(':').map(|directory| if directory.is_empty() { "." } else { directory });
            directories.map(|directory| absolute(&format!("{directory}/{program}"), working_dir)).collect()
        };
        for candidate in candidates {
            if let Some(Found::File { status, .. }) = self.find(&candidate)?
                && kind_of(&status) == SFlag::S_IFREG
                && status.st_mode & 0o111 != 0
            {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }

    fn find(&self, path: &str) -> io::Result<Option<Found>> {
        // The way down so far; `..` goes back on it and stays at the root.
        let mut way = vec![self.roots.clone()];
        let mut rest: VecDeque<Vec<u8>> = components(path.as_bytes()).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                way.truncate(way.len().saturating_sub(1).max(1));
                continue;
            }
            let Some(here) = way.last() else {
                return Ok(None);
            };
            match step(here, &name)? {
                Step::Directory(merged) => way.push(merged),
                Step::File { parent, status } if rest.is_empty() => {
                    return Ok(Some(Found::File { parent, name, status }));
                }
                Step::Missing | Step::File { .. } => return Ok(None),
                Step::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(component);
                    }
                }
            }
        }
        Ok(Some(Found::Directory))
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

fn step(here: &Merged, name: &[u8]) -> io::Result<Step> {
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    let mut merged = Merged::new();
    for parent in here {
        let status = match fstatat(&**parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(status) => status,
            Err(Errno::ENOENT | Errno::ENAMETOOLONG) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let kind = kind_of(&status);
        if kind == SFlag::S_IFDIR {
            let directory = File::from(openat(&**parent, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty())?);
            let opaque = directory.get_xattr(OPAQUE_XATTR)?.as_deref() == Some(b"y");
            merged.push(Rc::new(OwnedFd::from(directory)));
            if opaque {
                break;
            }
            continue;
        }
        if !merged.is_empty() || (kind == SFlag::S_IFCHR && status.st_rdev == 0) {
            break;
        }
        return Ok(if kind == SFlag::S_IFLNK {
            Step::Link(readlinkat(&**parent, name)?.into_vec())
        } else {
            Step::File { parent: Rc::clone(parent), status }
        });
    }
    Ok(if merged.is_empty() { Step::Missing } else { Step::Directory(merged) })
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec)
}

fn kind_of(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits())
}

fn absolute(path: &str, working_dir: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{working_dir}/{path}") }
}
