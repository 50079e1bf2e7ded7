//! Request bodies and what a request accepts.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::decode::{self, MAX_BODY};
use crate::kinds::Kind;
use crate::meta;
use crate::request::Params;
use crate::status::ApiError;

/// What happens to unknown and duplicate fields: `fieldValidation`. Unlike Kubernetes' default for other clients than kubectl,
/// a request that does not say is strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checks {
    Strict,
    Warn,
    Ignore,
}

impl Checks {
    pub(crate) fn from_params(params: &Params) -> Result<Self, ApiError> {
        match params.get("fieldValidation") {
            None | Some("Strict") => Ok(Self::Strict),
            Some("Warn") => Ok(Self::Warn),
            Some("Ignore") => Ok(Self::Ignore),
            Some(other) => Err(ApiError::bad_request(format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }

    /// Judges an object's fields; answers the warnings to send along.
    pub(crate) fn judge(self, kind: &Kind, object: &Value, duplicates: &[String]) -> Result<Vec<String>, ApiError> {
        let cannot = |problem: &str| {
            ApiError::bad_request(format!(
                "{} in version \"{}\" cannot be handled as a {}: {problem}",
                kind.resource.kind, kind.version, kind.resource.kind
            ))
        };
        let unknown = (kind.ops.unknown_fields)(object).map_err(|error| cannot(&error.to_string()))?;
        let complaints = duplicates
            .iter()
            .map(|path| format!("duplicate field \"{path}\""))
            .chain(unknown.iter().map(|path| format!("unknown field \"{path}\"")))
            .collect::<Vec<_>>();
        match self {
            Self::Strict if !complaints.is_empty() => {
                Err(cannot(&format!("strict decoding error: {}", complaints.join(", "))))
            }
            Self::Warn => Ok(complaints),
            Self::Strict | Self::Ignore => Ok(Vec::new()),
        }
    }
}

/// The whole body with its content type.
pub(super) async fn read_bytes(request: Request) -> Result<(Bytes, Option<String>), ApiError> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let bytes = to_bytes(request.into_body(), MAX_BODY).await.map_err(|_| ApiError::too_large(MAX_BODY))?;
    Ok((bytes, content_type))
}

/// A JSON or YAML body, whatever it says.
pub(super) async fn read_json(request: Request) -> Result<Value, ApiError> {
    let (bytes, content_type) = read_bytes(request).await?;
    decode::parse(&bytes, content_type.as_deref()).map(|body| body.value)
}

/// An object of `kind`, with its fields judged.
pub(super) async fn read_object(
    request: Request,
    kind: &Kind,
    checks: Checks,
) -> Result<(Value, Vec<String>), ApiError> {
    let (bytes, content_type) = read_bytes(request).await?;
    let mut body = decode::parse(&bytes, content_type.as_deref())?;
    prepare(kind, &mut body.value)?;
    let warnings = checks.judge(kind, &body.value, &body.duplicates)?;
    Ok((body.value, warnings))
}

/// Makes sure that a value says it is of `kind`, and brings it into the form that the kind's functions take.
pub(super) fn prepare(kind: &Kind, object: &mut Value) -> Result<(), ApiError> {
    let Some(map) = object.as_object_mut() else {
        return Err(ApiError::bad_request(format!("the body is not an object; send one {}", kind.resource.kind)));
    };
    for (field, expected) in [("apiVersion", kind.api_version()), ("kind", kind.resource.kind.to_owned())] {
        match map.get(field).and_then(Value::as_str) {
            None | Some("") => drop(map.insert(field.to_owned(), expected.into())),
            Some(given) if given != expected => {
                return Err(ApiError::bad_request(format!(
                    "the {field} in the data ({given}) does not match the expected {field} ({expected})"
                )));
            }
            Some(_) => {}
        }
    }
    if map.get("metadata").is_some_and(|metadata| !metadata.is_object() && !metadata.is_null()) {
        return Err(ApiError::bad_request("metadata: not an object"));
    }
    meta::strip(object);
    (kind.ops.normalise)(object);
    Ok(())
}

/// Refuses a request that takes no JSON.
pub(super) fn check_accept(request: &Request) -> Result<(), ApiError> {
    let mut accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if accepted.peek().is_none() {
        return Ok(());
    }
    let all: Vec<_> = accepted.flat_map(|value| value.split(',')).map(str::trim).collect();
    let takes_json = |item: &&str| {
        let mut parts = item.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        matches!(media_type, "" | "*/*" | "application/*" | "application/json") && !parts.any(|p| p.starts_with("as="))
    };
    if all.iter().any(takes_json) { Ok(()) } else { Err(ApiError::not_acceptable(&all.join(","))) }
}

/// Adds `Warning` headers (RFC 7234, code 299 as Kubernetes uses it).
pub(super) fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        let text = format!("299 - \"{}\"", warning.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(HeaderName::from_static("warning"), value);
        }
    }
    response
}
