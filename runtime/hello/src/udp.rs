//! `udp`: a server that answers every datagram with `HOSTNAME PEER-ADDRESS TEXT`, and a client for it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::arguments::{Known, parse};
use crate::ending::{self, Ending};
use crate::resolve;
use crate::small;
use crate::tcp::{canonical, parse_port};
use crate::wget::reason;

const USAGE: &str = "usage: udp listen PORT | udp send [-T SECONDS] HOST PORT TEXT";
const KNOWN: &[Known] = &[Known { short: 'T', long: "timeout", takes_value: true }];
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMED_OUT: u8 = 3;

pub(crate) fn run(arguments: &[String]) -> Result<u8, Ending> {
    let arguments = parse("udp", KNOWN, arguments)?;
    let timeout = arguments.seconds("udp", 'T')?.unwrap_or(DEFAULT_TIMEOUT);
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["listen", port] => serve(parse_port("udp", port)?),
        ["send", host, port, text] => send(host, parse_port("udp", port)?, text, timeout),
        _ => Err(Ending::usage(USAGE)),
    }
}

fn serve(port: u16) -> Result<u8, Ending> {
    ending::end_when_told()?;
    let both = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
    let fail = |error: io::Error| Ending::failure(format!("udp: cannot listen on port {port}: {}", reason(&error)));
    let socket = UdpSocket::bind(both.as_slice()).map_err(fail)?;
    ending::print(format!("listening on port {port}\n"))?;
    let mut buffer = vec![0; 65_535];
    loop {
        // An error belongs to an earlier answer that could not be delivered.
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let from = canonical(peer.ip());
        ending::print(format!("datagram from {from}\n"))?;
        let mut answer = format!("{} {from} ", small::own_hostname()).into_bytes();
        answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let _sent = socket.send_to(&answer, peer);
    }
}

fn send(host: &str, port: u16, text: &str, timeout: Duration) -> Result<u8, Ending> {
    let end = Instant::now() + timeout;
    let addresses = resolve::addresses(host, Some(end))
        .map_err(|failure| Ending::failure(format!("udp: can't resolve '{host}': {failure}")))?;
    let Some(address) = addresses.first() else {
        return Err(Ending::failure(format!("udp: '{host}' has no address")));
    };
    let any: SocketAddr =
        if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let exchange = || -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind(any)?;
        socket.connect((*address, port))?;
        socket.send(text.as_bytes())?;
        socket.set_read_timeout(Some(resolve::left(end)?))?;
        let mut buffer = vec![0; 65_535];
        let length = socket.recv(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    };
    match exchange() {
        Ok(mut answer) => {
            answer.push(b'\n');
            ending::print(answer)?;
            Ok(0)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(Ending { code: TIMED_OUT, message: format!("udp: {address}: no answer in time") })
        }
        Err(error) => Err(Ending::failure(format!("udp: {address}: {}", reason(&error)))),
    }
}
