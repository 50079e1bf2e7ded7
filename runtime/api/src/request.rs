//! What a request asks for: its path and query, read into values. Pure.

use axum::extract::Query;
use http::Uri;
use minipod_model::Selector;

use crate::fields::{FieldSelector, Filter};
use crate::kinds::{self, Kind, Subresource};
use crate::status::ApiError;

/// What a path names.
pub(crate) enum Route {
    /// `/healthz` and its like
    Health,
    /// what the server can do, by path
    Discovery(crate::discovery::Page),
    /// objects of a kind, of one namespace or of all
    Collection(&'static Kind, Option<String>),
    /// one object
    Object(&'static Kind, Name),
    /// a part of one object
    Part(&'static Kind, Name, Subresource),
}

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// `None` for kinds without namespaces
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl Route {
    /// # Errors
    /// 404 for a path that means nothing here.
    pub(crate) fn parse(path: &str) -> Result<Self, ApiError> {
        let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        if let ["healthz" | "livez" | "readyz", ..] = segments.as_slice() {
            return Ok(Self::Health);
        }
        if let Some(page) = crate::discovery::Page::parse(&segments) {
            return Ok(Self::Discovery(page));
        }
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(ApiError::path_not_found()),
        };
        Self::below(group, version, rest).ok_or_else(ApiError::path_not_found)
    }

    fn below(group: &str, version: &str, rest: &[&str]) -> Option<Self> {
        if let ["namespaces", namespace, plural, rest @ ..] = rest
            && let Some(kind) = kinds::find(group, version, plural)
            && kind.namespaced
        {
            let namespace = Some((*namespace).to_owned());
            return match rest {
                [] => Some(Self::Collection(kind, namespace)),
                [name] => Some(Self::Object(kind, Name { namespace, name: (*name).to_owned() })),
                [name, part] => Self::part(kind, Name { namespace, name: (*name).to_owned() }, part),
                _ => None,
            };
        }
        let [plural, rest @ ..] = rest else { return None };
        let kind = kinds::find(group, version, plural)?;
        let name = |name: &str| Name { namespace: None, name: name.to_owned() };
        match rest {
            [] => Some(Self::Collection(kind, None)),
            _ if kind.namespaced => None,
            [object] => Some(Self::Object(kind, name(object))),
            [object, part] => Self::part(kind, name(object), part),
            _ => None,
        }
    }

    fn part(kind: &'static Kind, name: Name, part: &str) -> Option<Self> {
        let subresource = kind.subresources.iter().copied().find(|s| s.as_str() == part)?;
        Some(Self::Part(kind, name, subresource))
    }
}

/// The query of a request.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// # Errors
    /// 400 for a query that cannot be read.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| ApiError::bad_request(format!("the query cannot be read: {error}")))
    }

    /// The first value; an empty one counts as missing.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// All values, in order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean as Go's `strconv.ParseBool` reads it; missing is false.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(other) => {
                Err(ApiError::bad_request(format!("parameter `{name}`: `{other}` is neither true nor false")))
            }
        }
    }

    /// A number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.parse();
        number
            .map(Some)
            .map_err(|_| ApiError::bad_request(format!("parameter `{name}`: `{value}` is not a number in range")))
    }

    /// `labelSelector` and `fieldSelector`.
    pub(crate) fn filter(&self, kind: &Kind) -> Result<Filter, ApiError> {
        let labels = Selector::parse(self.get("labelSelector").unwrap_or_default())
            .map_err(|error| ApiError::bad_request(format!("unable to parse requirement: {error}")))?;
        let fields = FieldSelector::parse(self.get("fieldSelector").unwrap_or_default(), kind)?;
        Ok(Filter { labels, fields })
    }

    /// `dryRun`; only `All` is known.
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                Err(ApiError::bad_request(format!("dryRun: Unsupported value: \"{other}\": supported values: \"All\"")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Route;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let text = match Route::parse(path) {
            Ok(Route::Health) => "health".to_owned(),
            Ok(Route::Discovery(_)) => "discovery".to_owned(),
            Ok(Route::Collection(kind, namespace)) => format!("{}@{namespace:?}", kind.resource.plural),
            Ok(Route::Object(kind, name)) => format!("{}@{:?}/{}", kind.resource.plural, name.namespace, name.name),
            Ok(Route::Part(kind, name, part)) => {
                format!("{}@{:?}/{} {}", kind.resource.plural, name.namespace, name.name, part.as_str())
            }
            Err(error) => error.code.to_string(),
        };
        assert_eq!(text, expected, "{path}");
    }

    #[test]
    fn paths_are_read_as_kubernetes_reads_them() {
        check("/healthz", "health");
        check("/readyz/ping", "health");
        check("/api/v1", "discovery");
        check("/api/v1/pods", "pods@None");
        check("/api/v1/namespaces/a/pods", "pods@Some(\"a\")");
        check("/api/v1/namespaces/a/pods/b", "pods@Some(\"a\")/b");
        check("/api/v1/namespaces/a/pods/b/log", "pods@Some(\"a\")/b log");
        check("/api/v1/namespaces", "namespaces@None");
        check("/api/v1/namespaces/a", "namespaces@None/a");
        check("/api/v1/namespaces/a/finalize", "namespaces@None/a finalize");
        check("/api/v1/nodes/n/status", "nodes@None/n status");
        check("/apis/networking.k8s.io/v1/namespaces/a/networkpolicies", "networkpolicies@Some(\"a\")");
    }

    #[test]
    fn paths_that_mean_nothing_are_not_found() {
        for path in [
            "/",
            "/api/v2/pods",
            "/api/v1/pods/b",
            "/api/v1/namespaces/a/nodes",
            "/api/v1/namespaces/a/pods/b/proxy",
            "/apis/apps/v1/deployments",
            "/api/v1/namespaces/a/pods/b/log/c",
        ] {
            check(path, "404 Not Found");
        }
    }
}
