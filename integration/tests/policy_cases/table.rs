//! The tables in which a case says what passes: rows dial, columns are dialled.

use std::collections::{BTreeMap, BTreeSet};

use integration::packets::target::{PORTS, Protocol};

/// Protocol, port and family, by the address of the service or of the pod; the port is 0 where the protocol has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) is_v6: bool,
    pub(crate) by_service: bool,
}

impl Way {
    /// Every way of this protocol.
    pub(crate) fn of(protocol: Protocol) -> Vec<Self> {
        let ports: &[u16] = if protocol.has_ports() { &PORTS } else { &[0] };
        // Services of pods have ports of TCP and UDP alone.
        let services: &[bool] =
            if matches!(protocol, Protocol::Tcp | Protocol::Udp) { &[false, true] } else { &[false] };
        let mut ways = Vec::new();
        for port in ports {
            for is_v6 in [false, true] {
                ways.extend(services.iter().map(|by_service| Self {
                    protocol,
                    port: *port,
                    is_v6,
                    by_service: *by_service,
                }));
            }
        }
        ways
    }
}

/// By the pod's own address, in a corner.
const DIRECTLY: &str = "directly";
/// By the address of its service.
const BY_SERVICE: &str = "by-service";

/// What passes, by source, destination and way; what is not asked is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) passes: BTreeMap<(String, String, Way), bool>,
}

/// As a step writes it.
pub(crate) enum Expectation<'a> {
    Everything,
    AsBefore,
    Tables(&'a str),
}

impl<'a> Expectation<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        match text.trim() {
            "everything" => Self::Everything,
            "as before" => Self::AsBefore,
            _ => Self::Tables(text),
        }
    }
}

impl Table {
    /// Everything passes over TCP.
    pub(crate) fn everything(actors: &BTreeSet<String>) -> Self {
        let pairs = || actors.iter().flat_map(|from| actors.iter().map(move |to| (from, to)));
        let ways = Way::of(Protocol::Tcp);
        let passes = pairs().flat_map(|(from, to)| ways.iter().map(|way| ((from.clone(), to.clone(), *way), true)));
        Self { passes: passes.collect() }
    }

    /// Reads tables of all these actors, a blank line between two. Cells of pairs without a pod of this node may be `?`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn read(text: &str, actors: &BTreeSet<String>, local: &BTreeSet<String>) -> Result<Self, String> {
        let mut table = Self::default();
        let mut said = BTreeSet::new();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for lines in lines.split(|line| line.is_empty()).filter(|lines| !lines.is_empty()) {
            let ways = table.read_one(lines, actors, local)?;
            if let Some(way) = ways.iter().find(|way| !said.insert(**way)) {
                return Err(format!("{} is in two tables", told(*way)));
            }
        }
        let mut protocols: BTreeSet<Protocol> = said.iter().map(|way| way.protocol).collect();
        protocols.insert(Protocol::Tcp);
        let wanted = protocols.into_iter().flat_map(Way::of);
        if let Some(way) = wanted.into_iter().find(|way| !said.contains(way)) {
            return Err(format!("no table is about {}", told(way)));
        }
        table.check_unknown()?;
        Ok(table)
    }

    /// Without ports there is one connection between two addresses, whoever began it: its packets pass in both directions (ruling 3).
    fn check_unknown(&self) -> Result<(), String> {
        let unknown = self.passes.iter().filter(|((_, _, way), _)| way.protocol == Protocol::Unknown);
        for ((from, to, way), passes) in unknown {
            let back = self.passes.get(&(to.clone(), from.clone(), *way));
            if back.is_some_and(|back| back != passes) {
                return Err(format!("{from} -> {to}, {}: must be as {to} -> {from} is", told(*way)));
            }
        }
        Ok(())
    }

    fn read_one(
        &mut self,
        lines: &[&str],
        actors: &BTreeSet<String>,
        local: &BTreeSet<String>,
    ) -> Result<Vec<Way>, String> {
        let head: Vec<&str> = lines[0].split_whitespace().collect();
        let corner = head.iter().position(|word| actors.contains(*word)).unwrap_or(head.len());
        let ways = ways(&head[..corner])?;
        let columns = &head[corner..];
        complete("column", columns, actors)?;
        let rows: Vec<Vec<&str>> = lines[1..].iter().map(|line| line.split_whitespace().collect()).collect();
        let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
        complete("row", &names, actors)?;
        for row in &rows {
            let from = row[0];
            if row.len() - 1 != columns.len() {
                return Err(format!("row `{from}` has {} cells for {} columns", row.len() - 1, columns.len()));
            }
            for (cell, to) in row[1..].iter().zip(columns) {
                if *cell == "?" {
                    if local.contains(from) || local.contains(*to) {
                        return Err(format!("{from} -> {to}: what a pod of this node does must be said"));
                    }
                    continue;
                }
                for way in &ways {
                    let passes = passes(cell, *way)
                        .ok_or_else(|| format!("{from} -> {to}: `{cell}`: write yes, -, 80, 81, IPv4, IPv6 or ?"))?;
                    self.passes.insert((from.to_owned(), (*to).to_owned(), *way), passes);
                }
            }
        }
        Ok(ways)
    }
}

