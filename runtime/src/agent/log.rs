//! A container's log: the CRI log format (`TIME STREAM TAG TEXT`, tag `P` for a part of a line, `F` for its end) read back as the
//! container wrote it. Finding the file and waiting for more is here too; parsing and choosing is pure.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use minipod_api::streams::{LogOptions, LogSource};

/// So much is read at a time.
const BLOCK: usize = 64 << 10;

/// One line of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// RFC 3339 with nanoseconds
    pub(super) time: &'a str,
    /// which of the container's outputs
    pub(super) source: LogSource,
    /// the container's line ends here
    pub(super) full: bool,
    /// what the container wrote, without the newline
    pub(super) text: &'a [u8],
}

/// Reads one line of a log file, without its newline; `None` for what is none.
pub(super) fn parse_line(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let source = match parts.next()? {
        b"stdout" => LogSource::Stdout,
        b"stderr" => LogSource::Stderr,
        _ => return None,
    };
    let tag = parts.next()?;
    // Later tags may follow after a colon (kubelet `cri/remote/logs`).
    let full = match tag.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Line { time, source, full, text: parts.next().unwrap_or_default() })
}

/// Turns lines of a log file into what the client asked for.
#[derive(Debug)]
pub(super) struct Filter {
    timestamps: bool,
    since: Option<Timestamp>,
    source: Option<LogSource>,
    /// bytes that may still be sent
    left: Option<u64>,
    /// the line before was a part
    inside: bool,
}

impl Filter {
    /// For one request.
    pub(super) fn new(options: &LogOptions) -> Self {
        Self {
            timestamps: options.timestamps,
            since: options.since,
            source: options.stream,
            left: options.limit_bytes,
            inside: false,
        }
    }

    /// Appends what the client gets of this line.
    pub(super) fn push(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(line) = parse_line(line) else { return };
        if self.source.is_some_and(|source| source != line.source) {
            return;
        }
        if let Some(since) = self.since {
            let early = line.time.parse::<Timestamp>().is_ok_and(|time| time < since);
            if early {
                return;
            }
        }
        let begin = out.len();
        if self.timestamps && !self.inside {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if line.full {
            out.push(b'\n');
        }
        self.inside = !line.full;
        if let Some(left) = &mut self.left {
            let wanted = u64::try_from(out.len() - begin).unwrap_or(u64::MAX);
            let taken = wanted.min(*left);
            *left -= taken;
            out.truncate(begin + usize::try_from(taken).unwrap_or(0));
        }
    }

    /// The client has all the bytes that it asked for.
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }
}

/// One start of a container: which shim of the pod, and which start under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Start {
    /// counts the pod's shims
    pub(super) run: u32,
    /// counts the container's starts under that shim
    pub(super) attempt: u32,
}

/// The logs that a container has, oldest first. `directory` is the one with a directory per run.
pub(super) fn find_logs(directory: &Path) -> Vec<(Start, PathBuf)> {
    let mut found = Vec::new();
    for run in super::sweep::directories(directory) {
        let path = directory.join(&run);
        let Ok(run) = run.parse() else { continue };
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let attempt = name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|n| n.parse().ok());
            if let Some(attempt) = attempt {
                found.push((Start { run, attempt }, entry.path()));
            }
        }
    }
    found.sort();
    found
}

/// How many shims a pod had before, by the logs that they left. `directory` is the one with a directory per container.
pub(super) fn count_runs(directory: &Path) -> u32 {
    let containers = super::sweep::directories(directory).into_iter().map(|name| directory.join(name));
    let runs = containers.flat_map(|container| super::sweep::directories(&container));
    runs.filter_map(|run| run.parse::<u32>().ok()).max().map_or(0, |run| run.saturating_add(1))
}

/// A log file that is read from a place on, whole lines at a time.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    unfinished: Vec<u8>,
    filter: Filter,
}

impl Reader {
    /// Opens the log at the first line that is wanted.
    pub(super) fn open(path: &Path, options: &LogOptions) -> io::Result<Self> {
        let mut file = File::open(path)?;
        if let Some(lines) = options.tail_lines {
            let start = find_tail(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self { file, unfinished: Vec::new(), filter: Filter::new(options) })
    }

    /// What the next block of the file gives the client, perhaps nothing; `None` at its present end.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut block = vec![0; BLOCK];
        let read = self.file.read(&mut block)?;
        if read == 0 {
            return Ok(None);
        }
        block.truncate(read);
        let mut out = Vec::new();
        for piece in block.split_inclusive(|byte| *byte == b'\n') {
            self.unfinished.extend_from_slice(piece);
            if self.unfinished.last() == Some(&b'\n') {
                self.unfinished.pop();
                self.filter.push(&self.unfinished, &mut out);
                self.unfinished.clear();
            }
        }
        Ok(Some(out.into()))
    }

    /// Nothing more is wanted.
    pub(super) fn is_done(&self) -> bool {
        self.filter.is_done()
    }
}

