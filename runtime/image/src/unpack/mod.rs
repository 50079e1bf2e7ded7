//! Unpacks a layer's tar stream into a directory as overlayfs wants it.
//!
//! A whiteout becomes a character device 0/0, an opaque mark the attribute `trusted.overlay.opaque`. Owners, modes with setuid
//! bits, times, hard links, symbolic links, pipes and file capabilities are kept. Device nodes are skipped and reported: a
//! container gets its devices from the runtime. Of the extended attributes only `security.capability` and `user.*` are kept;
//! overlayfs' own would let a layer redirect lookups.
//!
//! A stream that wants to leave the directory fails as a whole ([`UnpackError::Refused`]). Nothing is ever written outside; how is
//! told in [`tree`]. What remains in the directory after an error is the caller's to remove.

mod entry_path;
mod tree;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use tar::{Entry, EntryType};
use thiserror::Error;

pub use entry_path::BadPath;
use entry_path::{Meaning, Place, link_target, meaning_of};
pub(crate) use tree::OPAQUE_XATTR;
use tree::{Attributes, Tree, finish_file};

/// What one layer may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// bytes of all files together
    pub bytes: u64,
    /// number of entries
    pub entries: u64,
}

impl Default for Limits {
    /// 64 GiB and five million entries, far beyond any real layer.
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 5_000_000 }
    }
}

/// What was unpacked and what was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// entries in the stream
    pub entries: u64,
    /// bytes of all files
    pub bytes: u64,
    /// what was left out; the first [`MAX_SKIPPED`]
    pub skipped: Vec<Skipped>,
}

/// How many skipped entries a report lists.
pub const MAX_SKIPPED: usize = 100;

/// An entry or attribute that was left out on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// the entry's path
    pub entry: String,
    /// what it is
    pub what: SkippedKind,
}

/// What is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkippedKind {
    /// a character or block device
    Device,
    /// bookkeeping of aufs
    AufsMetadata,
    /// an extended attribute of this name
    Attribute(String),
}

