//! Get and list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::meta;
use crate::request::{Name, Params};
use crate::shared::Shared;
use crate::status::ApiError;
use crate::store::Record;

/// The object of a record, as clients see it.
pub(super) fn object(record: &Record) -> Result<Value, ApiError> {
    at_revision(&record.value, record.mod_revision)
}

/// The object of stored bytes, with a resource version.
pub(super) fn at_revision(bytes: &[u8], revision: u64) -> Result<Value, ApiError> {
    let mut object: Value = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::internal(&format!("an object in the store cannot be read: {error}")))?;
    set_revision(&mut object, revision);
    Ok(object)
}

pub(super) fn set_revision(object: &mut Value, revision: u64) {
    meta::fields(object).insert("resourceVersion".to_owned(), revision.to_string().into());
}

pub(super) async fn record(shared: &Shared, kind: &Kind, name: &Name) -> Result<Record, ApiError> {
    let key = kind.key(name.namespace.as_deref(), &name.name);
    let record = shared.store.get(&key).await.map_err(|error| ApiError::from_store(&error))?;
    record.ok_or_else(|| ApiError::not_found(kind.resource, &name.name))
}

pub(super) async fn get(shared: &Shared, kind: &Kind, name: &Name) -> Result<Value, ApiError> {
    object(&record(shared, kind, name).await?)
}

/// Which revision a list shows.
struct Page {
    /// exactly this one; `None`: the latest
    revision: Option<u64>,
    /// only keys after this one
    after: Option<String>,
    limit: Option<usize>,
}

impl Page {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let limit = params.number::<usize>("limit")?.filter(|limit| *limit > 0);
        if let Some(token) = params.get("continue") {
            let (revision, after) = read_token(token).ok_or_else(|| {
                ApiError::bad_request("continue key is not valid: take it from the previous list as it is")
            })?;
            return Ok(Self { revision: Some(revision), after: Some(after), limit });
        }
        let revision = params.number::<u64>("resourceVersion")?;
        let exact = match params.get("resourceVersionMatch") {
            None | Some("NotOlderThan") => false,
            Some("Exact") => true,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "resourceVersionMatch: Unsupported value: \"{other}\": supported values: \"Exact\", \"NotOlderThan\""
                )));
            }
        };
        Ok(Self { revision: revision.filter(|revision| exact && *revision > 0), after: None, limit })
    }
}

pub(super) async fn list(
    shared: &Shared,
    kind: &Kind,
    namespace: Option<&str>,
    params: &Params,
) -> Result<Value, ApiError> {
    let filter = params.filter(kind)?;
    let page = Page::read(params)?;
    let prefix = kind.prefix(namespace);
    let listing = shared.store.list(&prefix, page.revision).await.map_err(|error| ApiError::from_store(&error))?;
    let minimum = params.number::<u64>("resourceVersion")?.unwrap_or_default();
    if page.after.is_none() && minimum > listing.revision {
        let ahead = crate::store::StoreError::Future { wanted: minimum, current: listing.revision };
        return Err(ApiError::from_store(&ahead));
    }
    let mut items = Vec::new();
    let mut next = None;
    let mut last_key = String::new();
    for (key, record) in &listing.records {
        if page.after.as_ref().is_some_and(|after| key <= after) {
            continue;
        }
        let object = object(record)?;
        if !filter.matches(&object) {
            continue;
        }
        if page.limit.is_some_and(|limit| items.len() == limit) {
            next = Some(write_token(listing.revision, &last_key));
            break;
        }
        last_key.clone_from(key);
        items.push(object);
    }
    let mut metadata = json!({"resourceVersion": listing.revision.to_string()});
    if let Some(token) = next {
        metadata["continue"] = token.into();
    }
    Ok(json!({
        "kind": format!("{}List", kind.resource.kind),
        "apiVersion": kind.api_version(),
        "metadata": metadata,
        "items": items,
    }))
}

fn write_token(revision: u64, key: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{revision} {key}"))
}

fn read_token(token: &str) -> Option<(u64, String)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (revision, key) = text.split_once(' ')?;
    Some((revision.parse().ok()?, key.to_owned()))
}
