//! The network configuration on stdin. What we do not know is refused with its name; what we know and do not support too. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use minipod_protocol::netd::{Dns, Sandbox};
use serde_json::{Map, Value};

use crate::environment::{Verb, is_container_id, is_ifname};
use crate::failure::{CANNOT_DECODE, Failure, INCOMPATIBLE_VERSION, INVALID_CONFIG, UNSUPPORTED_FIELD};

/// The versions of the specification that we speak, oldest first.
pub(crate) const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// What we speak when the caller does not say.
pub(crate) const LATEST: &str = "1.1.0";

const DEFAULT_SOCKET: &str = "/run/minipod/netd.sock";
/// How long an ADD waits for a netd that does not run, where the configuration does not say. A restart takes less.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
/// Runtimes give up on an ADD after some minutes themselves.
const MAX_WAIT_SECONDS: u64 = 120;

/// Keys that the specification gives a meaning which needs nothing from us.
const IGNORED: [&str; 6] = ["capabilities", "disableCheck", "disableGC", "loadOnlyInlinedPlugins", "dns", "keyrings"];

/// A configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// one of [`VERSIONS`]
    pub(crate) version: &'static str,
    /// netd's socket
    pub(crate) socket: PathBuf,
    /// how long an ADD waits for a netd that does not run
    pub(crate) wait: Duration,
    /// labels of a container that no API object describes
    pub(crate) labels: BTreeMap<String, String>,
    /// requested addresses
    pub(crate) addresses: Vec<IpAddr>,
    /// requested MAC address
    pub(crate) mac: Option<String>,
    /// requested resolver settings, in place of netd's
    pub(crate) dns: Option<Dns>,
    /// the result of the plugins before us, or our own in CHECK and DEL
    pub(crate) previous: Option<Map<String, Value>>,
    /// what GC is to keep; none when the key is missing
    pub(crate) valid: Option<Vec<Sandbox>>,
}

impl Config {
    pub(crate) fn read(stdin: &[u8]) -> Result<Self, Failure> {
        let document: Value = serde_json::from_slice(stdin).map_err(|error| {
            Failure::new(CANNOT_DECODE, format!("the network configuration on stdin is no JSON: {error}"))
        })?;
        let Value::Object(document) = document else {
            return Err(Failure::new(CANNOT_DECODE, "the network configuration on stdin is no JSON object"));
        };
        let version = version_of(&document)?;
        let mut config = Self {
            version,
            socket: PathBuf::from(DEFAULT_SOCKET),
            wait: DEFAULT_WAIT,
            labels: BTreeMap::new(),
            addresses: Vec::new(),
            mac: None,
            dns: None,
            previous: None,
            valid: None,
        };
        let mut name = "";
        for (key, value) in &document {
            match key.as_str() {
                "cniVersion" | "type" => {}
                "name" => name = text(key, value)?,
                "socket" => config.socket = PathBuf::from(text(key, value)?),
                "waitSeconds" => config.wait = wait(key, value)?,
                "args" => config.read_args(object(key, value)?)?,
                "runtimeConfig" => config.read_runtime(object(key, value)?)?,
                "prevResult" if value.is_null() => {}
                "prevResult" => config.previous = Some(object(key, value)?.clone()),
                "cni.dev/valid-attachments" => config.valid = Some(attachments(key, value)?),
                "ipMasq" if value == &Value::Bool(false) => {}
                "ipam" if value.as_object().is_some_and(Map::is_empty) => {}
                key if IGNORED.contains(&key) || key.starts_with("cni.dev/") => {}
                key => return Err(unsupported(key, value)),
            }
        }
        if !is_container_id(name) {
            return Err(Failure::new(INVALID_CONFIG, format!("the network configuration's name `{name}` is invalid")));
        }
        Ok(config)
    }

    /// The configuration is of a version that has the verb, and has what the verb needs.
    pub(crate) fn check_for(&self, verb: Verb) -> Result<(), Failure> {
        let since = match verb {
            Verb::Add | Verb::Del | Verb::Version => "0.3.0",
            Verb::Check => "0.4.0",
            Verb::Status | Verb::Gc => "1.1.0",
        };
        let position = |version: &str| VERSIONS.iter().position(|known| *known == version);
        if position(self.version) < position(since) {
            let message =
                format!("configuration version `{}` does not have this verb; it came with {since}", self.version);
            return Err(Failure::new(INCOMPATIBLE_VERSION, message));
        }
        Ok(())
    }

    /// `args.cni`, the conventions' place for labels; every other plugin's `args` are its own.
    fn read_args(&mut self, args: &Map<String, Value>) -> Result<(), Failure> {
        let Some(cni) = args.get("cni") else {
            return Ok(());
        };
        for (key, value) in object("args.cni", cni)? {
            match key.as_str() {
                "labels" => self.labels = labels(value)?,
                key => return Err(unsupported(&format!("args.cni.{key}"), value)),
            }
        }
        Ok(())
    }

