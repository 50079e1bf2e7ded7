//! `tcp`: a line-wise echo server and a client for it, to see who reaches whom and under which address.
//!
//! The server greets every connection with `HOSTNAME PEER-ADDRESS`, then sends back what comes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::{Arguments, Known, parse};
use crate::ending::{self, Ending};
use crate::hello_app::listen;
use crate::resolve;
use crate::small;
use crate::wget::reason;

const USAGE: &str =
    "usage: tcp listen PORT | tcp connect [-T SECONDS] HOST PORT [TEXT] | tcp hold [-T SECONDS] [-i SECONDS] HOST PORT";
const KNOWN: &[Known] = &[
    Known { short: 'T', long: "timeout", takes_value: true },
    Known { short: 'i', long: "interval", takes_value: true },
];
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_INTERVAL: Duration = Duration::from_millis(200);

/// No answer in time.
const TIMED_OUT: u8 = 3;

pub(crate) fn run(arguments: &[String]) -> Result<u8, Ending> {
    let arguments = parse("tcp", KNOWN, arguments)?;
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["listen", port] => serve(parse_port("tcp", port)?),
        ["connect", host, port] => talk(&connect(&arguments, host, port)?, None),
        ["connect", host, port, text] => talk(&connect(&arguments, host, port)?, Some(text)),
        ["hold", host, port] => {
            let interval = arguments.seconds("tcp", 'i')?.unwrap_or(DEFAULT_INTERVAL);
            hold(&connect(&arguments, host, port)?, interval)
        }
        _ => Err(Ending::usage(USAGE)),
    }
}

pub(crate) fn parse_port(program: &str, text: &str) -> Result<u16, Ending> {
    text.parse().map_err(|_| Ending::usage(format!("{program}: `{text}` is no port")))
}

fn serve(port: u16) -> Result<u8, Ending> {
    ending::end_when_told()?;
    let listener = listen(port)?;
    ending::print(format!("listening on port {port}\n"))?;
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                thread::spawn(move || echo(&stream));
            }
            Err(_) => thread::yield_now(),
        }
    }
    Ok(0)
}

fn echo(stream: &TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let greeting = format!("{} {}\n", small::own_hostname(), canonical(peer.ip()));
    ending::print(format!("connection from {}\n", canonical(peer.ip())))
        .map_err(|end| io::Error::other(end.message))?;
    (&mut &*stream).write_all(greeting.as_bytes())?;
    io::copy(&mut &*stream, &mut &*stream).map(|_| ())
}

/// An IPv4 address also where the socket is for both families.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn connect(arguments: &Arguments, host: &str, port: &str) -> Result<TcpStream, Ending> {
    let port = parse_port("tcp", port)?;
    let timeout = arguments.seconds("tcp", 'T')?.unwrap_or(DEFAULT_TIMEOUT);
    let end = Instant::now() + timeout;
    let addresses = resolve::addresses(host, Some(end))
        .map_err(|failure| Ending::failure(format!("tcp: can't resolve '{host}': {failure}")))?;
    let mut last = timed_out(host);
    for address in addresses {
        let to = SocketAddr::new(address, port);
        match resolve::left(end).and_then(|left| TcpStream::connect_timeout(&to, left)) {
            Ok(stream) => {
                let set = stream.set_read_timeout(Some(timeout)).and_then(|()| stream.set_write_timeout(Some(timeout)));
                set.map_err(|error| Ending::failure(format!("tcp: {error}")))?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => last = timed_out(host),
            Err(error) => last = Ending::failure(format!("tcp: can't connect to {to}: {}", reason(&error))),
        }
    }
    Err(last)
}

fn timed_out(host: &str) -> Ending {
    Ending { code: TIMED_OUT, message: format!("tcp: {host}: timed out") }
}

fn broken(error: &io::Error) -> Ending {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Ending { code: TIMED_OUT, message: "tcp: no answer in time".to_owned() }
        }
        _ => Ending::failure(format!("tcp: {}", reason(error))),
    }
}

/// Sends the text, if there is one, and prints everything that comes until the other side has nothing more.
fn talk(stream: &TcpStream, text: Option<&str>) -> Result<u8, Ending> {
    let fail = |error: io::Error| broken(&error);
    if let Some(text) = text {
        (&mut &*stream).write_all(format!("{text}\n").as_bytes()).map_err(fail)?;
    }
    stream.shutdown(std::net::Shutdown::Write).map_err(fail)?;
    let mut buffer = [0; 4096];
    loop {
        match (&mut &*stream).read(&mut buffer).map_err(fail)? {
            0 => return Ok(0),
            read => ending::print(buffer.get(..read).unwrap_or_default())?,
        }
    }
}

/// Keeps the connection busy: a numbered line every interval, each must come back in time. Ends when one does not.
fn hold(stream: &TcpStream, interval: Duration) -> Result<u8, Ending> {
    ending::end_when_told()?;
    let fail = |error: io::Error| broken(&error);
    let mut lines = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        match lines.read_line(&mut line).map_err(fail)? {
            0 => Err(Ending::failure("tcp: the other side closed the connection")),
            _ => Ok(line),
        }
    };
    ending::print(next()?)?;
    for number in 0_u64.. {
        (&mut &*stream).write_all(format!("{number}\n").as_bytes()).map_err(fail)?;
        let line = next()?;
        if line.trim_end() != number.to_string() {
            return Err(Ending::failure(format!("tcp: `{}` came back for `{number}`", line.trim_end())));
        }
        ending::print(line)?;
        thread::park_timeout(interval);
    }
    Ok(0)
}
