//! Names to addresses: `/etc/hosts`, then the servers of `/etc/resolv.conf` with its search list, as a C library does it.
//!
//! A static program cannot use the C library's resolver, which loads parts of itself at run time.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::dns::{self, Answer, RecordType};

/// Settings of `/etc/resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: usize,
}

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// the servers say that there is no such name
    NoSuchName,
    /// the name is there and has no address of the wanted types
    NoAddress,
    /// no server answered in time
    NoAnswer,
    /// a server answered with this error code
    Server(u8),
    /// the name cannot be asked for
    BadName,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("NXDOMAIN"),
            Self::NoAddress => f.write_str("no address"),
            Self::NoAnswer => f.write_str("no server answers"),
            Self::Server(2) => f.write_str("SERVFAIL"),
            Self::Server(5) => f.write_str("REFUSED"),
            Self::Server(code) => write!(f, "error {code}"),
            Self::BadName => f.write_str("bad name"),
        }
    }
}

impl Settings {
    /// Those of this pod.
    pub(crate) fn read() -> Self {
        parse(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }
}

fn parse(text: &str) -> Settings {
    let mut settings =
        Settings { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(5), attempts: 2 };
    for line in text.lines() {
        let mut words = line.split(['#', ';']).next().unwrap_or("").split_whitespace();
        match words.next() {
            Some("nameserver") => settings.servers.extend(words.next().and_then(server)),
            Some("search" | "domain") => settings.search = words.map(str::to_owned).collect(),
            Some("options") => words.for_each(|option| set(&mut settings, option)),
            _ => {}
        }
    }
    if settings.servers.is_empty() {
        settings.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
    }
    settings
}

fn server(text: &str) -> Option<SocketAddr> {
    text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53))
}

fn set(settings: &mut Settings, option: &str) {
    let Some((key, Ok(value))) = option.split_once(':').map(|(key, value)| (key, value.parse::<u32>())) else {
        return;
    };
    match key {
        "ndots" => settings.ndots = usize::try_from(value.min(15)).unwrap_or(1),
        "timeout" => settings.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
        "attempts" => settings.attempts = usize::try_from(value.clamp(1, 5)).unwrap_or(2),
        _ => {}
    }
}

/// The complete names to ask for, in order: a name with fewer dots than `ndots` goes through the search list first.
fn candidates(settings: &Settings, name: &str) -> Vec<String> {
    if let Some(complete) = name.strip_suffix('.') {
        return vec![complete.to_owned()];
    }
    let searched = settings.search.iter().map(|domain| format!("{name}.{}", domain.trim_end_matches('.')));
    let plain = std::iter::once(name.to_owned());
    if name.matches('.').count() >= settings.ndots {
        plain.chain(searched).collect()
    } else {
        searched.chain(plain).collect()
    }
}

/// The addresses of a name or of an address, IPv4 first; by `deadline` at the latest.
pub(crate) fn addresses(name: &str, deadline: Option<Instant>) -> Result<Vec<IpAddr>, Failure> {
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = literal.parse::<IpAddr>() {
        return Ok(vec![address]);
    }
    let hosts = from_hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default(), name);
    if !hosts.is_empty() {
        return Ok(hosts);
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    lookup(&Settings::read(), name, &[RecordType::A, RecordType::Aaaa], deadline).map(|(_, addresses)| addresses)
}

fn from_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        if let Some(Ok(address)) = words.next().map(str::parse)
            && words.any(|alias| alias.eq_ignore_ascii_case(name))
        {
            found.push(address);
        }
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