/// Where the last `lines` lines begin; parts of a line count with its end.
fn find_tail(file: &mut File, lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let (mut position, mut seen, mut later) = (end, 0_u64, Vec::new());
    while position > 0 {
        let length = position.min(BLOCK as u64);
        position -= length;
        let mut block = vec![0; usize::try_from(length).unwrap_or(BLOCK)];
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut block)?;
        block.append(&mut later);
        let whole_from =
            if position == 0 { 0 } else { block.iter().position(|b| *b == b'\n').map_or(block.len(), |at| at + 1) };
        let mut starts = Vec::new();
        let mut at = whole_from;
        for piece in block[whole_from..].split_inclusive(|byte| *byte == b'\n') {
            starts.push((at, parse_line(piece.strip_suffix(b"\n").unwrap_or(piece)).is_none_or(|line| line.full)));
            at += piece.len();
        }
        for (at, full) in starts.into_iter().rev() {
            if full {
                seen += 1;
            }
            if seen > lines {
                // The line after this one is the first that is wanted.
                let rest = &block[at..];
                let next = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |newline| newline + 1);
                return Ok(position + (at + next) as u64);
            }
        }
        later = block[..whole_from].to_vec();
        // What begins before this block is looked at with the block before it.
        if position > 0 && whole_from == block.len() && later.len() > (4 << 20) {
            return Err(io::Error::other("a line of the log is longer than 4 MiB"));
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use minipod_api::streams::{LogOptions, LogSource};

    use super::{Line, Reader, Start, count_runs, find_logs, parse_line};

    const AT: &str = "2026-01-02T03:04:05.000000006Z";

    fn read(content: &str, options: &LogOptions) -> String {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(content.as_bytes()).expect("written");
        let mut reader = Reader::open(file.path(), options).expect("opened");
        let mut all = Vec::new();
        while let Some(bytes) = reader.next().expect("read") {
            all.extend_from_slice(&bytes);
            if reader.is_done() {
                break;
            }
        }
        String::from_utf8(all).expect("text")
    }

    fn log(lines: &[&str]) -> String {
        lines.iter().flat_map(|line| [AT, " stdout F ", line, "\n"]).collect()
    }

    #[test]
    fn a_line_is_time_stream_tag_and_text() {
        let line = parse_line(b"2026-01-02T03:04:05.000000006Z stderr F a  b ").expect("a line");
        assert_eq!(line, Line { time: AT, source: LogSource::Stderr, full: true, text: b"a  b " });
        assert_eq!(parse_line(format!("{AT} stdout P").as_bytes()).map(|l| (l.full, l.text)), Some((false, &b""[..])));
        for bad in ["", "x", "x stdout", "x stdin F y", "x stdout Q y"] {
            assert_eq!(parse_line(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn parts_are_joined_and_bad_lines_left_out() {
        let content = format!("{AT} stdout P hel\n{AT} stdout F lo\nnonsense\n{AT} stderr F world\n");
        assert_eq!(read(&content, &LogOptions::default()), "hello\nworld\n");
        let stamped = LogOptions { timestamps: true, ..LogOptions::default() };
        assert_eq!(read(&content, &stamped), format!("{AT} hello\n{AT} world\n"));
    }

    #[test]
    fn one_of_the_outputs_is_read_alone() {
        let content = format!("{AT} stdout P a\n{AT} stderr F x\n{AT} stdout F b\n{AT} stderr P y\n");
        let of = |source| LogOptions { stream: Some(source), ..LogOptions::default() };
        assert_eq!(read(&content, &of(LogSource::Stdout)), "ab\n");
        assert_eq!(read(&content, &of(LogSource::Stderr)), "x\ny");
    }

    #[test]
    fn the_tail_is_counted_in_lines_of_the_container() {
        let tail = |lines| LogOptions { tail_lines: Some(lines), ..LogOptions::default() };
        assert_eq!(read(&log(&["a", "b", "c"]), &tail(2)), "b\nc\n");
        assert_eq!(read(&log(&["a", "b"]), &tail(5)), "a\nb\n");
        assert_eq!(read(&log(&["a", "b"]), &tail(0)), "");
        assert_eq!(read("", &tail(3)), "");
        let parts = format!("{}{AT} stdout P b\n{AT} stdout F c\n{}", log(&["a"]), log(&["d"]));
        assert_eq!(read(&parts, &tail(2)), "bc\nd\n");
        let long = "x".repeat(50_000);
        let many = log(&[long.as_str(), "a", long.as_str(), "b"]);
        assert_eq!(read(&many, &tail(2)), format!("{long}\nb\n"));
        assert_eq!(read(&many, &tail(3)), format!("a\n{long}\nb\n"));
        assert_eq!(read(&many, &tail(9)).len(), 100_000 + 6);
    }

    #[test]
    fn since_and_limit_cut() {
        let content = format!("2026-01-01T00:00:00Z stdout F old\n{}", log(&["new"]));
        let since =
            LogOptions { since: Some("2026-01-02T00:00:00Z".parse().expect("a time")), ..LogOptions::default() };
        assert_eq!(read(&content, &since), "new\n");
        let limit = LogOptions { limit_bytes: Some(6), ..LogOptions::default() };
        assert_eq!(read(&content, &limit), "old\nne");
    }

    #[test]
    fn logs_are_found_in_the_order_of_the_starts() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["0/9.log", "0/10.log", "1/0.log", "1/x", "y/0.log"] {
            let path = directory.path().join("web").join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "").expect("written");
        }
        let starts: Vec<Start> = find_logs(&directory.path().join("web")).into_iter().map(|(start, _)| start).collect();
        let start = |run, attempt| Start { run, attempt };
        assert_eq!(starts, [start(0, 9), start(0, 10), start(1, 0)]);
        assert_eq!(count_runs(directory.path()), 2);
        assert_eq!(count_runs(&directory.path().join("none")), 0);
    }
}
