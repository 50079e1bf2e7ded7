//! Image references: what a person writes (`alpine`, `localhost:5000/web:1`, `quay.io/a/b@sha256:...`) and what it means.
//!
//! Decides how a short name is completed, as Docker and Podman do: no registry means `docker.io`, one component on
//! `docker.io` means `library/`, no tag and no digest means `latest`. Knows no mirror; that is [`crate::registries`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::{Digest, is_hex};

/// The registry of a name that names none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of a name that has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// The longest repository name in bytes, registry included (the distribution specification's limit).
pub const MAX_NAME: usize = 255;
/// The longest tag in bytes.
pub const MAX_TAG: usize = 128;

/// A complete reference: registry, repository, and a tag or a digest or both. With both, the digest decides what is fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid image reference `{value}`: {problem}")]
pub struct ReferenceError {
    /// what was given
    pub value: String,
    /// what is wrong with it
    pub problem: ReferenceProblem,
}

/// What is wrong with a reference.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReferenceProblem {
    /// nothing was given
    #[error("it is empty; write a name such as `alpine:3.20`")]
    Empty,
    /// a bare image ID
    #[error("64 hexadecimal characters are an image ID, not a name")]
    Id,
    /// the registry is no host name with an optional port
    #[error("`{0}` is no registry; it must be a host name or address with an optional `:PORT`")]
    Registry(String),
    /// a component of the repository
    #[error("`{0}` is no repository component; use lower-case letters and digits, separated by `.`, `_`, `__` or `-`")]
    Component(String),
    /// the name is too long
    #[error("the name has {0} characters, {MAX_NAME} are allowed")]
    TooLong(usize),
    /// the tag
    #[error("`{0}` is no tag; use up to {MAX_TAG} letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`")]
    Tag(String),
    /// the digest
    #[error("`{0}` is no digest; write `@sha256:` and 64 lower-case hexadecimal characters")]
    Digest(String),
}

impl Reference {
    /// Host name, and port where one is given: `docker.io`, `localhost:5000`, `[::1]:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name inside the registry: `library/alpine`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given or is implied.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository without tag and digest: `docker.io/library/alpine`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(value: &str) -> Result<Self, ReferenceError> {
        parse(value).map_err(|problem| ReferenceError { value: value.to_owned(), problem })
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(value: String) -> Result<Self, ReferenceError> {
        value.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

fn parse(value: &str) -> Result<Reference, ReferenceProblem> {
    if value.is_empty() {
        return Err(ReferenceProblem::Empty);
    }
    if is_hex(value) {
        return Err(ReferenceProblem::Id);
    }
    let (rest, digest) = match value.split_once('@') {
        Some((rest, digest)) => {
            (rest, Some(digest.parse::<Digest>().map_err(|_| ReferenceProblem::Digest(digest.to_owned()))?))
        }
        None => (value, None),
    };
    let (path, tag) = split_tag(rest);
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(ReferenceProblem::Tag(tag.to_owned()));
    }
    let (registry, repository) = split_registry(path)?;
    for component in repository.split('/') {
        if !is_component(component) {
            return Err(ReferenceProblem::Component(component.to_owned()));
        }
    }
    let length = registry.len() + 1 + repository.len();
    if length > MAX_NAME {
        return Err(ReferenceProblem::TooLong(length));
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_TAG.to_owned()),
    };
    Ok(Reference { registry, repository, tag, digest })
}

/// A colon after the last slash begins the tag; an earlier one belongs to the registry's port.
fn split_tag(rest: &str) -> (&str, Option<&str>) {
    match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !tag.contains(']') => (path, Some(tag)),
        _ => (rest, None),
    }
}

/// The first component is a registry when it could not be anything else: it has a dot or a colon, it is `localhost`, or it has
/// capitals.
fn split_registry(path: &str) -> Result<(String, String), ReferenceProblem> {
    let explicit = path.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':', '[']) || *first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
    });
    let (registry, repository) = match explicit {
        Some((registry, repository)) => (check_registry(registry)?, repository),
        None => (DEFAULT_REGISTRY.to_owned(), path),
    };
    if registry == DEFAULT_REGISTRY && !repository.contains('/') && !repository.is_empty() {
        return Ok((registry, format!("library/{repository}")));
    }
    Ok((registry, repository.to_owned()))
}

/// Checks a registry and spells it in one way.
fn check_registry(text: &str) -> Result<String, ReferenceProblem> {
    let problem = || ReferenceProblem::Registry(text.to_owned());
    if !is_host_and_port(text) {
        return Err(problem());
    }
    let lower = text.to_ascii_lowercase();
    Ok(match lower.as_str() {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        // Only its capitals tell such a name from the first part of a repository.
        _ if !text.contains(['.', ':']) && lower != "localhost" => text.to_owned(),
        _ => lower,
    })
}

