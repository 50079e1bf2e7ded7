//! The matrix for a terminal and for programs. Pure.

use std::fmt::Write as _;

use minipod_model::PodKey;
use serde_json::{Map, Value, json};

use super::super::super::table::Table;
use super::reach::{Cell, Matrix, Reach, Supposed};

/// As wide a table may become; the destinations that do not fit are in the next one.
const WIDTH: usize = 120;
/// Between two columns of a table.
const GAP: usize = 3;
/// As many ports are listed in a cell.
const PORTS: usize = 3;
/// As many ports are listed beneath.
const SUPPOSED: usize = 10;
/// Above the names of the sources.
const CORNER: &str = "FROM \\ TO";

/// Within one namespace pods go by their name alone.
pub(super) fn name(pod: &PodKey, namespace: Option<&str>) -> String {
    if namespace.is_some() { pod.name.clone() } else { pod.to_string() }
}

/// What stands in a cell.
pub(super) fn cell(cell: &Cell, most: usize) -> String {
    match cell.reach() {
        Reach::NoFamily => "!".to_owned(),
        Reach::All => "all".to_owned(),
        Reach::Nothing => "-".to_owned(),
        Reach::Some(ports) => {
            let shown: Vec<String> = ports
                .iter()
                .take(most)
                .map(|(port, family)| family.map_or_else(|| port.to_string(), |family| format!("{port} {family}")))
                .collect();
            let more = ports.len().saturating_sub(most);
            let more = if more > 0 { format!(" + {more} more") } else { String::new() };
            shown.join(", ") + &more
        }
    }
}

/// What the cells mean, as far as the matrix has such cells.
pub(super) fn legend(matrix: &Matrix) -> Vec<String> {
    let has = |is: fn(&Reach) -> bool| matrix.pairs().any(|(_, _, cell)| is(&cell.reach()));
    let kinds: [(bool, &str); 3] = [
        (has(|reach| *reach == Reach::All), "all: every port that was asked for"),
        (has(|reach| *reach == Reach::Nothing), "-: none of them"),
        (has(|reach| *reach == Reach::NoFamily), "!: no address family in common"),
    ];
    let kinds = kinds.into_iter().filter(|(is_there, _)| *is_there).map(|(_, text)| text.to_owned());
    kinds.chain(matrix.supposed.as_ref().map(supposed)).collect()
}

/// What pods were asked for that declare nothing.
fn supposed(supposed: &Supposed) -> String {
    match supposed {
        Supposed::Named(ports) => {
            let shown: Vec<String> = ports.iter().take(SUPPOSED).map(ToString::to_string).collect();
            let more = ports.len().saturating_sub(SUPPOSED);
            let more = if more > 0 { format!(" and {more} others") } else { String::new() };
            let shown = shown.join(", ");
            format!(
                "Pods that declare no port were asked for those that policies name ({shown}{more}); `--port` asks for others"
            )
        }
        Supposed::Any(port) => {
            format!(
                "Pods that declare no port were asked for {port}, since no policy names one; `--port` asks for others"
            )
        }
    }
}

/// As many tables as are needed to keep each legible, and what is said beneath.
pub(super) fn tables(matrix: &Matrix, namespace: Option<&str>) -> String {
    let names: Vec<String> = matrix.pods.iter().map(|pod| name(pod, namespace)).collect();
    let columns: Vec<Vec<String>> =
        (0..names.len()).map(|to| matrix.rows.iter().map(|row| cell(&row[to], PORTS)).collect()).collect();
    let width = |words: &[String]| words.iter().map(|word| word.chars().count()).max().unwrap_or_default();
    let first_width = width(&names).max(CORNER.len());

    let mut text = String::new();
    let mut rest = 0..names.len();
    while !rest.is_empty() {
        let mut used = first_width;
        let mut end = rest.start;
        while end < rest.end {
            used += GAP + width(&columns[end]).max(names[end].chars().count());
            // At least one, however wide it is.
            if used > WIDTH && end > rest.start {
                break;
            }
            end += 1;
        }
        let headers: Vec<&str> =
            [CORNER].into_iter().chain(names[rest.start..end].iter().map(String::as_str)).collect();
        let mut table = Table::new(&headers);
        for (from, name) in names.iter().enumerate() {
            table.push([name].into_iter().chain(columns[rest.start..end].iter().map(|column| &column[from])));
        }
        text += &table.render();
        text.push('\n');
        rest.start = end;
    }
    for line in legend(matrix) {
        let _ = writeln!(text, "{line}");
    }
    if text.contains(" more") {
        text.push_str("+ N more: `-o json` lists them\n");
    }
    for (pod, why) in &matrix.not_shown {
        let _ = writeln!(text, "Not shown: {} ({why})", name(pod, namespace));
    }
    text
}