/// Why a layer was not unpacked.
#[derive(Debug, Error)]
pub enum UnpackError {
    /// the stream ends early, is no tar archive, or its compression is damaged
    #[error("the layer is damaged{}; get the image again", after(.entry))]
    Corrupt {
        /// the last entry that was begun
        entry: String,
        /// what the decoder says
        #[source]
        source: io::Error,
    },
    /// an entry that must not be unpacked
    #[error("the layer's entry `{entry}` is refused: {reason}")]
    Refused {
        /// the entry's path
        entry: String,
        /// why
        reason: Refusal,
    },
    /// the layer is larger than allowed
    #[error("the layer is larger than allowed at entry `{entry}`: {limit}")]
    TooLarge {
        /// the entry's path
        entry: String,
        /// which limit
        limit: String,
    },
    /// no room
    #[error("no space left for the layer's entry `{entry}`; free space or move the state directory")]
    DiskFull {
        /// the entry's path
        entry: String,
        /// what the system says
        #[source]
        source: io::Error,
    },
    /// the system refused
    #[error("cannot write the layer's entry `{entry}`")]
    Write {
        /// the entry's path
        entry: String,
        /// what the system says
        #[source]
        source: io::Error,
    },
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// its name
    #[error("{0}")]
    Path(#[from] BadPath),
    /// a hard link whose target's name is bad
    #[error("it is a hard link to `{target}`, and there {problem}")]
    LinkPath {
        /// where it points
        target: String,
        /// what is wrong
        problem: BadPath,
    },
    /// a hard link to what this layer does not have
    #[error("it is a hard link to `{0}`, which this layer does not have as a file")]
    LinkTarget(String),
    /// a link without a target
    #[error("it is a link to nowhere")]
    NoTarget,
    /// its parent cannot be a directory
    #[error("its parent directory is a file, a link to nothing or a circle of links")]
    Parent,
    /// the root of the layer is no directory
    #[error("it stands for the layer's root and is no directory")]
    Root,
    /// a kind of entry that is not known
    #[error("it is of the unsupported type `{0}`")]
    Type(char),
    /// a sparse file in the POSIX format
    #[error("it is a sparse file in a format that is not supported (`{0}`)")]
    Sparse(String),
    /// a number that does not fit
    #[error("its {field} `{value}` is out of range")]
    Number {
        /// which
        field: &'static str,
        /// the value
        value: String,
    },
}

fn after(entry: &str) -> String {
    if entry.is_empty() { String::new() } else { format!(" after entry `{entry}`") }
}

/// Unpacks a tar stream (already decompressed) into an existing directory that nobody else writes to.
pub fn unpack(stream: impl Read, directory: &Path, limits: Limits) -> Result<Report, UnpackError> {
    let tree = Tree::open(directory)
        .map_err(|source| UnpackError::Write { entry: directory.display().to_string(), source })?;
    let allowance = Rc::new(Cell::new(HEADER_ALLOWANCE));
    let mut archive = tar::Archive::new(Metered { inner: stream, allowance: Rc::clone(&allowance) });
    let mut unpacking =
        Unpacking { tree, limits, report: Report::default(), directory_times: Vec::new(), entry: String::new() };
    let entries = archive.entries().map_err(|source| unpacking.corrupt(source))?;
    for entry in entries {
        let mut entry = entry.map_err(|source| unpacking.corrupt(source))?;
        allowance.set(u64::MAX);
        unpacking.entry(&mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(|source| unpacking.corrupt(source))?;
        allowance.set(HEADER_ALLOWANCE);
    }
    unpacking.finish()
}

/// One layer on its way.
struct Unpacking {
    tree: Tree,
    limits: Limits,
    report: Report,
    directory_times: Vec<(Vec<Vec<u8>>, TimeSpec)>,
    /// path of the current entry, for messages
    entry: String,
}

impl Unpacking {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), UnpackError> {
        let path = entry.path_bytes().into_owned();
        self.entry = String::from_utf8_lossy(&path).into_owned();
        self.report.entries += 1;
        if self.report.entries > self.limits.entries {
            return Err(self.too_large(format!("{} entries", self.limits.entries)));
        }
        let kind = type_of(entry, &path);
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        match meaning_of(&path).map_err(|bad| self.refused(bad.into()))? {
            Meaning::Root if kind.is_dir() => {
                let attributes = self.attributes(entry)?;
                self.directory_times.push((Vec::new(), attributes.mtime));
                self.tree.set_root(&attributes).map_err(|error| self.write(error))
            }
            Meaning::Root => Err(self.refused(Refusal::Root)),
            Meaning::Whiteout(place) => self.tree.create_whiteout(&place).map_err(|error| self.write(error)),
            Meaning::Opaque(components) => self.tree.make_opaque(&components).map_err(|error| self.write(error)),
            Meaning::AufsMetadata => {
                self.skip(SkippedKind::AufsMetadata);
                Ok(())
            }
            Meaning::At(place) => self.put(entry, kind, &place),
        }
    }

    fn put<R: Read>(&mut self, entry: &mut Entry<'_, R>, kind: EntryType, place: &Place) -> Result<(), UnpackError> {
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.file(entry, place),
            EntryType::Directory => {
                let attributes = self.attributes(entry)?;
                let mut components = place.parent.clone();
                components.push(place.name.clone());
                self.directory_times.push((components, attributes.mtime));
                self.tree.ensure_directory(place, &attributes).map_err(|error| self.write(error))
            }
            EntryType::Symlink => {
                let mut attributes = self.attributes(entry)?;
                self.skip_attributes(&mut attributes);
                let target = self.target(entry)?;
                self.tree.create_symlink(place, &target, &attributes).map_err(|error| self.write(error))
            }
            EntryType::Link => {
                let target = self.target(entry)?;
                self.hard_link(place, &target)
            }
            EntryType::Fifo => {
                let mut attributes = self.attributes(entry)?;
                self.skip_attributes(&mut attributes);
                self.tree.create_fifo(place, &attributes).map_err(|error| self.write(error))
            }
            EntryType::Char | EntryType::Block => {
                self.skip(SkippedKind::Device);
                Ok(())
            }
            other => Err(self.refused(Refusal::Type(char::from(other.as_byte())))),
        }
    }