/// The ways that the words in a table's corner stand for.
fn ways(words: &[&str]) -> Result<Vec<Way>, String> {
    let (kinds, words): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| matches!(**word, "IPv4" | "IPv6" | DIRECTLY | BY_SERVICE));
    let mut ways = Vec::new();
    for word in words {
        let (port, protocol) = word.split_once('/').map_or((None, word), |(port, protocol)| (Some(port), protocol));
        let protocols: Vec<Protocol> = match protocol {
            "TCP" => vec![Protocol::Tcp],
            "UDP" => vec![Protocol::Udp],
            "SCTP" => vec![Protocol::Sctp],
            "ICMP" => vec![Protocol::Icmp],
            "unknown" => vec![Protocol::Unknown],
            "all" => [&Protocol::ALL[..], &[Protocol::Icmp]].concat(),
            _ => {
                return Err(format!(
                    "`{word}` in a corner is neither a protocol (TCP, UDP, SCTP, ICMP, unknown, or all for the first four), nor PORT/PROTOCOL, IPv4, IPv6, directly or by-service; \
                     or it is a column of somebody who is not there"
                ));
            }
        };
        let of = protocols.into_iter().flat_map(Way::of);
        let of: Vec<Way> = of.filter(|way| port.is_none_or(|port| port == way.port.to_string())).collect();
        if of.is_empty() {
            return Err(format!("`{word}`: the pods serve on 80 and 81"));
        }
        ways.extend(of);
    }
    if ways.is_empty() {
        return Err("the corner of a table names no protocol".to_owned());
    }
    for (is, pair) in [(family as fn(Way) -> &'static str, ["IPv4", "IPv6"]), (addressed, [DIRECTLY, BY_SERVICE])] {
        let chosen: Vec<&str> = kinds.iter().copied().filter(|kind| pair.contains(kind)).collect();
        ways.retain(|way| chosen.is_empty() || chosen.contains(&is(*way)));
    }
    Ok(ways)
}

/// Whether it passes, as the cell says.
fn passes(cell: &str, way: Way) -> Option<bool> {
    match cell {
        "yes" => Some(true),
        "-" => Some(false),
        "80" => Some(way.port == 80),
        "81" => Some(way.port == 81),
        "IPv4" | "IPv6" => Some(cell == family(way)),
        _ => None,
    }
}

fn complete(what: &str, names: &[&str], actors: &BTreeSet<String>) -> Result<(), String> {
    if let Some(missing) = actors.iter().find(|actor| !names.contains(&actor.as_str())) {
        return Err(format!("{what} `{missing}` is missing"));
    }
    match names.iter().find(|name| !actors.contains(**name)) {
        Some(unknown) => Err(format!("{what} `{unknown}`: it is not there")),
        None if names.len() > actors.len() => Err(format!("a {what} is given twice")),
        None => Ok(()),
    }
}

