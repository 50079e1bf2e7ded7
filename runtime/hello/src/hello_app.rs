//! `hello-app`: answers every HTTP request as the lesson's `hello-app:1.0` does.

use std::env;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::ending::{self, Ending};
use crate::small;

const DEFAULT_PORT: u16 = 8080;
/// A client that says nothing for so long is left.
const IDLE: Duration = Duration::from_secs(60);
const MAX_LINE: u64 = 16 << 10;
const MAX_BODY: u64 = 16 << 20;

pub(crate) fn run(arguments: &[String]) -> Result<u8, Ending> {
    if let Some(word) = arguments.first() {
        return Err(Ending::usage(format!("hello-app: unexpected argument `{word}`; the port comes from $PORT")));
    }
    let port = match env::var("PORT") {
        Ok(text) if !text.is_empty() => {
            text.parse().map_err(|_| Ending::usage(format!("hello-app: $PORT `{text}` is no port")))?
        }
        _ => DEFAULT_PORT,
    };
    ending::end_when_told()?;
    let listener = listen(port)?;
    ending::print(format!("Server listening on port {port}\n"))?;
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                thread::spawn(move || serve(stream));
            }
            // The client is gone, or there are too many; the next one may do.
            Err(_) => thread::yield_now(),
        }
    }
    Ok(0)
}

/// Listens on both families, on IPv4 alone where there is no IPv6.
pub(crate) fn listen(port: u16) -> Result<TcpListener, Ending> {
    let both = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
    TcpListener::bind(both.as_slice())
        .map_err(|error| Ending::failure(format!("cannot listen on port {port}: {error}")))
}

/// What the page says.
pub(crate) fn page(hostname: &str) -> String {
    format!("Hello, world!\nVersion: 1.0.0\nHostname: {hostname}\n")
}

fn serve(stream: TcpStream) {
    let peer = stream.peer_addr();
    let served = stream.set_read_timeout(Some(IDLE)).and_then(|()| converse(stream));
    // A client may end whenever it likes; only what it did to us is worth a line.
    if let (Err(error), Ok(peer)) = (served, peer)
        && !matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        )
    {
        let _written = writeln!(io::stderr(), "{peer}: {error}");
    }
}

fn converse(stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let body = page(&small::own_hostname());
        let response = format!(
            "HTTP/1.{} 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n",
            u8::from(request.is_1_1),
            body.len(),
            if request.keep { "keep-alive" } else { "close" },
        );
        let stream = reader.get_mut();
        stream.write_all(response.as_bytes())?;
        if request.method != "HEAD" {
            stream.write_all(body.as_bytes())?;
        }
        // The log line that the original writes.
        let _printed = ending::print(format!("Serving request: {}\n", request.path));
        if !request.keep {
            break;
        }
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    is_1_1: bool,
    keep: bool,
}

/// Reads a request and its body; none at the end of the stream.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some(line) = read_line(reader)? else {
        return Ok(None);
    };
    let mut parts = line.split_whitespace();
    let (Some(method), Some(path), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP request"));
    };
    let is_1_1 = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no HTTP/1 request")),
    };
    let mut request = Request { method: method.to_owned(), path: path.to_owned(), is_1_1, keep: is_1_1 };
    let mut length = 0;
    while let Some(line) = read_line(reader)?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.trim();
        if name.eq_ignore_ascii_case("connection") {
            request.keep = value.eq_ignore_ascii_case("keep-alive") || is_1_1 && !value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "bad Content-Length"))?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            // The body's end is not looked for: answer, then close.
            request.keep = false;
        }
    }
    if length > MAX_BODY {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the body is too long"));
    }
    io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
    Ok(Some(request))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long or cut off"));
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{page, read_request};

    #[test]
    fn the_page_is_that_of_the_lessons_image() {
        assert_eq!(page("hello-web"), "Hello, world!\nVersion: 1.0.0\nHostname: hello-web\n");
    }

    #[test]
    fn requests_are_read_one_after_the_other() {
        let mut stream =
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPOST /a HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
                .as_slice();
        let first = read_request(&mut stream).expect("first").expect("there");
        assert_eq!((first.method.as_str(), first.path.as_str(), first.keep), ("GET", "/", true));
        let second = read_request(&mut stream).expect("second").expect("there");
        assert_eq!((second.method.as_str(), second.path.as_str(), second.keep), ("POST", "/a", false));
        assert!(read_request(&mut stream).expect("end").is_none());
        assert!(read_request(&mut b"\x16\x03\x01\n".as_slice()).is_err());
    }
}