    fn file<R: Read>(&mut self, entry: &mut Entry<'_, R>, place: &Place) -> Result<(), UnpackError> {
        let room = self.limits.bytes.saturating_sub(self.report.bytes);
        if entry.size() > room {
            return Err(self.too_large(format!("{} bytes in all files", self.limits.bytes)));
        }
        let attributes = self.attributes(entry)?;
        let mut file = self.tree.create_file(place).map_err(|error| self.write(error))?;
        let expected = entry.size();
        let copied = self.copy(entry, &mut file)?;
        if copied != expected {
            return Err(self.corrupt(io::ErrorKind::UnexpectedEof.into()));
        }
        self.report.bytes += copied;
        finish_file(&file, &attributes).map_err(|error| self.write(error))
    }

    /// Like `io::copy`, but tells a damaged stream from a full disk.
    fn copy(&self, from: &mut impl Read, to: &mut File) -> Result<u64, UnpackError> {
        let mut buffer = vec![0; 64 << 10];
        let mut copied = 0;
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => return Ok(copied),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.corrupt(error)),
            };
            to.write_all(buffer.get(..read).unwrap_or_default()).map_err(|error| self.write(error))?;
            copied += read as u64;
        }
    }

    fn hard_link(&self, place: &Place, target: &[u8]) -> Result<(), UnpackError> {
        let name = String::from_utf8_lossy(target).into_owned();
        let target =
            link_target(target).map_err(|problem| self.refused(Refusal::LinkPath { target: name.clone(), problem }))?;
        self.tree.create_hard_link(place, &target).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::EPERM | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => {
                self.refused(Refusal::LinkTarget(name))
            }
            _ => self.write(error),
        })
    }

    fn target<R: Read>(&self, entry: &Entry<'_, R>) -> Result<Vec<u8>, UnpackError> {
        let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        if target.is_empty() {
            return Err(self.refused(Refusal::NoTarget));
        }
        if target.len() > entry_path::MAX_PATH {
            return Err(self.refused(BadPath::TooLong.into()));
        }
        if target.contains(&0) {
            return Err(self.refused(BadPath::Nul.into()));
        }
        Ok(target)
    }

    fn attributes<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<Attributes, UnpackError> {
        let header = entry.header();
        let number = |field, value: io::Result<u64>| match value {
            Ok(value) => u32::try_from(value).map_err(|_| Refusal::Number { field, value: value.to_string() }),
            Err(error) => Err(Refusal::Number { field, value: error.to_string() }),
        };
        let mode = number("mode", header.mode().map(u64::from)).map_err(|reason| self.refused(reason))?;
        let uid = number("user", header.uid()).map_err(|reason| self.refused(reason))?;
        let gid = number("group", header.gid()).map_err(|reason| self.refused(reason))?;
        let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
        let mut attributes = Attributes { mode, uid, gid, mtime: TimeSpec::new(seconds, 0), xattrs: Vec::new() };
        self.pax(entry, &mut attributes)?;
        Ok(attributes)
    }

    /// What the POSIX extension header adds: times below a second and extended attributes.
    fn pax<R: Read>(&mut self, entry: &mut Entry<'_, R>, attributes: &mut Attributes) -> Result<(), UnpackError> {
        let Some(extensions) = entry.pax_extensions().map_err(|source| self.corrupt(source))? else {
            return Ok(());
        };
        for extension in extensions {
            let extension = extension.map_err(|source| self.corrupt(source))?;
            let (key, value) = (extension.key_bytes(), extension.value_bytes());
            if key.starts_with(b"GNU.sparse.") {
                return Err(self.refused(Refusal::Sparse(String::from_utf8_lossy(key).into_owned())));
            }
            if key == b"mtime"
                && let Some(mtime) = parse_time(value)
            {
                attributes.mtime = mtime;
            }
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                if name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
                {
                    attributes.xattrs.push((name.to_vec(), value.to_vec()));
                } else {
                    self.skip(SkippedKind::Attribute(String::from_utf8_lossy(name).into_owned()));
                }
            }
        }
        Ok(())
    }

    /// Links and pipes carry no attributes that we keep.
    fn skip_attributes(&mut self, attributes: &mut Attributes) {
        for (name, _) in attributes.xattrs.drain(..) {
            self.skip(SkippedKind::Attribute(String::from_utf8_lossy(&name).into_owned()));
        }
    }

    fn skip(&mut self, what: SkippedKind) {
        if self.report.skipped.len() < MAX_SKIPPED {
            self.report.skipped.push(Skipped { entry: self.entry.clone(), what });
        }
    }

    fn finish(mut self) -> Result<Report, UnpackError> {
        for (components, mtime) in std::mem::take(&mut self.directory_times) {
            self.tree.set_time(&components, &mtime).map_err(|error| self.write(error))?;
        }
        Ok(self.report)
    }

    fn refused(&self, reason: Refusal) -> UnpackError {
        UnpackError::Refused { entry: self.entry.clone(), reason }
    }

    fn corrupt(&self, source: io::Error) -> UnpackError {
        UnpackError::Corrupt { entry: self.entry.clone(), source }
    }

    fn too_large(&self, limit: String) -> UnpackError {
        UnpackError::TooLarge { entry: self.entry.clone(), limit }
    }

    /// The system's refusals that the layer itself causes are told from those of the machine.
    fn write(&self, source: io::Error) -> UnpackError {
        let entry = self.entry.clone();
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT) => UnpackError::DiskFull { entry, source },
            Some(Errno::ENOTDIR | Errno::ELOOP | Errno::ENOENT | Errno::EXDEV) => {
                UnpackError::Refused { entry, reason: Refusal::Parent }
            }
            Some(Errno::ENAMETOOLONG) => UnpackError::Refused { entry, reason: BadPath::TooLong.into() },
            _ => UnpackError::Write { entry, source },
        }
    }
}

