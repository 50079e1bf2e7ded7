//! An image's configuration as a container needs it: what runs, as whom, where, with which environment.
//!
//! Reads the fields of the OCI image specification (and Docker's, which are the same). Unknown fields are allowed: the
//! specification says so. Who a user name is, only the image's files know; that is [`crate::user`].

use std::collections::BTreeMap;
use std::str::FromStr;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::Digest;

/// SIGTERM, what stops a container whose image says nothing else.
pub const DEFAULT_STOP_SIGNAL: i32 = 15;
/// `PATH` of a container whose image sets none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of an image, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// `Entrypoint`
    pub entrypoint: Vec<String>,
    /// `Cmd`
    pub cmd: Vec<String>,
    /// `Env` as `KEY=VALUE`; always has a `PATH`
    pub env: Vec<String>,
    /// `WorkingDir`, absolute; `/` where none is set
    pub working_dir: String,
    /// `User` as written, e.g. `1000`, `nobody:nogroup`; empty means root
    pub user: String,
    /// `StopSignal` as a number
    pub stop_signal: i32,
    /// `ExposedPorts`, e.g. `8080/tcp`
    pub exposed_ports: Vec<String>,
    /// `Labels`
    pub labels: BTreeMap<String, String>,
    /// `os`, mostly `linux`
    pub os: String,
    /// `architecture` in Go's spelling, e.g. `amd64`; may be empty
    pub architecture: String,
    /// `created` as written
    pub created: Option<String>,
    /// digests of the unpacked layers, lowest first
    pub diff_ids: Vec<Digest>,
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// it is not JSON of the right shape
    #[error("the image configuration cannot be decoded")]
    Decode(#[source] serde_json::Error),
    /// `StopSignal`
    #[error("the image's stop signal `{0}` is no signal of Linux")]
    StopSignal(String),
    /// `WorkingDir`
    #[error("the image's working directory `{0}` is not absolute")]
    WorkingDir(String),
    /// `rootfs.type`
    #[error("the image's root file system is of type `{0}`; only `layers` is known")]
    RootfsType(String),
    /// for another platform
    #[error(
        "the image is for `{os}/{architecture}`, this node is `linux/{host}`; use an image for `linux/{host}`",
        host = host_architecture()
    )]
    Platform {
        /// the image's
        os: String,
        /// the image's
        architecture: String,
    },
}

/// Neither the pod nor the image says what to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no command: the image has neither entrypoint nor command; set `command` or `args`")]
pub struct NoCommand;

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    created: Option<String>,
    config: Option<RawSettings>,
    rootfs: RawRootfs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawSettings {
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Decodes a configuration and refuses one that is for another platform.
    pub fn decode(json: &[u8]) -> Result<Self, ConfigError> {
        let raw: RawConfig = serde_json::from_slice(json).map_err(ConfigError::Decode)?;
        if raw.rootfs.kind != "layers" {
            return Err(ConfigError::RootfsType(raw.rootfs.kind));
        }
        let foreign_os = !matches!(raw.os.as_str(), "" | "linux");
        let foreign_architecture = !(raw.architecture.is_empty() || raw.architecture == host_architecture());
        if foreign_os || foreign_architecture {
            return Err(ConfigError::Platform { os: raw.os, architecture: raw.architecture });
        }
        let settings = raw.config.unwrap_or_default();
        let working_dir = settings.working_dir.filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".to_owned());
        if !working_dir.starts_with('/') {
            return Err(ConfigError::WorkingDir(working_dir));
        }
        let stop_signal = match settings.stop_signal.as_deref() {
            None | Some("") => DEFAULT_STOP_SIGNAL,
            Some(text) => parse_signal(text).ok_or_else(|| ConfigError::StopSignal(text.to_owned()))?,
        };
        let mut env = settings.env.unwrap_or_default();
        if !env.iter().any(|pair| pair.starts_with("PATH=")) {
            env.insert(0, DEFAULT_PATH.to_owned());
        }
        Ok(Self {
            entrypoint: settings.entrypoint.unwrap_or_default(),
            cmd: settings.cmd.unwrap_or_default(),
            env,
            working_dir,
            user: settings.user.unwrap_or_default(),
            stop_signal,
            exposed_ports: settings.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: settings.labels.unwrap_or_default(),
            os: raw.os,
            architecture: raw.architecture,
            created: raw.created,
            diff_ids: raw.rootfs.diff_ids,
        })
    }

    /// What a container runs, by Kubernetes' rule: `command` replaces the entrypoint and drops the image's command, `args`
    /// replaces the image's command. An empty slice counts as not given.
    pub fn command(&self, command: &[String], args: &[String]) -> Result<Vec<String>, NoCommand> {
        let entrypoint = if command.is_empty() { &self.entrypoint } else { command };
        let arguments: &[String] = match (command.is_empty(), args.is_empty()) {
            (_, false) => args,
            (true, true) => &self.cmd,
            (false, true) => &[],
        };
        let line: Vec<String> = entrypoint.iter().chain(arguments).cloned().collect();
        if line.is_empty() { Err(NoCommand) } else { Ok(line) }
    }

    /// The value of a variable of the image's environment.
    #[must_use]
    pub fn env_value(&self, key: &str) -> Option<&str> {
        self.env.iter().find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key)).map(|(_, value)| value)
    }
}

