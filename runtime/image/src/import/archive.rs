//! Random access to the entries of a tar file, which may be compressed as a whole.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Take};
use std::path::Path;

use tar::EntryType;

use crate::compression::decompress;

/// How many links in a row are followed.
const MAX_LINKS: usize = 8;

/// A tar file, its entries known by normalised name.
#[derive(Debug)]
pub(super) struct Archive {
    file: File,
    entries: HashMap<String, Place>,
}

#[derive(Debug)]
enum Place {
    Data { offset: u64, length: u64 },
    Link(String),
}

impl Archive {
    /// Opens a file. A compressed one is decompressed into an unnamed file in `work` first.
    pub(super) fn open(path: &Path, work: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        if is_compressed(&mut file)? {
            let mut plain = tempfile::tempfile_in(work)?;
            io::copy(&mut decompress(file)?, &mut plain)?;
            plain.rewind()?;
            file = plain;
        }
        let entries = index(&file)?;
        Ok(Self { file, entries })
    }

    /// Whether there is an entry of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The contents of an entry.
    pub(super) fn entry(&mut self, name: &str) -> io::Result<Option<Take<&mut File>>> {
        let mut name = normalise("", name);
        for _ in 0..MAX_LINKS {
            match self.entries.get(&name) {
                None => return Ok(None),
                Some(Place::Link(target)) => name.clone_from(target),
                Some(&Place::Data { offset, length }) => {
                    self.file.seek(SeekFrom::Start(offset))?;
                    return Ok(Some((&mut self.file).take(length)));
                }
            }
        }
        Ok(None)
    }
}

fn is_compressed(file: &mut File) -> io::Result<bool> {
    let mut magic = Vec::new();
    file.take(4).read_to_end(&mut magic)?;
    file.rewind()?;
    Ok(matches!(magic.as_slice(), [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]))
}

fn index(file: &File) -> io::Result<HashMap<String, Place>> {
    let mut entries = HashMap::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = normalise("", &String::from_utf8_lossy(&entry.path_bytes()));
        let link = || entry.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
        let place = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                Some(Place::Data { offset: entry.raw_file_position(), length: entry.size() })
            }
            EntryType::Symlink => link().map(|target| Place::Link(normalise(&name, &target))),
            EntryType::Link => link().map(|target| Place::Link(normalise("", &target))),
            _ => None,
        };
        if let Some(place) = place {
            entries.insert(name, place);
        }
    }
    Ok(entries)
}

/// A path without `.`, `..` and empty components, seen from the directory of the entry `from`. It only ever serves as a key.
fn normalise(from: &str, path: &str) -> String {
    let directory = from.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut parts = Vec::new();
    for part in directory.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn names_are_seen_from_the_linking_entry() {
        assert_eq!(normalise("", "./a//b"), "a/b");
        assert_eq!(normalise("one/layer.tar", "../two/layer.tar"), "two/layer.tar");
        assert_eq!(normalise("", "../../etc/passwd"), "etc/passwd");
    }
}