    fn read_runtime(&mut self, runtime: &Map<String, Value>) -> Result<(), Failure> {
        for (key, value) in runtime {
            let path = format!("runtimeConfig.{key}");
            match key.as_str() {
                "ips" => self.addresses = addresses(&path, value)?,
                "mac" => self.mac = Some(text(&path, value)?.to_owned()).filter(|mac| !mac.is_empty()),
                "dns" => self.dns = Some(dns(&path, object(&path, value)?)?),
                "portMappings" if value.as_array().is_some_and(Vec::is_empty) => {}
                "portMappings" => {
                    let mut failure = unsupported(&path, value);
                    failure.message.push_str("; chain the `portmap` plugin and give the capability to it");
                    return Err(failure);
                }
                _ => return Err(unsupported(&path, value)),
            }
        }
        Ok(())
    }
}

/// The version that a configuration is written in, for messages even when the rest of it is wrong.
pub(crate) fn version_of(document: &Map<String, Value>) -> Result<&'static str, Failure> {
    let given = document.get("cniVersion").and_then(Value::as_str).unwrap_or("0.1.0");
    VERSIONS.into_iter().find(|version| *version == given).ok_or_else(|| {
        let message = format!("configuration version `{given}` is not supported; use one of {}", VERSIONS.join(", "));
        Failure::new(INCOMPATIBLE_VERSION, message)
    })
}

fn unsupported(key: &str, value: &Value) -> Failure {
    Failure::new(UNSUPPORTED_FIELD, format!("the configuration's `{key}` with the value `{value}` is not supported"))
}

fn invalid(key: &str, value: &Value, what: &str) -> Failure {
    Failure::new(INVALID_CONFIG, format!("the configuration's `{key}` with the value `{value}` is no {what}"))
}

fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str, Failure> {
    value.as_str().ok_or_else(|| invalid(key, value, "text"))
}

fn object<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Failure> {
    value.as_object().ok_or_else(|| invalid(key, value, "object"))
}

fn wait(key: &str, value: &Value) -> Result<Duration, Failure> {
    let seconds = value.as_u64().filter(|seconds| *seconds <= MAX_WAIT_SECONDS);
    let what = format!("whole number of seconds from 0 to {MAX_WAIT_SECONDS}");
    seconds.map(Duration::from_secs).ok_or_else(|| invalid(key, value, &what))
}

fn list<'a>(key: &str, value: &'a Value) -> Result<&'a Vec<Value>, Failure> {
    value.as_array().ok_or_else(|| invalid(key, value, "list"))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>, Failure> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    list(key, value)?.iter().map(|value| text(key, value).map(str::to_owned)).collect()
}

/// `{"app": "web"}`, or the conventions' `[{"key": "app", "value": "web"}]`.
fn labels(value: &Value) -> Result<BTreeMap<String, String>, Failure> {
    const KEY: &str = "args.cni.labels";
    let pair = |key: &str, value: &Value| Ok((key.to_owned(), text(&format!("{KEY}.{key}"), value)?.to_owned()));
    if let Some(labels) = value.as_object() {
        return labels.iter().map(|(key, value)| pair(key, value)).collect();
    }
    let labels = list(KEY, value)?.iter().map(|label| match (label["key"].as_str(), &label["value"]) {
        (Some(key), value) => pair(key, value),
        (None, _) => Err(invalid(KEY, label, "label; write `{\"key\": ..., \"value\": ...}`")),
    });
    labels.collect()
}

/// Addresses with or without a prefix length; a pod's is always a /32 or /128.
fn addresses(key: &str, value: &Value) -> Result<Vec<IpAddr>, Failure> {
    let parse = |value: &Value| {
        let address = value.as_str().map(|text| text.split('/').next().unwrap_or(text));
        address.and_then(|address| address.parse().ok()).ok_or_else(|| invalid(key, value, "address"))
    };
    list(key, value)?.iter().map(parse).collect()
}

fn dns(path: &str, object: &Map<String, Value>) -> Result<Dns, Failure> {
    let mut dns = Dns::default();
    for (key, value) in object {
        let path = format!("{path}.{key}");
        match key.as_str() {
            "servers" => {
                dns.nameservers = texts(&path, value)?
                    .iter()
                    .map(|server| server.parse().map_err(|_| invalid(&path, value, "list of addresses")))
                    .collect::<Result<_, _>>()?;
            }
            "searches" => dns.search = texts(&path, value)?,
            "options" => dns.options = texts(&path, value)?,
            _ => return Err(unsupported(&path, value)),
        }
    }
    Ok(dns)
}

fn attachments(key: &str, value: &Value) -> Result<Vec<Sandbox>, Failure> {
    let parse = |value: &Value| {
        let (container_id, ifname) = (value["containerID"].as_str()?, value["ifname"].as_str()?);
        (is_container_id(container_id) && is_ifname(ifname))
            .then(|| Sandbox { container_id: container_id.to_owned(), ifname: ifname.to_owned() })
    };
    list(key, value)?.iter().map(|value| parse(value).ok_or_else(|| invalid(key, value, "attachment"))).collect()
}

#[cfg(test)]
mod tests {
    use minipod_protocol::netd::Sandbox;
    use serde_json::{Value, json};