/// What a configuration of ours says, written as the OCI image specification wants it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewConfig<'a> {
    pub(crate) created: &'a str,
    pub(crate) architecture: &'a str,
    pub(crate) os: &'a str,
    pub(crate) config: NewSettings,
    pub(crate) rootfs: NewRootfs,
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NewSettings {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) cmd: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) env: Vec<String>,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub(crate) exposed_ports: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewRootfs {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) diff_ids: Vec<Digest>,
}

/// This machine's architecture in the spelling of image configurations (Go's).
#[must_use]
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
fn parse_signal(text: &str) -> Option<i32> {
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(RTMIN),
        (_, Some("")) => Some(RTMAX),
        (Some(offset), _) => offset.strip_prefix('+')?.parse::<i32>().ok()?.checked_add(RTMIN),
        (_, Some(offset)) => RTMAX.checked_sub(offset.strip_prefix('-')?.parse::<i32>().ok()?),
        _ => None,
    };
    match real_time {
        Some(number) => (RTMIN..=RTMAX).contains(&number).then_some(number),
        None => Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::{ConfigError, DEFAULT_PATH, ImageConfig, NoCommand, host_architecture, parse_signal};

    fn decode(settings: &str) -> Result<ImageConfig, ConfigError> {
        let json = format!(
            r#"{{"architecture":"{}","os":"linux","config":{settings},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#,
            host_architecture()
        );
        ImageConfig::decode(json.as_bytes())
    }

    #[test]
    fn what_the_image_does_not_say_has_a_default() {
        let config = decode("{}").expect("valid");
        assert_eq!(config.env, [DEFAULT_PATH]);
        assert_eq!((config.working_dir.as_str(), config.user.as_str(), config.stop_signal), ("/", "", 15));
        assert_eq!(decode("null").expect("null settings"), config);
    }

    #[test]
    fn command_and_args_replace_entrypoint_and_cmd_as_in_kubernetes() {
        let config = decode(r#"{"Entrypoint":["/e"],"Cmd":["c"]}"#).expect("valid");
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let check = |command: &[&str], args: &[&str], expected: &[&str]| {
            assert_eq!(config.command(&words(command), &words(args)), Ok(words(expected)));
        };
        check(&[], &[], &["/e", "c"]);
        check(&["/x"], &[], &["/x"]);
        check(&[], &["a"], &["/e", "a"]);
        check(&["/x"], &["a"], &["/x", "a"]);
        assert_eq!(decode("{}").expect("valid").command(&[], &[]), Err(NoCommand));
    }

    #[test]
    fn stop_signals_are_names_or_numbers() {
        let cases = [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("65", None),
            ("SIGNONE", None),
            ("RTMIN+99", None),
            ("RTMIN+2147483647", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_signal(text), expected, "{text}");
        }
        assert!(matches!(decode(r#"{"StopSignal":"X"}"#), Err(ConfigError::StopSignal(text)) if text == "X"));
    }

    #[test]
    fn an_image_for_another_platform_is_refused_by_name() {
        let json = br#"{"architecture":"s390x","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let error = ImageConfig::decode(json).expect_err("foreign");
        assert!(error.to_string().contains("`linux/s390x`"), "{error}");
        assert!(decode(r#"{"WorkingDir":"srv"}"#).is_err());
    }
}
