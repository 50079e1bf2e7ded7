//! What is said of connections that were tried. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::super::table::Table;
use super::compare::Tried;
use super::dial::Outcome;

/// For people: what differs, and how many connections were tried.
pub(super) fn lines(tried: &[Tried]) -> String {
    let differing: Vec<&Tried> = tried.iter().filter(|tried| tried.differs()).collect();
    let not_judged = tried.iter().filter(|tried| tried.agrees.is_none()).count();
    let mut text = String::new();
    if tried.is_empty() {
        text += "nothing to try: no pod here has another pod or service with a port to connect to; `--from` and `--to` reach other namespaces\n";
    } else if differing.is_empty() {
        let _ = writeln!(text, "{} connections tried, all as the policies say", tried.len());
    } else {
        let mut table = Table::new(&["FROM", "TO", "ADDRESS", "POLICIES SAY", "CONNECTION"]);
        for tried in &differing {
            let question = &tried.question;
            let (from, address) = (question.from.to_string(), format!("{} {}", question.address, question.protocol));
            let verdict = if tried.allowed == Some(true) { "allowed" } else { "denied" };
            let verdict = format!("{verdict} ({})", tried.because);
            table.push([&from, &question.to, &address, &verdict, outcome(&tried.outcome)]);
        }
        text += &table.render();
        let _ = writeln!(text, "{} connections tried, {} not as the policies say", tried.len(), differing.len());
    }
    if not_judged > 0 {
        let _ = writeln!(
            text,
            "{not_judged} of them not judged: nobody need answer a datagram, a service may choose another endpoint, or the node refuses what \
             policies deny or no endpoint answers; `-o json` names them"
        );
    }
    text
}

/// For programs: everything that was tried.
pub(super) fn json(tried: &[Tried]) -> String {
    let one = |tried: &Tried| {
        let question = &tried.question;
        json!({
            "from": {"namespace": question.from.namespace, "name": question.from.name}, "to": question.to,
            "protocol": question.protocol, "address": question.address.to_string(), "allowed": tried.allowed,
            "because": tried.because, "connection": outcome(&tried.outcome), "agrees": tried.agrees,
        })
    };
    format!("{:#}\n", json!({"connections": tried.iter().map(one).collect::<Vec<Value>>()}))
}

fn outcome(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Answered => "answered",
        Outcome::Refused => "refused",
        Outcome::Silence => "no answer",
        Outcome::Failed(why) => why,
    }
}
