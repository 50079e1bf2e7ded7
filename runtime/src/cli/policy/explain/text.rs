//! What is said of a judgement. Pure.

use std::fmt::Write as _;

use minipod_protocol::judge::{Decision, Judgement, Kernel};
use serde_json::json;

use super::ends::Question;

/// Said last, where what is installed is not what the policies ask for.
pub(super) const ALARM: &str = "error: the rules that are installed on this node do not do what the policies say, see above; netd repairs them within seconds: \
     if this message stays, see `minipod node status` and the daemon's log";

/// Whether the kernel does otherwise than the policies say.
pub(super) fn disagrees(judgement: &Judgement) -> bool {
    matches!(judgement.kernel, Kernel::LetsPass | Kernel::Drops)
}

/// For people: a paragraph for each first packet.
pub(super) fn lines(questions: &[Question], judgements: &[Judgement], differences: &[String]) -> String {
    let mut text = String::new();
    for (question, judgement) in questions.iter().zip(judgements) {
        let packet = &question.packet;
        let what = match (&packet.protocol, packet.port) {
            (Some(protocol), Some(port)) => format!("{protocol} {port}"),
            _ => "ICMP".to_owned(),
        };
        let through = question.through.as_ref().map(|through| format!(" through {through}")).unwrap_or_default();
        let verdict = if judgement.allowed { "ALLOWED" } else { "DENIED" };
        let _ = writeln!(
            text,
            "{} -> {}, {what}{through}: {verdict}",
            end(&question.from, packet.source),
            end(&question.to, packet.destination)
        );
        let _ = writeln!(text, "  egress:  {}", decision(&judgement.egress, "leave", &question.from));
        let _ = writeln!(text, "  ingress: {}", decision(&judgement.ingress, "come in", &question.to));
        let _ = writeln!(text, "  kernel:  {}", kernel(judgement.kernel));
    }
    for difference in differences {
        let _ = writeln!(text, "! {difference}");
    }
    text
}

/// For programs.
pub(super) fn json(questions: &[Question], judgements: &[Judgement], differences: &[String]) -> String {
    let connections: Vec<_> = questions
        .iter()
        .zip(judgements)
        .map(|(question, judgement)| {
            json!({
                "from": question.from, "to": question.to, "through": question.through, "packet": question.packet,
                "allowed": judgement.allowed, "egress": judgement.egress, "ingress": judgement.ingress,
                "kernel": judgement.kernel,
            })
        })
        .collect();
    format!("{:#}\n", json!({"connections": connections, "differences": differences}))
}

fn end(name: &str, address: std::net::IpAddr) -> String {
    let address = address.to_string();
    if name == address { address } else { format!("{name} ({address})") }
}

fn decision(decision: &Decision, verb: &str, end: &str) -> String {
    match decision {
        Decision::NoPod => format!("{end} is no pod, nothing is judged at this end"),
        Decision::Itself => "a pod reaches itself".to_owned(),
        Decision::OwnNode => {
            "a node reaches its own pods, and they reach it where `--pod-to-node allow` says so".to_owned()
        }
        Decision::NotDns { .. } => {
            "denied: at the address of the cluster DNS nothing answers but UDP and TCP port 53".to_owned()
        }
        Decision::NotANode { .. } => {
            "denied: nodes speak VXLAN with one another, and no pod may speak it to a node".to_owned()
        }
        Decision::NotIsolated { .. } => format!("no policy isolates it, everything may {verb}"),
        Decision::Allowed { by, .. } => {
            let rules: Vec<String> = by.iter().map(|rule| format!("{} rule {}", rule.policy, rule.rule + 1)).collect();
            format!("allowed by {}", rules.join(", "))
        }
        Decision::Denied { by, .. } => format!("denied: isolated by {}, and no rule allows it", by.join(", ")),
        Decision::Unknown { pod } => format!("denied: the interface of {pod} has no pod object any more"),
    }
}

fn kernel(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Elsewhere => "neither end is a pod of this node, its rules say nothing",
        Kernel::Agrees => "the installed rules agree",
        Kernel::LetsPass => "DISAGREES: the installed rules let it pass",
        Kernel::Drops => "DISAGREES: the installed rules drop it",
    }
}

#[cfg(test)]
mod tests {
    use minipod_protocol::judge::{Decision, FirstPacket, Judgement, Kernel, RuleRef};

    use super::super::ends::Question;
    use super::lines;

    #[test]
    fn a_verdict_is_told_with_what_decides() {
        let ip = |text: &str| text.parse().expect("an address");
        let question = Question {
            from: "default/foo".into(),
            to: "default/hello-web".into(),
            through: Some("service default/hello-web port 8080".into()),
            packet: FirstPacket {
                source: ip("10.244.0.3"),
                destination: ip("10.244.0.2"),
                protocol: Some("TCP".into()),
                port: Some(8080),
            },
        };
        let rule = RuleRef { policy: "default/hello-allow-from-foo".into(), rule: 0 };
        let judgement = Judgement {
            allowed: true,
            egress: Decision::NotIsolated { pod: "default/foo".into() },
            ingress: Decision::Allowed { pod: "default/hello-web".into(), by: vec![rule] },
            kernel: Kernel::LetsPass,
        };
        assert_eq!(
            lines(&[question], &[judgement], &["set mp-gate4 is missing".to_owned()]),
            "default/foo (10.244.0.3) -> default/hello-web (10.244.0.2), TCP 8080 through service default/hello-web port 8080: ALLOWED\n\
            \x20 egress:  no policy isolates it, everything may leave\n\
            \x20 ingress: allowed by default/hello-allow-from-foo rule 1\n\
            \x20 kernel:  DISAGREES: the installed rules let it pass\n\
             ! set mp-gate4 is missing\n"
        );
    }
}
