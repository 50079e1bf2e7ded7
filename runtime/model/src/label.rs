//! Labels: what they may be, in the words of the API server (apimachinery `util/validation/validation.go`).

use std::collections::BTreeMap;

use crate::name::dns_subdomain_problem;

/// The labels of an object, by key.
pub type Labels = BTreeMap<String, String>;

/// The label that every namespace carries with its own name (semantics, "Reading the object").
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

const NAME_MESSAGE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Why `key` is no label key (also: annotation key); `None` if it is one.
#[must_use]
pub fn key_problem(key: &str) -> Option<String> {
    let name = match key.split_once('/') {
        Some(("", _)) => return Some("prefix part must be non-empty".to_owned()),
        Some((prefix, name)) => {
            if let Some(problem) = dns_subdomain_problem(prefix) {
                return Some(format!("prefix part {problem}"));
            }
            name
        }
        None => key,
    };
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters".to_owned());
    }
    (!is_qualified(name)).then(|| NAME_MESSAGE.to_owned())
}

/// Why `value` is no label value; `None` if it is one.
#[must_use]
pub fn value_problem(value: &str) -> Option<String> {
    if value.len() > 63 {
        return Some("must be no more than 63 characters".to_owned());
    }
    (!value.is_empty() && !is_qualified(value)).then(|| VALUE_MESSAGE.to_owned())
}

fn is_qualified(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::{key_problem, value_problem};

    #[test]
    fn keys_and_values_follow_kubernetes() {
        for key in ["app", "kubernetes.io/metadata.name", "a_b", "A.b-c"] {
            assert_eq!(key_problem(key), None, "{key}");
        }
        for key in ["", "/a", "a/", "a b", "-a", "A/b/c", "Up.io/a"] {
            assert!(key_problem(key).is_some(), "{key}");
        }
        for value in ["", "hello", "v1.0", "A_b"] {
            assert_eq!(value_problem(value), None, "{value}");
        }
        for value in ["-", "a b", "a/b", &"x".repeat(64)] {
            assert!(value_problem(value).is_some(), "{value}");
        }
    }
}
