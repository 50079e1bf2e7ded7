//! What the caller says in `CNI_*` variables. Everything that is wrong is told at once, with code 4. Pure.

use crate::failure::{Failure, INVALID_ENVIRONMENT};

/// A verb of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

/// The variables of one call, checked for its verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) verb: Verb,
    /// empty where the verb has none
    pub(crate) container_id: String,
    /// may be empty for DEL
    pub(crate) netns: String,
    /// empty where the verb has none
    pub(crate) ifname: String,
    pub(crate) args: Args,
}

/// `CNI_ARGS`: what Kubernetes' runtimes say of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) uid: Option<String>,
}

impl Environment {
    pub(crate) fn read(verb: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let mut problems = Vec::new();
        let verb = match verb {
            "ADD" => Verb::Add,
            "DEL" => Verb::Del,
            "CHECK" => Verb::Check,
            "STATUS" => Verb::Status,
            "GC" => Verb::Gc,
            "VERSION" => Verb::Version,
            other => return Err(Failure::new(INVALID_ENVIRONMENT, format!("unknown CNI_COMMAND `{other}`"))),
        };
        let attachment = matches!(verb, Verb::Add | Verb::Del | Verb::Check);
        let mut get = |name: &str, needed: bool, valid: fn(&str) -> bool| {
            let value = variable(name).filter(|value| !value.is_empty());
            match &value {
                None if needed => problems.push(format!("{name} is missing")),
                Some(value) if !valid(value) => problems.push(format!("{name} `{value}` is invalid")),
                _ => {}
            }
            value.unwrap_or_default()
        };
        let container_id = get("CNI_CONTAINERID", attachment, is_container_id);
        let ifname = get("CNI_IFNAME", attachment, is_ifname);
        let netns = get("CNI_NETNS", attachment && verb != Verb::Del, |_| true);
        let args = read_args(&variable("CNI_ARGS").unwrap_or_default()).unwrap_or_else(|problem| {
            problems.push(problem);
            Args::default()
        });
        if problems.is_empty() {
            Ok(Self { verb, container_id, netns, ifname, args })
        } else {
            Err(Failure::new(INVALID_ENVIRONMENT, problems.join("; ")))
        }
    }
}

/// Alphanumeric first, then also `_`, `.` and `-`.
pub(crate) fn is_container_id(text: &str) -> bool {
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// What the kernel takes as an interface name.
pub(crate) fn is_ifname(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.contains(['/', ':'])
        && !text.contains(char::is_whitespace)
}

fn read_args(text: &str) -> Result<Args, String> {
    let mut args = Args::default();
    let mut unknown = None;
    let mut ignore_unknown = false;
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(format!("CNI_ARGS `{pair}` is no KEY=VALUE"));
        };
        let value = Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "IgnoreUnknown" => {
                let text = value.as_deref().unwrap_or_default();
                ignore_unknown = matches!(text, "1" | "t" | "T" | "true" | "True" | "TRUE");
                if !(ignore_unknown || matches!(text, "0" | "f" | "F" | "false" | "False" | "FALSE")) {
                    return Err(format!("CNI_ARGS IgnoreUnknown `{text}` is neither true nor false"));
                }
            }
            "K8S_POD_NAMESPACE" => args.namespace = value,
            "K8S_POD_NAME" => args.name = value,
            "K8S_POD_UID" => args.uid = value,
            // The sandbox's own ID, which CNI_CONTAINERID says as well.
            "K8S_POD_INFRA_CONTAINER_ID" => {}
            other => unknown = unknown.or_else(|| Some(other.to_owned())),
        }
    }
    match unknown {
        Some(key) if !ignore_unknown => Err(format!("CNI_ARGS has the unknown key `{key}`; set IgnoreUnknown=1")),
        _ => Ok(args),
    }
}

#[cfg(test)]
mod tests {
    use super::{Args, Environment, Verb, is_container_id, is_ifname, read_args};

    fn read(verb: &str, variables: &[(&str, &str)]) -> Result<Environment, String> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Environment::read(verb, &variable).map_err(|failure| {
            assert_eq!(failure.code, 4);
            failure.message
        })
    }

    #[test]
    fn everything_that_is_missing_or_invalid_is_listed() {
        let message = read("ADD", &[("CNI_IFNAME", "a/b"), ("CNI_ARGS", "X=1")]).expect_err("bad");
        for part in ["CNI_CONTAINERID is missing", "CNI_NETNS is missing", "CNI_IFNAME `a/b` is invalid", "`X`"] {
            assert!(message.contains(part), "{part} in {message}");
        }
        assert!(read("DANCE", &[]).expect_err("verb").contains("`DANCE`"));
    }

    #[test]
    fn each_verb_needs_its_own_variables() {
        let add = [("CNI_CONTAINERID", "c1"), ("CNI_NETNS", "/run/netns/x"), ("CNI_IFNAME", "eth0")];
        assert_eq!(read("ADD", &add).expect("complete").verb, Verb::Add);
        let del = [("CNI_CONTAINERID", "c1"), ("CNI_NETNS", ""), ("CNI_IFNAME", "eth0")];
        assert_eq!(read("DEL", &del).expect("no namespace").netns, "");
        assert!(read("CHECK", &del).is_err());
        for verb in ["STATUS", "GC", "VERSION"] {
            assert!(read(verb, &[]).is_ok(), "{verb}");
        }
    }

    #[test]
    fn names_are_those_of_the_specification() {
        for (text, valid) in [("a", true), ("0a_.-", true), ("", false), ("-a", false), ("a b", false), ("a/b", false)]
        {
            assert_eq!(is_container_id(text), valid, "{text}");
        }
        for (text, valid) in [
            ("eth0", true),
            ("123456789012345", true),
            ("1234567890123456", false),
            ("", false),
            (".", false),
            ("..", false),
            ("a:b", false),
            ("a b", false),
            ("a/b", false),
        ] {
            assert_eq!(is_ifname(text), valid, "{text}");
        }
    }

    #[test]
    fn arguments_of_kubernetes_and_podman_are_understood() {
        let expected = Args { namespace: Some("web".into()), name: Some("a".into()), uid: Some("u".into()) };
        let text =
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=u;MORE=1";
        assert_eq!(read_args(text), Ok(expected));
        assert_eq!(read_args("MORE=1;IgnoreUnknown=true"), Ok(Args::default()));
        assert_eq!(read_args(""), Ok(Args::default()));
        for bad in ["K", "MORE=1", "IgnoreUnknown=maybe", "IgnoreUnknown=0;MORE=1"] {
            assert!(read_args(bad).is_err(), "{bad}");
        }
    }
}
