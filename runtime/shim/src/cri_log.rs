//! Container logs in the CRI format: `TIME STREAM TAG TEXT`, tag `F` for a line and `P` for a part of one.
//!
//! [`LineWriter`] is pure; [`LogFile`] owns one file. A log that cannot be written (disk full) loses lines, never the container.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::timestamp::rfc3339_nanos;

/// A line longer than this is written in parts, as containerd does.
const LONGEST_PART: usize = 16 << 10;

/// Which of a container's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stream {
    /// descriptor 1, or the terminal
    Stdout,
    /// descriptor 2
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Makes log lines out of the bytes of one stream.
#[derive(Debug)]
pub(crate) struct LineWriter {
    stream: Stream,
    unfinished: Vec<u8>,
}

impl LineWriter {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, unfinished: Vec::new() }
    }

    /// Appends to `log` what is complete after these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Duration, log: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.unfinished.extend_from_slice(piece);
            let complete = self.unfinished.last() == Some(&b'\n');
            if complete {
                self.unfinished.pop();
            }
            while self.unfinished.len() > LONGEST_PART {
                let rest = self.unfinished.split_off(LONGEST_PART);
                self.append("P", now, log);
                self.unfinished = rest;
            }
            if complete {
                self.append("F", now, log);
                self.unfinished.clear();
            }
        }
    }

    /// Appends the unfinished line that the stream ended with, if there is one.
    pub(crate) fn finish(&mut self, now: Duration, log: &mut Vec<u8>) {
        if !self.unfinished.is_empty() {
            self.append("P", now, log);
            self.unfinished = Vec::new();
        }
    }

    fn append(&self, tag: &str, now: Duration, log: &mut Vec<u8>) {
        log.extend_from_slice(format!("{} {} {tag} ", rfc3339_nanos(now), self.stream.name()).as_bytes());
        log.extend_from_slice(&self.unfinished);
        log.push(b'\n');
    }
}

/// The log of one start of a container.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
}

impl LogFile {
    /// Opens `ATTEMPT.log`, and removes all but the one before it.
    pub(crate) fn open(directory: &Path, attempt: u32) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        if let Some(old) = attempt.checked_sub(2) {
            match fs::remove_file(path_of(directory, old)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let file = File::options().create(true).append(true).open(path_of(directory, attempt))?;
        Ok(Self { file })
    }

    /// Writes whole lines.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)
    }
}

fn path_of(directory: &Path, attempt: u32) -> PathBuf {
    directory.join(format!("{attempt}.log"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::{LONGEST_PART, LineWriter, LogFile, Stream};

    const AT: &str = "1970-01-01T00:00:01.000000000Z";

    fn log_of(pieces: &[&[u8]]) -> String {
        let (mut writer, mut log) = (LineWriter::new(Stream::Stdout), Vec::new());
        for piece in pieces {
            writer.push(piece, Duration::from_secs(1), &mut log);
        }
        writer.finish(Duration::from_secs(1), &mut log);
        String::from_utf8(log).expect("text")
    }

    #[test]
    fn a_line_is_full_however_its_bytes_arrive() {
        let expected = format!("{AT} stdout F hello\n{AT} stdout F \n{AT} stdout F world\n");
        assert_eq!(log_of(&[b"hello\n\nworld\n"]), expected);
        assert_eq!(log_of(&[b"hel", b"lo", b"\n\nwor", b"ld\n"]), expected);
    }

    #[test]
    fn the_end_of_the_stream_leaves_a_part() {
        assert_eq!(log_of(&[b"a\nb"]), format!("{AT} stdout F a\n{AT} stdout P b\n"));
        assert_eq!(log_of(&[]), "");
    }

    #[test]
    fn a_long_line_is_cut_into_parts_that_add_up() {
        let line = "x".repeat(2 * LONGEST_PART + 1);
        let log = log_of(&[line.as_bytes(), b"\n"]);
        let fields: Vec<Vec<&str>> = log.lines().map(|line| line.splitn(4, ' ').collect()).collect();
        assert_eq!(fields.iter().map(|f| f[2]).collect::<String>(), "PPF");
        assert_eq!(fields.iter().map(|f| f[3]).collect::<String>(), line);
        assert_eq!(log_of(&[&line.as_bytes()[..LONGEST_PART], b"\n"]).matches(" F ").count(), 1);
    }

    #[test]
    fn the_last_two_logs_are_kept() {
        let directory = tempfile::tempdir().expect("directory");
        for attempt in 0..4 {
            LogFile::open(directory.path(), attempt).expect("opened").write(b"x\n").expect("written");
        }
        let mut names: Vec<_> =
            fs::read_dir(directory.path()).expect("listed").map(|e| e.expect("entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["2.log", "3.log"]);
    }
}