    use super::Config;
    use crate::environment::Verb;

    fn read(more: &Value) -> Result<Config, (u32, String)> {
        let mut document = json!({ "cniVersion": "1.0.0", "name": "pods", "type": "minipod-cni" });
        if let (Some(document), Some(more)) = (document.as_object_mut(), more.as_object()) {
            document.extend(more.clone());
        }
        Config::read(document.to_string().as_bytes()).map_err(|failure| (failure.code, failure.message))
    }

    #[test]
    fn what_runtimes_add_is_understood() {
        let config = read(&json!({
            "capabilities": { "ips": true }, "socket": "/x.sock", "prevResult": null, "cni.dev/attachments": [],
            "args": { "cni": { "labels": { "app": "web" } }, "other": { "x": 1 } },
            "runtimeConfig": { "ips": ["10.244.1.5/24", "fd00::5"], "mac": "02:00:00:00:00:01", "portMappings": [],
                "dns": { "servers": ["1.1.1.1"], "searches": null, "options": ["ndots:2"] } },
        }))
        .expect("valid");
        assert_eq!(config.labels.get("app").map(String::as_str), Some("web"));
        assert_eq!(config.addresses.len(), 2);
        assert_eq!(config.dns.map(|dns| dns.options), Some(vec!["ndots:2".to_owned()]));
        assert_eq!((config.previous, config.valid), (None, None));
        let listed = read(&json!({ "args": { "cni": { "labels": [{ "key": "a", "value": "b" }] } } })).expect("list");
        assert_eq!(listed.labels.get("a").map(String::as_str), Some("b"));
    }

    #[test]
    fn unknown_and_unsupported_fields_are_refused_with_key_and_value() {
        for (more, key, value) in [
            (json!({ "bridge": "br0" }), "`bridge`", "br0"),
            (json!({ "ipam": { "type": "host-local" } }), "`ipam`", "host-local"),
            (json!({ "ipMasq": true }), "`ipMasq`", "true"),
            (json!({ "runtimeConfig": { "bandwidth": { "x": 1 } } }), "`runtimeConfig.bandwidth`", "x"),
            (
                json!({ "runtimeConfig": { "portMappings": [{ "hostPort": 80 }] } }),
                "`runtimeConfig.portMappings`",
                "80",
            ),
            (json!({ "args": { "cni": { "ips": ["1.2.3.4"] } } }), "`args.cni.ips`", "1.2.3.4"),
        ] {
            let (code, message) = read(&more).expect_err(key);
            assert!(code == 2 && message.contains(key) && message.contains(value), "{code} {message}");
        }
    }

    #[test]
    fn versions_and_shapes_have_their_codes() {
        let code = |text: &str| Config::read(text.as_bytes()).map_err(|failure| failure.code);
        assert_eq!(code("{"), Err(6));
        assert_eq!(code("[]"), Err(6));
        assert_eq!(code(r#"{"name":"x"}"#), Err(1));
        assert_eq!(code(r#"{"cniVersion":"2.0.0","name":"x"}"#), Err(1));
        assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"a b"}"#), Err(7));
        assert_eq!(code(r#"{"cniVersion":"1.0.0"}"#), Err(7));
        assert_eq!(read(&json!({ "runtimeConfig": [] })).expect_err("shape").0, 7);
        assert_eq!(read(&json!({ "runtimeConfig": { "ips": ["x"] } })).expect_err("address").0, 7);
        let config = read(&json!({})).expect("valid");
        assert_eq!(config.check_for(Verb::Status).map_err(|failure| failure.code), Err(1));
        assert_eq!(config.check_for(Verb::Check), Ok(()));
    }

    #[test]
    fn the_wait_for_netd_has_bounds() {
        let wait = |value: Value| read(&json!({ "waitSeconds": value })).map(|config| config.wait.as_secs());
        assert_eq!(read(&json!({})).expect("valid").wait.as_secs(), 5);
        assert_eq!((wait(json!(0)), wait(json!(120))), (Ok(0), Ok(120)));
        for bad in [json!(121), json!(-1), json!(0.5), json!("5"), json!(null)] {
            let (code, message) = wait(bad.clone()).expect_err("a refusal");
            assert!(code == 7 && message.contains("from 0 to 120"), "{bad}: {code} {message}");
        }
    }

    #[test]
    fn a_missing_list_of_attachments_is_not_an_empty_one() {
        assert_eq!(read(&json!({})).expect("valid").valid, None);
        assert_eq!(read(&json!({ "cni.dev/valid-attachments": [] })).expect("valid").valid, Some(vec![]));
        let one = json!({ "cni.dev/valid-attachments": [{ "containerID": "c", "ifname": "eth0" }] });
        let sandbox = Sandbox { container_id: "c".into(), ifname: "eth0".into() };
        assert_eq!(read(&one).expect("valid").valid, Some(vec![sandbox]));
        assert_eq!(read(&json!({ "cni.dev/valid-attachments": [{ "containerID": "c" }] })).expect_err("bad").0, 7);
    }
}
