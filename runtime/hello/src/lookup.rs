//! `dns lookup` and `nslookup`: what the pod's resolvers say.

use std::net::SocketAddr;
use std::time::Instant;

use crate::arguments::{Known, parse};
use crate::dns::RecordType;
use crate::ending::{self, Ending};
use crate::resolve::{Failure, Settings, lookup};

const KNOWN: &[Known] = &[Known { short: 'T', long: "timeout", takes_value: true }];

/// `dns lookup NAME [A|AAAA] [SERVER]`: an address a line.
pub(crate) fn dns(arguments: &[String]) -> Result<u8, Ending> {
    const USAGE: &str = "usage: dns lookup [-T|--timeout SECONDS] NAME [A|AAAA] [SERVER]";
    let arguments = parse("dns", KNOWN, arguments)?;
    let deadline = arguments.seconds("dns", 'T')?.map(|timeout| Instant::now() + timeout);
    let mut words = arguments.words.iter();
    let (Some("lookup"), Some(name)) = (words.next().map(String::as_str), words.next()) else {
        return Err(Ending::usage(USAGE));
    };
    let mut kinds = vec![RecordType::A, RecordType::Aaaa];
    let mut settings = Settings::read();
    for word in words {
        match word.as_str() {
            "A" | "a" => kinds = vec![RecordType::A],
            "AAAA" | "aaaa" => kinds = vec![RecordType::Aaaa],
            server => settings.servers = vec![parse_server("dns", server)?],
        }
    }
    let (_, addresses) = lookup(&settings, name, &kinds, deadline).map_err(|failure| failed("dns", name, &failure))?;
    for address in addresses {
        ending::print(format!("{address}\n"))?;
    }
    Ok(0)
}

/// `nslookup NAME [SERVER]`, with output like busybox's.
pub(crate) fn nslookup(arguments: &[String]) -> Result<u8, Ending> {
    let arguments = parse("nslookup", KNOWN, arguments)?;
    let deadline = arguments.seconds("nslookup", 'T')?.map(|timeout| Instant::now() + timeout);
    let mut settings = Settings::read();
    let name = match arguments.words.as_slice() {
        [name] => name,
        [name, server] => {
            settings.servers = vec![parse_server("nslookup", server)?];
            name
        }
        _ => return Err(Ending::usage("usage: nslookup NAME [SERVER]")),
    };
    let servers: Vec<String> = settings.servers.iter().map(SocketAddr::to_string).collect();
    ending::print(format!("Server:\t\t{}\n\n", servers.join(", ")))?;
    let kinds = [RecordType::A, RecordType::Aaaa];
    let (found, addresses) =
        lookup(&settings, name, &kinds, deadline).map_err(|failure| failed("nslookup", name, &failure))?;
    for address in addresses {
        ending::print(format!("Name:\t{found}\nAddress: {address}\n"))?;
    }
    Ok(0)
}

fn parse_server(program: &str, text: &str) -> Result<SocketAddr, Ending> {
    let with_port = text.parse::<SocketAddr>().ok();
    with_port.or_else(|| text.parse().ok().map(|address| SocketAddr::new(address, 53))).ok_or_else(|| {
        Ending::usage(format!("{program}: `{text}` is no server address; write ADDRESS or ADDRESS:PORT"))
    })
}

fn failed(program: &str, name: &str, failure: &Failure) -> Ending {
    let message = format!("{program}: can't resolve '{name}': {failure}");
    // No answer is another matter than a wrong name: a policy may be in the way.
    let code = if *failure == Failure::NoAnswer { 3 } else { 1 };
    Ending { code, message }
}