/// The entry's type; in archives older than POSIX a trailing slash makes a directory.
fn type_of<R: Read>(entry: &Entry<'_, R>, path: &[u8]) -> EntryType {
    let header = entry.header();
    let old = header.as_ustar().is_none() && header.as_gnu().is_none();
    match header.entry_type() {
        EntryType::Regular if old && path.ends_with(b"/") => EntryType::Directory,
        kind => kind,
    }
}

/// `SECONDS[.FRACTION]`, perhaps negative.
fn parse_time(value: &[u8]) -> Option<TimeSpec> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (text.starts_with('-'), nanoseconds) {
        (true, 1..) => TimeSpec::new(seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds),
        _ => TimeSpec::new(seconds, nanoseconds),
    })
}

/// What may be read between two entries: names, extension headers and padding. More would be kept in memory by the decoder.
const HEADER_ALLOWANCE: u64 = 4 << 20;

/// Ends a stream whose headers want to fill the memory.
struct Metered<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowance = self.allowance.get();
        if allowance == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the headers of an entry are larger than 4 MiB"));
        }
        let wanted = buffer.len().min(usize::try_from(allowance).unwrap_or(usize::MAX));
        let read = self.inner.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if allowance != u64::MAX {
            self.allowance.set(allowance - read as u64);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::time::TimeSpec;

    use super::parse_time;

    #[test]
    fn times_have_fractions_and_signs() {
        let cases = [
            ("12", Some((12, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.123456789123", Some((12, 123_456_789))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.5", Some((-1, 500_000_000))),
            ("x", None),
            ("1.x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text.as_bytes()), expected.map(|(s, ns)| TimeSpec::new(s, ns)), "{text}");
        }
    }
}