fn family(way: Way) -> &'static str {
    if way.is_v6 { "IPv6" } else { "IPv4" }
}

fn addressed(way: Way) -> &'static str {
    if way.by_service { BY_SERVICE } else { DIRECTLY }
}

/// A way in words.
pub(crate) fn told(way: Way) -> String {
    let protocol = way.protocol.as_str();
    let port = if way.protocol.has_ports() { format!("{}/{protocol}", way.port) } else { protocol.to_owned() };
    let service = if way.by_service { ", by the service" } else { "" };
    format!("{port} over {}{service}", family(way))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Table, String> {
        let actors = ["x/a", "x/b", "outside", "node"].map(str::to_owned).into();
        Table::read(text, &actors, &["x/a", "x/b"].map(str::to_owned).into())
    }

    #[test]
    fn cells_say_which_ports_and_families_pass() {
        let table = read(
            "TCP  x/a  x/b  node  outside\nx/a yes - 80 IPv6\nx/b yes yes yes yes\nnode - - ? ?\noutside - 81 ? ?\n",
        )
        .expect("a table");
        let passes = |from: &str, to: &str, port, is_v6| {
            let way = Way { protocol: Protocol::Tcp, port, is_v6, by_service: false };
            table.passes.get(&(from.to_owned(), to.to_owned(), way)).copied()
        };
        assert_eq!(passes("x/a", "node", 80, false), Some(true));
        assert_eq!(passes("x/a", "node", 81, false), Some(false));
        assert_eq!(passes("x/a", "outside", 81, true), Some(true));
        assert_eq!(passes("x/a", "outside", 81, false), Some(false));
        assert_eq!(passes("node", "outside", 80, false), None);
        assert_eq!(table.passes.len(), 12 * 8);
    }

    #[test]
    fn a_table_that_leaves_something_open_is_refused() {
        for (text, expected) in [
            ("TCP x/a x/b node\nx/a yes yes yes\n", "column `outside` is missing"),
            ("TCP x/a x/b node outside\nx/a yes yes yes yes\n", "row `node` is missing"),
            ("TCP x/a x/b node outside z/z\nx/a yes yes yes yes\n", "column `z/z`: it is not there"),
            ("UDF x/a x/b node outside\n", "`UDF` in a corner is neither a protocol (TCP"),
            ("99/TCP x/a x/b node outside\n", "`99/TCP`: the pods serve on 80 and 81"),
            (
                "80/TCP x/a x/b node outside\nx/a yes yes yes yes\nx/b yes yes yes yes\nnode - - - -\noutside - - - -\n",
                "no table is about 81/TCP over IPv4",
            ),
            (
                "TCP x/a x/b node outside\nx/a yes yes yes\nx/b yes yes yes yes\nnode - - - -\noutside - - - -\n",
                "row `x/a` has 3 cells for 4 columns",
            ),
            (
                "TCP x/a x/b node outside\nx/a yes yes ? yes\nx/b yes yes yes yes\nnode - - - -\noutside - - - -\n",
                "x/a -> node: what a pod of this node does must be said",
            ),
            (
                "TCP x/a x/b node outside\nx/a yes yes no yes\nx/b yes yes yes yes\nnode - - - -\noutside - - - -\n",
                "x/a -> node: `no`: write yes",
            ),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.starts_with(expected), "{error}");
        }
        let uneven = "TCP unknown x/a x/b node outside\nx/a yes - yes yes\nx/b yes yes yes yes\nnode yes yes ? ?\noutside yes yes ? ?\n";
        let error = read(uneven).expect_err("uneven");
        assert_eq!(error, "x/a -> x/b, unknown over IPv4: must be as x/b -> x/a is");
    }
}
