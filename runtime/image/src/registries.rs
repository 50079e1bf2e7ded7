//! `registries.toml`: where the images of a prefix are really fetched from.
//!
//! ```toml
//! [[registry]]
//! prefix = "docker.io/library"        # what the complete reference begins with, whole components
//! location = "127.0.0.1:5000/mirror"  # what stands there instead; without it the prefix itself
//! insecure = true                     # plain HTTP; without it HTTPS
//! ```
//!
//! The longest prefix wins. A mirror replaces its origin; when it fails, the origin is not asked, so that a node that was
//! told to stay inside stays inside. Unknown keys and two entries for one prefix are refused.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::reference::{Reference, is_component, is_host_and_port};

/// Where `registries.toml` is unless the caller says otherwise.
pub const DEFAULT_PATH: &str = "/etc/minipod/registries.toml";

/// The mirrors of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// longest prefix first
    entries: Vec<Entry>,
}

/// Where one image is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// host name and optional port
    pub registry: String,
    /// the repository on that registry
    pub repository: String,
    /// plain HTTP
    pub insecure: bool,
}

/// Why the mirrors cannot be read.
#[derive(Debug, Error)]
pub enum RegistriesError {
    /// the file is there and cannot be read
    #[error("cannot read the registry mirrors `{path}`")]
    Read {
        /// the file
        path: PathBuf,
        /// what the system says
        #[source]
        source: io::Error,
    },
    /// TOML or a key is wrong; the cause tells line and column
    #[error("invalid registry mirrors `{path}`; correct the file or remove it")]
    Syntax {
        /// the file
        path: PathBuf,
        /// where and what
        #[source]
        source: Box<toml::de::Error>,
    },
    /// a value is wrong
    #[error(
        "invalid registry mirrors `{path}`: `{value}` is no {key}; write `HOST[:PORT]` and optional `/` components"
    )]
    Value {
        /// the file
        path: PathBuf,
        /// `prefix` or `location`
        key: &'static str,
        /// what was given
        value: String,
    },
    /// two entries for one prefix
    #[error("invalid registry mirrors `{path}`: prefix `{prefix}` has two entries; remove one")]
    Duplicate {
        /// the file
        path: PathBuf,
        /// the prefix
        prefix: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    prefix: String,
    location: String,
    insecure: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    registry: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    prefix: String,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
}

impl Registries {
    /// Reads the file; a file that is not there means no mirrors.
    pub fn load(path: &Path) -> Result<Self, RegistriesError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(RegistriesError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads the text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, RegistriesError> {
        let path = || path.to_owned();
        let document: Document = toml::from_str(text)
            .map_err(|source| RegistriesError::Syntax { path: path(), source: Box::new(source) })?;
        let mut entries: Vec<Entry> = Vec::new();
        for RawEntry { prefix, location, insecure } in document.registry {
            let location = location.unwrap_or_else(|| prefix.clone());
            for (key, value) in [("prefix", &prefix), ("location", &location)] {
                if !is_location(value) {
                    return Err(RegistriesError::Value { path: path(), key, value: value.clone() });
                }
            }
            if entries.iter().any(|entry| entry.prefix == prefix) {
                return Err(RegistriesError::Duplicate { path: path(), prefix });
            }
            entries.push(Entry { prefix, location, insecure });
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.prefix.len()));
        Ok(Self { entries })
    }

    /// Where this image is fetched from.
    #[must_use]
    pub fn source_of(&self, reference: &Reference) -> Source {
        let name = reference.name();
        let mirrored = self.entries.iter().find_map(|entry| {
            let rest = name.strip_prefix(&entry.prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
            Some((format!("{}{rest}", entry.location), entry.insecure))
        });
        let (place, insecure) = mirrored.unwrap_or((name, false));
        match place.split_once('/') {
            Some((registry, repository)) => {
                Source { registry: registry.to_owned(), repository: repository.to_owned(), insecure }
            }
            None => Source { registry: place, repository: reference.repository().to_owned(), insecure },
        }
    }
}

/// `HOST[:PORT]` and repository components.
fn is_location(text: &str) -> bool {
    let mut components = text.split('/');
    components.next().is_some_and(is_host_and_port) && components.all(is_component)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::path::Path;

    use super::{Registries, RegistriesError, Source};

    const MIRRORS: &str = r#"
        [[registry]]
        prefix = "docker.io"
        location = "mirror.example:5000/hub"

        [[registry]]
        prefix = "docker.io/library/alpine"
        location = "127.0.0.1:5001/small/alpine"
        insecure = true

        [[registry]]
        prefix = "localhost:5000"
        insecure = true
    "#;

    fn parse(text: &str) -> Result<Registries, RegistriesError> {
        Registries::parse(text, Path::new("registries.toml"))
    }

    fn check(reference: &str, registry: &str, repository: &str, insecure: bool) {
        let expected = Source { registry: registry.into(), repository: repository.into(), insecure };
        assert_eq!(parse(MIRRORS).expect("valid").source_of(&reference.parse().expect("reference")), expected);
    }

    #[test]
    fn the_longest_prefix_wins_and_only_at_a_component() {
        check("alpine", "127.0.0.1:5001", "small/alpine", true);
        check("alpine-extra", "mirror.example:5000", "hub/library/alpine-extra", false);
        check("quay.io/a/b", "quay.io", "a/b", false);
        check("localhost:5000/x", "localhost:5000", "x", true);
        check("localhost:5001/x", "localhost:5001", "x", false);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_position() {
        let error = parse("[[registry]]\nprefix = \"docker.io\"\nmirror = \"x\"\n").expect_err("unknown key");
        let cause = error.source().expect("cause").to_string();
        assert!(cause.contains("line 3") && cause.contains("mirror"), "{cause}");
    }

    #[test]
    fn wrong_values_and_duplicates_are_refused_by_value() {
        let bad = parse("[[registry]]\nprefix = \"http://x\"").expect_err("scheme");
        assert!(bad.to_string().contains("`http://x` is no prefix"), "{bad}");
        let twice = "[[registry]]\nprefix = \"a.io\"\n[[registry]]\nprefix = \"a.io\"\n";
        assert!(matches!(parse(twice), Err(RegistriesError::Duplicate { prefix, .. }) if prefix == "a.io"));
    }

    #[test]
    fn a_missing_file_means_no_mirrors() {
        let registries = Registries::load(Path::new("/nonexistent/registries.toml")).expect("no file");
        assert_eq!(registries, Registries::default());
    }
}
