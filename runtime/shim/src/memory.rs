//! Giving memory back when a pod has become quiet.
//!
//! Making a container touches most of the program once. Afterwards a shim only waits, and a node has one for every pod: what is
//! not needed any more goes back to the kernel. Pages of files stay in the page cache, where the next use finds them again.

use std::fs;

/// Gives back free heap and the untouched pages of program and libraries.
pub(crate) fn give_back() {
    #[expect(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")]
    // SAFETY: it only releases memory that the allocator itself holds as free.
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(mappings) = fs::read_to_string("/proc/self/smaps") else { return };
    for (start, length) in clean_file_mappings(&mappings) {
        #[expect(unsafe_code, reason = "madvise(2) on the program's own mappings has no safe wrapper")]
        // SAFETY: the mapping is of a file, cannot be written and has no page that differs from the file: a page that is
        // dropped is read again from the file when it is next touched, with the same content.
        let advised =
            unsafe { libc::madvise(std::ptr::with_exposed_provenance_mut(start), length, libc::MADV_DONTNEED) };
        // a mapping that cannot be dropped stays
        let _ = advised;
    }
}

/// Start and length of the mappings of files that cannot be written and are as the files are (proc(5), smaps).
fn clean_file_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(value) = line.strip_prefix("Anonymous:") {
            if let Some(mapping) = candidate.take()
                && value.trim() == "0 kB"
            {
                found.push(mapping);
            }
        } else if let Some(mapping) = parse_header(line) {
            candidate = mapping.clean_place();
        }
    }
    found
}

/// The line that begins a mapping.
struct Header<'a> {
    start: usize,
    end: usize,
    permissions: &'a str,
    inode: &'a str,
}

impl Header<'_> {
    /// Its place, if it is of a file and cannot be written.
    fn clean_place(&self) -> Option<(usize, usize)> {
        let of_file = self.inode != "0" && !self.permissions.contains('w') && self.permissions.ends_with('p');
        of_file.then_some((self.start, self.end - self.start))
    }
}

fn parse_header(line: &str) -> Option<Header<'_>> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some(Header { start, end, permissions: fields.next()?, inode: fields.nth(2)? })
}

#[cfg(test)]
mod tests {
    use super::{clean_file_mappings, give_back};

    #[test]
    fn only_what_is_as_the_file_is_is_found() {
        let smaps = "1000-3000 r-xp 00001000 fe:00 7 /bin/shim\nRss: 8 kB\nAnonymous:             0 kB\n\
                     3000-4000 r--p 00003000 fe:00 7 /bin/shim\nRss: 4 kB\nAnonymous:             4 kB\n\
                     4000-5000 rw-p 00004000 fe:00 7 /bin/shim\nRss: 0 kB\nAnonymous:             0 kB\n\
                     6000-7000 r--p 00000000 00:00 0 [vvar]\nAnonymous:             0 kB\n\
                     8000-9000 r--s 00000000 fe:00 8 /shared\nAnonymous:             0 kB\n";
        assert_eq!(clean_file_mappings(smaps), [(0x1000, 0x2000)]);
    }

    #[test]
    fn the_program_goes_on() {
        let mappings = || clean_file_mappings(&std::fs::read_to_string("/proc/self/smaps").expect("smaps"));
        assert!(!mappings().is_empty());
        give_back();
        assert!(!mappings().is_empty());
    }
}
