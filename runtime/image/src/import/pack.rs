//! Writes a directory tree as a layer's tar stream: owners, modes, times, links, pipes, capabilities. Entries are sorted, so that
//! the same tree gives the same digest.
//!
//! Other file systems mounted below are left out, as are devices and sockets; the first two are reported.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, PipeReader, PipeWriter, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;

use tar::{Builder, EntryType, Header};

use crate::unpack::{Skipped, SkippedKind};

const CAPABILITY: &str = "security.capability";

/// Packs a directory and hands the stream to a consumer, both at once.
pub(super) fn through<T>(directory: &Path, consumer: impl FnOnce(PipeReader) -> T) -> io::Result<(T, Vec<Skipped>)> {
    let (reader, writer) = io::pipe()?;
    thread::scope(|scope| {
        let packer = scope.spawn(|| pack(directory, writer));
        let result = consumer(reader);
        match packer.join() {
            Ok(Ok(skipped)) => Ok((result, skipped)),
            // A consumer that gave up has its own error to tell.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok((result, Vec::new())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the packing thread ended early")),
        }
    })
}

fn pack(directory: &Path, writer: PipeWriter) -> io::Result<Vec<Skipped>> {
    let device = fs::metadata(directory)?.dev();
    let mut packing = Packing {
        tar: Builder::new(BufWriter::with_capacity(64 << 10, writer)),
        root: directory.to_owned(),
        device,
        seen: HashMap::new(),
        skipped: Vec::new(),
    };
    packing.tree(Path::new(""))?;
    packing.tar.into_inner()?.flush()?;
    Ok(packing.skipped)
}

struct Packing<W: Write> {
    tar: Builder<W>,
    root: PathBuf,
    device: u64,
    /// first name of files that have several
    seen: HashMap<u64, PathBuf>,
    skipped: Vec<Skipped>,
}

impl<W: Write> Packing<W> {
    fn tree(&mut self, below: &Path) -> io::Result<()> {
        let path = self.root.join(below);
        let metadata = fs::metadata(&path)?;
        self.attributes(&path)?;
        let name = if below.as_os_str().is_empty() { Path::new("./") } else { below };
        self.tar.append_data(&mut header(&metadata, EntryType::Directory, 0), name, io::empty())?;
        let mut names = fs::read_dir(&path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            self.entry(&below.join(name))?;
        }
        Ok(())
    }

    fn entry(&mut self, below: &Path) -> io::Result<()> {
        let path = self.root.join(below);
        let metadata = fs::symlink_metadata(&path)?;
        let kind = metadata.file_type();
        if metadata.dev() != self.device {
            return Ok(());
        }
        if kind.is_dir() {
            return self.tree(below);
        }
        if kind.is_char_device() || kind.is_block_device() {
            self.skipped.push(Skipped { entry: below.display().to_string(), what: SkippedKind::Device });
            return Ok(());
        }
        if kind.is_file() && metadata.nlink() > 1 {
            if let Some(first) = self.seen.get(&metadata.ino()) {
                return self.tar.append_link(&mut header(&metadata, EntryType::Link, 0), below, first);
            }
            self.seen.insert(metadata.ino(), below.to_owned());
        }
        if kind.is_file() {
            self.attributes(&path)?;
            let file = File::open(&path)?;
            return self.tar.append_data(&mut header(&metadata, EntryType::Regular, metadata.len()), below, file);
        }
        if kind.is_symlink() {
            let target = fs::read_link(&path)?;
            return self.tar.append_link(&mut header(&metadata, EntryType::Symlink, 0), below, target);
        }
        if kind.is_fifo() {
            return self.tar.append_data(&mut header(&metadata, EntryType::Fifo, 0), below, io::empty());
        }
        Ok(())
    }

    fn attributes(&mut self, path: &Path) -> io::Result<()> {
        let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
        for name in xattr::list(path)? {
            let wanted = name == CAPABILITY || name.as_bytes().starts_with(b"user.");
            if let Some(name) = name.to_str().filter(|_| wanted)
                && let Some(value) = xattr::get(path, name)?
            {
                kept.push((format!("SCHILY.xattr.{name}"), value));
            }
        }
        kept.sort();
        if kept.is_empty() {
            return Ok(());
        }
        self.tar.append_pax_extensions(kept.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
    }
}

fn header(metadata: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(u64::from(metadata.uid()));
    header.set_gid(u64::from(metadata.gid()));
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(size);
    header
}
