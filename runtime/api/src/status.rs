//! Errors as Kubernetes puts them: a `Status` object with code, reason, message and causes (apimachinery `api/errors`). The
//! words are Kubernetes', so that clients and people recognise them.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use crate::field::FieldError;
use crate::store::StoreError;

/// A request that was refused, as a `Status`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) code: StatusCode,
    reason: &'static str,
    message: String,
    details: Option<Value>,
}

/// Plural name and group of a kind, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
}

impl Resource {
    /// `networkpolicies.networking.k8s.io`, `pods`
    fn qualified_plural(self) -> String {
        qualify(self.plural, self.group)
    }

    fn details(self, name: &str) -> Value {
        let mut details = json!({"name": name, "kind": self.plural});
        if !self.group.is_empty() {
            details["group"] = self.group.into();
        }
        details
    }
}

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

impl ApiError {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn not_found(resource: Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.qualified_plural());
        Self { details: Some(resource.details(name)), ..Self::new(StatusCode::NOT_FOUND, "NotFound", message) }
    }

    /// Something other than an object is missing, e.g. a log.
    pub(crate) fn missing(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(crate) fn path_not_found() -> Self {
        let message = "the server could not find the requested resource";
        Self { details: Some(json!({})), ..Self::new(StatusCode::NOT_FOUND, "NotFound", message) }
    }

    pub(crate) fn already_exists(resource: Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.qualified_plural());
        Self { details: Some(resource.details(name)), ..Self::new(StatusCode::CONFLICT, "AlreadyExists", message) }
    }

    pub(crate) fn conflict(resource: Resource, name: &str, problem: &str) -> Self {
        let plural = resource.qualified_plural();
        let message = format!("Operation cannot be fulfilled on {plural} \"{name}\": {problem}");
        Self { details: Some(resource.details(name)), ..Self::new(StatusCode::CONFLICT, "Conflict", message) }
    }

    /// A write on top of an outdated `resourceVersion`.
    pub(crate) fn modified(resource: Resource, name: &str) -> Self {
        let problem = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, problem)
    }

    pub(crate) fn forbidden(resource: Resource, name: &str, problem: &str) -> Self {
        let message = format!("{} \"{name}\" is forbidden: {problem}", resource.qualified_plural());
        Self { details: Some(resource.details(name)), ..Self::new(StatusCode::FORBIDDEN, "Forbidden", message) }
    }

    /// New content in a namespace that is being deleted.
    pub(crate) fn namespace_terminating(resource: Resource, name: &str, namespace: &str) -> Self {
        let problem = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = Self::forbidden(resource, name, &problem);
        if let Some(details) = &mut error.details {
            details["causes"] = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            }]);
        }
        error
    }

    /// An object that validation refuses; `errors` is not empty.
    pub(crate) fn invalid(resource: Resource, name: &str, errors: &[FieldError]) -> Self {
        let kind = qualify(resource.kind, resource.group);
        let all = match errors {
            [only] => only.to_string(),
            several => format!("[{}]", several.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        };
        let message = format!("{kind} \"{name}\" is invalid: {all}");
        let mut details = resource.details(name);
        details["kind"] = resource.kind.into();
        details["causes"] = errors.iter().map(FieldError::cause).collect();
        Self { details: Some(details), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message) }
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// A body or patch in a format that is not taken; `detail` names it and the next step.
    pub(crate) fn unsupported_media_type(detail: &str) -> Self {
        let message = format!("the body of the request was in an unknown format - {detail}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(crate) fn not_acceptable(accept: &str) -> Self {
        let message = format!(
            "only the following media types are accepted: application/json, application/json;stream=watch; the request accepts {accept}"
        );
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// 410: list again.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    pub(crate) fn internal(message: &str) -> Self {
        let message = format!("Internal error occurred: {message}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// What the store says to a request that is not about its own preconditions.
    pub(crate) fn from_store(error: &StoreError) -> Self {
        match error {
            StoreError::Compacted { wanted, oldest } => {
                Self::expired(format!("too old resource version: {wanted} ({oldest})"))
            }
            StoreError::Future { wanted, current } => {
                let message = format!("Too large resource version: {wanted}, current: {current}");
                let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
                Self {
                    details: Some(json!({"causes": [cause], "retryAfterSeconds": 1})),
                    ..Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", format!("Timeout: {message}"))
                }
            }
            StoreError::Conflict { .. } | StoreError::Closed { .. } => Self::internal(&with_causes(error)),
            StoreError::Write { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "InternalError", with_causes(error))
            }
        }
    }

    /// Whether the object that it is about is missing.
    pub(crate) fn is_not_found(&self) -> bool {
        self.code == StatusCode::NOT_FOUND
    }

    /// The `Status` object.
    pub(crate) fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status["code"] = self.code.as_u16().into();
        status
    }
}

/// An error with everything that led to it, for a message that leaves the process.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The `Status` of a success that has no object to show.
pub(crate) fn success(resource: Resource, name: &str, uid: &str) -> Value {
    let mut details = resource.details(name);
    details["uid"] = uid.into();
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.code, Json(self.to_value())).into_response()
    }
}
