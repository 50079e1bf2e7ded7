//! `wget`: gets one page over HTTP, with busybox's options and messages, since that is what the lesson shows.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::arguments::{Known, parse};
use crate::ending::Ending;
use crate::http::{Head, Url, copy_body, read_head};
use crate::resolve;

/// Busybox's limit, unless `-T` says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(900);
const MAX_REDIRECTIONS: usize = 5;

const KNOWN: &[Known] = &[
    Known { short: 'q', long: "quiet", takes_value: false },
    Known { short: 'O', long: "output-document", takes_value: true },
    Known { short: 'T', long: "timeout", takes_value: true },
    Known { short: 'S', long: "server-response", takes_value: false },
    Known { short: 'Y', long: "proxy", takes_value: true },
    Known { short: 't', long: "tries", takes_value: true },
    Known { short: 's', long: "spider", takes_value: false },
];

pub(crate) fn run(arguments: &[String]) -> Result<u8, Ending> {
    let arguments = parse("wget", KNOWN, arguments)?;
    let [text] = arguments.words.as_slice() else {
        return Err(Ending::failure("usage: wget [-q] [-S] [--spider] [-O FILE] [-T|--timeout SECONDS] URL"));
    };
    let timeout = arguments.seconds("wget", 'T')?.filter(|timeout| !timeout.is_zero()).unwrap_or(DEFAULT_TIMEOUT);
    let mut url = Url::parse(text).map_err(failure)?;
    for _ in 0..=MAX_REDIRECTIONS {
        let (head, mut reader) = get(&url, timeout)?;
        if arguments.has('S') {
            let _written = writeln!(io::stderr(), "  HTTP/1.1 {}", head.reason);
        }
        match (head.status, &head.location) {
            (301 | 302 | 303 | 307 | 308, Some(location)) => url = url.join(location).map_err(failure)?,
            (200..=299, _) if arguments.has('s') => return Ok(0),
            (200..=299, _) => return save(&head, &mut reader, arguments.get('O'), &url).map(|()| 0),
            _ => return Err(failure(format!("server returned error: HTTP/1.1 {}", head.reason))),
        }
    }
    Err(failure("too many redirections"))
}

fn get(url: &Url, timeout: Duration) -> Result<(Head, BufReader<TcpStream>), Ending> {
    let bad_address = || failure(format!("bad address '{}'", url.authority));
    let addresses = resolve::addresses(&url.host, Some(Instant::now() + timeout)).map_err(|_| bad_address())?;
    let stream = connect(&addresses, url.port, timeout)?;
    let talk = |error| transfer(&error);
    stream.set_read_timeout(Some(timeout)).map_err(talk)?;
    stream.set_write_timeout(Some(timeout)).map_err(talk)?;
    (&stream).write_all(url.request().as_bytes()).map_err(talk)?;
    let mut reader = BufReader::new(stream);
    let head = read_head(&mut reader).map_err(talk)?;
    Ok((head, reader))
}

/// Connects to the first address that takes it. The time is for all of them, so that `--timeout=2` ends after two seconds.
fn connect(addresses: &[IpAddr], port: u16, timeout: Duration) -> Result<TcpStream, Ending> {
    let end = Instant::now() + timeout;
    let mut last = failure("no address");
    for address in addresses {
        let to = SocketAddr::new(*address, port);
        match resolve::left(end).and_then(|left| TcpStream::connect_timeout(&to, left)) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(failure("download timed out")),
            Err(error) => last = failure(format!("can't connect to remote host ({address}): {}", reason(&error))),
        }
    }
    Err(last)
}

fn save(head: &Head, reader: &mut BufReader<TcpStream>, to: Option<&str>, url: &Url) -> Result<(), Ending> {
    let name = match to {
        Some(name) => name,
        None => url
            .path
            .split('?')
            .next()
            .and_then(|path| path.rsplit('/').next())
            .filter(|name| !name.is_empty())
            .unwrap_or("index.html"),
    };
    let fail = |error: io::Error| transfer(&error);
    if name == "-" {
        let mut out = io::stdout().lock();
        return copy_body(head, reader, &mut out).and_then(|()| out.flush()).map_err(fail);
    }
    let mut file = File::create(name).map_err(|error| failure(format!("can't open '{name}': {}", reason(&error))))?;
    copy_body(head, reader, &mut file).map_err(fail)
}

fn transfer(error: &io::Error) -> Ending {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => failure("download timed out"),
        io::ErrorKind::UnexpectedEof => failure("connection closed prematurely"),
        _ => failure(format!("error getting response: {}", reason(error))),
    }
}

/// The system's words without Rust's number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn failure(message: impl std::fmt::Display) -> Ending {
    Ending::failure(format!("wget: {message}"))
}
