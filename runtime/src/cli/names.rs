//! Names that people give. They become parts of URLs, where a `?` or `#` would end them and mean another object, so whatever no name can
//! hold is refused here, before anything is asked; the rest is the server's to judge.

use minipod_model::name::dns_label_problem;

/// A word that is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// an empty word
    #[error("a resource name may not be empty: give one")]
    Empty,
    /// a character that would change the URL
    #[error("invalid resource name {0:?}: names hold lower case letters, digits, `-` and `.`")]
    Characters(String),
    /// no namespace can be called so
    #[error("invalid namespace {namespace:?}: {problem}")]
    Namespace {
        /// as given
        namespace: String,
        /// what is wrong
        problem: String,
    },
}

/// Whether `name` can be the name of an object, as far as a URL goes.
///
/// # Errors
/// It cannot.
pub(crate) fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
    if is_plain && ![".", ".."].contains(&name) { Ok(()) } else { Err(NameError::Characters(name.to_owned())) }
}

/// Whether a namespace can be called so.
///
/// # Errors
/// It cannot, and why.
pub(crate) fn check_namespace(namespace: &str) -> Result<(), NameError> {
    match dns_label_problem(namespace) {
        None => Ok(()),
        Some(problem) => Err(NameError::Namespace { namespace: namespace.to_owned(), problem }),
    }
}

#[cfg(test)]
mod tests {
    use super::{NameError, check, check_namespace};

    #[test]
    fn what_would_mean_another_object_is_no_name() {
        for name in ["web", "web-1.a", "Web", "a_b", "system:node"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in ["web?watch=1", "web#", "web/log", "..", ".", "a b", "%2e", "ünï", "web\n"] {
            assert_eq!(check(name), Err(NameError::Characters(name.to_owned())));
        }
        assert_eq!(check(""), Err(NameError::Empty));
    }

    #[test]
    fn a_namespace_is_refused_with_its_problem() {
        assert_eq!(check_namespace("kube-system"), Ok(()));
        for namespace in ["n1#", "n1/pods", "Bad NS", "", "n1?x="] {
            let error = check_namespace(namespace).expect_err("refused").to_string();
            let begin = format!("invalid namespace {namespace:?}: a lowercase RFC 1123 label must consist of");
            assert!(error.starts_with(&begin), "{error}");
        }
    }
}
