//! The client's half of HTTP/1.1: an address to a request, bytes to a response.

use std::io::{self, BufRead, Read as _};

const MAX_LINE: u64 = 64 << 10;
const MAX_HEADERS: usize = 200;

/// A web address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// path and query, with the leading slash
    pub(crate) path: String,
    /// host and port as written, for messages and the `Host` header
    pub(crate) authority: String,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// the status line's words, e.g. `404 Not Found`
    pub(crate) reason: String,
    pub(crate) location: Option<String>,
    length: Option<u64>,
    chunked: bool,
}

impl Url {
    /// `http://HOST[:PORT][/PATH]`; the scheme may be left out.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => return Err(format!("not an http or ftp url: {scheme}")),
            None => text,
        };
        let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        let path = path.split('#').next().unwrap_or("");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let bad = || format!("bad address '{authority}'");
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(bad)?)),
            None => authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(80), |port| port.parse::<u16>().map_err(|_| bad()))?;
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port, path, authority: authority.to_owned() })
    }

    /// Where a redirection leads.
    pub(crate) fn join(&self, location: &str) -> Result<Self, String> {
        if location.contains("://") {
            Self::parse(location)
        } else if location.starts_with('/') {
            Self::parse(&format!("http://{}{location}", self.authority))
        } else {
            let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
            Self::parse(&format!("http://{}{directory}/{location}", self.authority))
        }
    }

    /// The request for it.
    pub(crate) fn request(&self) -> String {
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Wget\r\nConnection: close\r\n\r\n",
            self.path, self.authority
        )
    }
}

/// Reads the head of a response.
pub(crate) fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    loop {
        let line = read_line(reader)?;
        let (version, reason) = line.split_once(' ').ok_or_else(|| invalid("bad response"))?;
        if !version.starts_with("HTTP/1.") {
            return Err(invalid("bad response"));
        }
        let status = reason.get(..3).and_then(|code| code.parse().ok()).ok_or_else(|| invalid("bad response"))?;
        let mut head = Head { status, reason: reason.to_owned(), location: None, length: None, chunked: false };
        for count in 0.. {
            let line = read_line(reader)?;
            if line.is_empty() {
                break;
            }
            if count >= MAX_HEADERS {
                return Err(invalid("too many headers"));
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match name.to_ascii_lowercase().as_str() {
                "location" => head.location = Some(value.trim().to_owned()),
                "content-length" => head.length = Some(value.trim().parse().map_err(|_| invalid("bad length"))?),
                "transfer-encoding" => head.chunked = value.to_ascii_lowercase().contains("chunked"),
                _ => {}
            }
        }
        // "Continue" and its like announce another head.
        if status >= 200 {
            return Ok(head);
        }
    }
}

/// Copies the body to `out`. A body that ends early is an error.
pub(crate) fn copy_body(head: &Head, reader: &mut impl BufRead, out: &mut impl io::Write) -> io::Result<()> {
    if head.chunked {
        return copy_chunks(reader, out);
    }
    match head.length {
        Some(length) => copy_exactly(reader, length, out),
        None => io::copy(reader, out).map(|_| ()),
    }
}

fn copy_chunks(reader: &mut impl BufRead, out: &mut impl io::Write) -> io::Result<()> {
    loop {
        let line = read_line(reader)?;
        let size = line.split(';').next().unwrap_or("").trim();
        let size =
            u64::from_str_radix(size, 16).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "bad chunk"))?;
        if size == 0 {
            return Ok(());
        }
        copy_exactly(reader, size, out)?;
        read_line(reader)?;
    }
}

fn copy_exactly(reader: &mut impl BufRead, length: u64, out: &mut impl io::Write) -> io::Result<()> {
    if io::copy(&mut reader.by_ref().take(length), out)? == length {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Url, copy_body, read_head};

    fn check(text: &str, host: &str, port: u16, path: &str) {
        let url = Url::parse(text).expect(text);
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path), "{text}");
    }

    #[test]
    fn addresses_have_hosts_ports_and_paths() {
        check("http://hello-web:8080", "hello-web", 8080, "/");
        check("hello-web/a?b#c", "hello-web", 80, "/a?b");
        check("http://[fd00::1]:81/x", "fd00::1", 81, "/x");
        check("http://h?q", "h", 80, "/?q");
        for bad in ["https://x", "http://", "http://x:99999", "http://a b/"] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn redirections_lead_from_where_they_are() {
        let url = Url::parse("http://h:1/a/b").expect("url");
        assert_eq!(url.join("/c").expect("path").path, "/c");
        assert_eq!(url.join("c").expect("relative").path, "/a/c");
        assert_eq!(url.join("http://i/").expect("complete").host, "i");
    }

    fn body(response: &str) -> std::io::Result<(u16, String)> {
        let mut reader = response.as_bytes();
        let head = read_head(&mut reader)?;
        let mut out = Vec::new();
        copy_body(&head, &mut reader, &mut out)?;
        Ok((head.status, String::from_utf8_lossy(&out).into_owned()))
    }

    #[test]
    fn bodies_end_by_length_by_chunks_or_with_the_connection() {
        let ok = |text: &str| Some((200, text.to_owned()));
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc").ok(), ok("ab"));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\n\r\n";
        assert_eq!(body(chunked).ok(), ok("abc"));
        assert_eq!(body("HTTP/1.0 200 OK\r\n\r\nabc").ok(), ok("abc"));
        assert_eq!(body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx").ok(), ok("x"));
        assert!(body("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc").is_err());
        assert!(body("hello").is_err());
    }
}
