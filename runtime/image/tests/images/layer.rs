//! Layers as tar streams, also such as no decent program writes.

use tar::{Builder, EntryType, Header};

/// A layer being written.
pub(crate) struct Layer {
    tar: Builder<Vec<u8>>,
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self { tar: Builder::new(Vec::new()) }
    }

    /// Any entry under any name; what does not fit into the header goes into a GNU long name.
    pub(crate) fn entry(mut self, kind: EntryType, name: &[u8], link: &[u8], data: &[u8]) -> Self {
        self.header(kind, name, link, data.len() as u64, |_| {});
        self.data(data);
        self
    }

    pub(crate) fn file(self, name: &str, data: &str) -> Self {
        self.entry(EntryType::Regular, name.as_bytes(), b"", data.as_bytes())
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name.as_bytes(), b"", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name.as_bytes(), target.as_bytes(), b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name.as_bytes(), target.as_bytes(), b"")
    }

    /// An entry with a header of its own.
    pub(crate) fn with(mut self, kind: EntryType, name: &str, data: &[u8], change: impl FnOnce(&mut Header)) -> Self {
        self.header(kind, name.as_bytes(), b"", data.len() as u64, change);
        self.data(data);
        self
    }

    /// A POSIX extension header for the next entry.
    pub(crate) fn pax(mut self, pairs: &[(&str, &[u8])]) -> Self {
        self.tar.append_pax_extensions(pairs.iter().copied()).expect("extension");
        self
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.tar.get_mut().extend_from_slice(bytes);
        self
    }

    /// The stream, ended properly.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.tar.into_inner().expect("tar")
    }

    /// The stream without its end.
    pub(crate) fn unfinished(mut self) -> Vec<u8> {
        std::mem::take(self.tar.get_mut())
    }

    fn header(&mut self, kind: EntryType, name: &[u8], link: &[u8], size: u64, change: impl FnOnce(&mut Header)) {
        for (long, value) in [(EntryType::GNULongName, name), (EntryType::GNULongLink, link)] {
            if value.len() > 100 {
                let mut header = plain(long, value.len() as u64 + 1);
                header.set_cksum();
                self.tar.get_mut().extend_from_slice(header.as_bytes());
                self.data(&[value, b"\0"].concat());
            }
        }
        let mut header = plain(kind, size);
        let old = header.as_old_mut();
        for (field, value) in [(&mut old.name, name), (&mut old.linkname, link)] {
            let length = value.len().min(field.len());
            field[..length].copy_from_slice(&value[..length]);
        }
        change(&mut header);
        header.set_cksum();
        self.tar.get_mut().extend_from_slice(header.as_bytes());
    }

    fn data(&mut self, data: &[u8]) {
        let stream = self.tar.get_mut();
        stream.extend_from_slice(data);
        stream.resize(stream.len().next_multiple_of(512), 0);
    }
}

fn plain(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header
}