/// Asks the servers. Returns the complete name that was found and its addresses.
pub(crate) fn lookup(
    settings: &Settings,
    name: &str,
    kinds: &[RecordType],
    deadline: Option<Instant>,
) -> Result<(String, Vec<IpAddr>), Failure> {
    let mut failure = Failure::NoSuchName;
    for candidate in candidates(settings, name) {
        let mut found = Vec::new();
        for kind in kinds {
            match ask(settings, &candidate, *kind, deadline) {
                Ok(answer) if answer.code == 0 => {
                    found.extend(answer.addresses);
                    failure = Failure::NoAddress;
                }
                Ok(answer) if answer.code == 3 => break,
                Ok(answer) => return Err(Failure::Server(answer.code)),
                Err(no_answer) => return Err(no_answer),
            }
        }
        if !found.is_empty() {
            return Ok((candidate, found));
        }
    }
    Err(failure)
}

/// One question to the servers in turn, again as often as the settings say.
fn ask(settings: &Settings, name: &str, kind: RecordType, deadline: Option<Instant>) -> Result<Answer, Failure> {
    let id = u16::try_from(RandomState::new().build_hasher().finish() & 0xffff).unwrap_or(0);
    let query = dns::query(id, name, kind).ok_or(Failure::BadName)?;
    let mut failure = Failure::NoAnswer;
    for _ in 0..settings.attempts {
        for server in &settings.servers {
            let end = Instant::now() + settings.timeout;
            let end = deadline.map_or(end, |deadline| end.min(deadline));
            match exchange(*server, &query, id, kind, end) {
                // A server that cannot answer may have a neighbour that can.
                Ok(answer) if matches!(answer.code, 0 | 3) => return Ok(answer),
                Ok(answer) => failure = Failure::Server(answer.code),
                Err(_) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Err(failure),
                Err(_) => {}
            }
        }
    }
    Err(failure)
}

fn exchange(server: SocketAddr, query: &[u8], id: u16, kind: RecordType, end: Instant) -> io::Result<Answer> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = [0; 4096];
    loop {
        socket.set_read_timeout(Some(left(end)?))?;
        let length = socket.recv(&mut buffer)?;
        if let Some(answer) = dns::answer(buffer.get(..length).unwrap_or_default(), id, kind) {
            return if answer.truncated { exchange_tcp(server, query, id, kind, end) } else { Ok(answer) };
        }
    }
}

fn exchange_tcp(server: SocketAddr, query: &[u8], id: u16, kind: RecordType, end: Instant) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, left(end)?)?;
    stream.set_read_timeout(Some(left(end)?))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[length.to_be_bytes().as_slice(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    dns::answer(&message, id, kind).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What is left until then; an error when nothing is.
pub(crate) fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::{candidates, from_hosts, parse};

    const POD: &str = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\nnameserver fd00::a # v6\noptions ndots:5 timeout:1\n";

    #[test]
    fn settings_are_read_as_a_c_library_reads_them() {
        let settings = parse(POD);
        assert_eq!(settings.servers, ["10.96.0.10:53".parse().expect("v4"), "[fd00::a]:53".parse().expect("v6")]);
        assert_eq!((settings.ndots, settings.timeout, settings.attempts), (5, Duration::from_secs(1), 2));
        assert_eq!(parse("").servers, ["127.0.0.1:53".parse().expect("localhost")]);
    }

    #[test]
    fn short_names_go_through_the_search_list_first() {
        let settings = parse(POD);
        let first = |name: &str| candidates(&settings, name).first().cloned();
        assert_eq!(first("hello-web").as_deref(), Some("hello-web.default.svc.cluster.local"));
        assert_eq!(candidates(&settings, "hello-web").len(), 4);
        assert_eq!(candidates(&settings, "hello-web."), ["hello-web"]);
        assert_eq!(first("a.b.c.d.e.f").as_deref(), Some("a.b.c.d.e.f"));
    }

    #[test]
    fn hosts_have_aliases_and_comments() {
        let text = "127.0.0.1 localhost\n::1 web\n10.0.0.1 other Web # x web2\n";
        let found: Vec<IpAddr> = vec!["10.0.0.1".parse().expect("v4"), "::1".parse().expect("v6")];
        assert_eq!(from_hosts(text, "web"), found);
        assert!(from_hosts(text, "web2").is_empty());
    }
}