/// For programs: nothing is shortened.
pub(super) fn json(matrix: &Matrix) -> String {
    let key = |pod: &PodKey| json!({"namespace": pod.namespace, "name": pod.name});
    let ports = |cell: &Cell| -> Vec<Value> {
        let port = |(port, families): &(super::reach::Port, Vec<(minipod_model::IpFamily, bool)>)| {
            let by_family: Map<String, Value> =
                families.iter().map(|(family, passes)| (family.to_string(), Value::from(*passes))).collect();
            json!({"port": port.number, "protocol": port.protocol, "allowed": by_family})
        };
        cell.0.iter().map(port).collect()
    };
    let pairs: Vec<Value> = matrix
        .pairs()
        .map(|(from, to, cell)| json!({"from": key(from), "to": key(to), "ports": ports(cell)}))
        .collect();
    let not_shown: Vec<Value> =
        matrix.not_shown.iter().map(|(pod, reason)| json!({"pod": key(pod), "reason": reason})).collect();
    format!("{:#}\n", json!({"pairs": pairs, "notShown": not_shown}))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1;
    use netd_policy::{Cluster, Options, object};
    use serde_json::json;

    use super::super::reach::Matrix;
    use super::super::reach::tests::{pod, shop};
    use super::tables;

    #[test]
    fn cells_say_all_nothing_or_the_ports_with_the_family_where_families_differ() {
        let expected = "\
FROM \\ TO   client   old   web
client      all      all   80/TCP, 81/TCP IPv6
old         all      all   -
web         all      all   all

all: every port that was asked for
-: none of them
Pods that declare no port were asked for those that policies name (80/TCP, 81/TCP); `--port` asks for others
Not shown: host (on the host's network: no policy applies)
Not shown: new (no address yet)
";
        assert_eq!(tables(&shop(), Some("shop")), expected);
    }

    #[test]
    fn what_does_not_fit_beside_one_another_is_in_further_tables() {
        let long = |n: u32| format!("{n}-{}", "x".repeat(40));
        let ports = json!((1..=5).map(|n| json!({"containerPort": n})).collect::<Vec<_>>());
        let pods: Vec<v1::Pod> = (1..=4).map(|n| pod(&long(n), &[&format!("10.0.0.{n}")], &ports)).collect();
        let mut cluster = Cluster::new(Options::new(String::new()));
        cluster.pods = pods.iter().map(object::Pod::read).map(|pod| (pod.key.clone(), pod)).collect();
        let policy = serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "p"}, "spec": {
            "podSelector": {}, "ingress": [{"ports": [{"port": 1, "endPort": 4}]}]}}));
        let policy = object::Policy::read(&policy.expect("a policy"));
        cluster.policies = [(policy.key.clone(), policy)].into();
        let text = tables(&Matrix::of(&cluster, pods.iter(), &[]), Some("shop"));
        assert_eq!(text.matches("FROM").count(), 4, "{text}");
        assert!(text.contains("   1/TCP, 2/TCP, 3/TCP + 1 more\n"), "{text}");
        assert!(text.ends_with("+ N more: `-o json` lists them\n"), "{text}");
        assert!(text.lines().all(|line| line.len() <= super::WIDTH), "{text}");
    }
}