/// A host name, IPv4 address or bracketed IPv6 address, with an optional port.
pub(crate) fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => return address.parse::<std::net::Ipv6Addr>().is_ok(),
            Some((address, port)) => {
                return address.parse::<std::net::Ipv6Addr>().is_ok() && port.strip_prefix(':').is_some_and(is_port);
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// Runs of lower-case letters and digits, separated by one of `.`, `_`, `__` or any number of `-`.
pub(crate) fn is_component(component: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let run = rest.iter().take_while(|byte| alphanumeric(byte)).count();
        if run == 0 {
            return false;
        }
        rest = rest.get(run..).unwrap_or_default();
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|byte| !alphanumeric(byte)).count();
        let (head, tail) = rest.split_at(separator);
        if !(matches!(head, b"." | b"_" | b"__") || head.iter().all(|byte| *byte == b'-')) {
            return false;
        }
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Reference, ReferenceProblem};

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(input: &str, expected: &str) {
        let reference: Reference = input.parse().expect(input);
        assert_eq!(reference.to_string(), expected, "{input}");
        assert_eq!(expected.parse::<Reference>().as_ref(), Ok(&reference), "a complete name means itself");
    }

    #[test]
    fn short_names_are_completed_as_docker_and_podman_do() {
        check("alpine", "docker.io/library/alpine:latest");
        check("alpine:3.20", "docker.io/library/alpine:3.20");
        check("grafana/grafana", "docker.io/grafana/grafana:latest");
        check("docker.io/alpine", "docker.io/library/alpine:latest");
        check("index.docker.io/library/alpine", "docker.io/library/alpine:latest");
        check("gcr.io/google-samples/hello-app:1.0", "gcr.io/google-samples/hello-app:1.0");
        check("localhost/web", "localhost/web:latest");
        check("localhost:5000/web:a", "localhost:5000/web:a");
        check("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest");
        check("[::1]:5000/web", "[::1]:5000/web:latest");
        check("registry.k8s.io/pause", "registry.k8s.io/pause:latest");
        check("minipod.local/hello-app:1.0", "minipod.local/hello-app:1.0");
        check("a/b_c/d__e/f--g.h", "docker.io/a/b_c/d__e/f--g.h:latest");
    }

    #[test]
    fn a_digest_replaces_the_default_tag_and_stands_beside_a_given_one() {
        check(&format!("alpine@{DIGEST}"), &format!("docker.io/library/alpine@{DIGEST}"));
        check(&format!("alpine:3@{DIGEST}"), &format!("docker.io/library/alpine:3@{DIGEST}"));
        check(&format!("localhost:5000/a@{DIGEST}"), &format!("localhost:5000/a@{DIGEST}"));
    }

    #[test]
    fn what_is_no_reference_is_refused_by_name() {
        let component = |text: &str| ReferenceProblem::Component(text.into());
        let cases = [
            ("", ReferenceProblem::Empty),
            (&DIGEST[7..], ReferenceProblem::Id),
            ("Alpine", component("library/Alpine").clone()),
            ("alpine:", ReferenceProblem::Tag(String::new())),
            ("alpine:-x", ReferenceProblem::Tag("-x".into())),
            ("alpine@sha256:12", ReferenceProblem::Digest("sha256:12".into())),
            ("a//b", component("")),
            ("gcr.io/", component("")),
            ("a/../b", component("..")),
            ("host:99999/a", ReferenceProblem::Registry("host:99999".into())),
            ("-x.io/a", ReferenceProblem::Registry("-x.io".into())),
            ("a/b___c", component("b___c")),
            ("a/b c", component("b c")),
        ];
        for (value, expected) in cases {
            let error = value.parse::<Reference>().expect_err(value);
            let problem = match expected {
                ReferenceProblem::Component(text) if text.contains('/') => component("Alpine"),
                other => other,
            };
            assert_eq!((error.value.as_str(), error.problem), (value, problem));
        }
        let long = format!("docker.io/{}", "a".repeat(250));
        assert!(matches!(long.parse::<Reference>().expect_err("long").problem, ReferenceProblem::TooLong(_)));
    }

    #[test]
    fn a_registry_that_only_its_capitals_tell_keeps_them() {
        let reference: Reference = "A/0".parse().expect("a reference");
        assert_eq!(reference.to_string(), "A/0:latest");
        assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_means_itself(text in "[a-zA-Z0-9./:@_\\[\\]-]{0,40}|\\PC{0,20}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }
    }
}
