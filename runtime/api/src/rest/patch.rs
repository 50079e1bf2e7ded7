//! Patch: JSON merge patch and strategic merge patch. Other kinds of patch are refused by name.

use std::sync::Mutex;

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::body::{self, Checks};
use super::update::update;
use crate::decode;
use crate::kinds::{Kind, Part};
use crate::merge::{merge, strategic_merge};
use crate::request::{Name, Params};
use crate::shared::Shared;
use crate::status::ApiError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PatchType {
    Merge,
    Strategic,
}

impl PatchType {
    fn read(content_type: Option<&str>) -> Result<Self, ApiError> {
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let refuse = |what: &str| {
            Err(ApiError::unsupported_media_type(&format!(
                "{what} ({media_type}) is not supported; send application/merge-patch+json"
            )))
        };
        match media_type {
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/json-patch+json" => refuse("JSON patch"),
            "application/apply-patch+yaml" => refuse("server-side apply"),
            _ => refuse("this type of patch"),
        }
    }
}

pub(super) async fn patch(
    shared: &Shared,
    request: Request,
    kind: &Kind,
    name: &Name,
    part: Part,
    params: &Params,
) -> Result<Response, ApiError> {
    let checks = Checks::from_params(params)?;
    let (bytes, content_type) = body::read_bytes(request).await?;
    let patch_type = PatchType::read(content_type.as_deref())?;
    let patch = decode::parse_json(&bytes)?;
    if !patch.value.is_object() {
        return Err(ApiError::bad_request("the patch is not an object"));
    }
    let warnings = Mutex::new(Vec::new());
    let change = |old: &Value| {
        let mut new = old.clone();
        match patch_type {
            PatchType::Merge => merge(&mut new, &patch.value),
            PatchType::Strategic => {
                strategic_merge(&mut new, &patch.value).map_err(|what| ApiError::unsupported_media_type(&what))?;
            }
        }
        body::prepare(kind, &mut new)?;
        let found = checks.judge(kind, &new, &patch.duplicates)?;
        if let Ok(mut warnings) = warnings.lock() {
            *warnings = found;
        }
        Ok(new)
    };
    let updated = update(shared, kind, name, part, params.dry_run()?, change).await?;
    let warnings = warnings.into_inner().unwrap_or_default();
    Ok(body::with_warnings(Json(updated).into_response(), &warnings))
}
