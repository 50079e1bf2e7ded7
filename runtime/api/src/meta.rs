//! `metadata`, the part that all kinds share: reading it from stored values, what the server alone decides about it, and its
//! validation (apimachinery `api/validation/objectmeta.go`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use minipod_model::{Labels, label};
use serde_json::{Map, Value, json};

use crate::field::FieldErrors;

/// Bytes of all annotations together.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// A string of `metadata`; empty if missing.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata`, made if missing.
pub(crate) fn fields(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    match &mut object["metadata"] {
        Value::Object(map) => map,
        // Just made an object of it.
        _ => unreachable!(),
    }
}

/// The labels.
pub(crate) fn labels(object: &Value) -> Labels {
    let labels = object.get("metadata").and_then(|m| m.get("labels")).and_then(Value::as_object);
    labels.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object.get("metadata").and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether deletion was asked for.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Removes what no client may write and the store does not keep.
pub(crate) fn strip(object: &mut Value) {
    let metadata = fields(object);
    for field in ["managedFields", "selfLink"] {
        metadata.remove(field);
    }
}

/// Fields that only the server sets: an update keeps the old values.
pub(crate) fn keep_server_fields(new: &mut Value, old: &Value) {
    let metadata = fields(new);
    for field in
        ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName"]
    {
        match old.get("metadata").and_then(|m| m.get(field)) {
            Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
    metadata.remove("resourceVersion");
}

/// Validates the metadata of any object. `name_problem` is the kind's rule for names.
pub(crate) fn validate(meta: &ObjectMeta, name_problem: fn(&str) -> Option<String>, errors: &mut FieldErrors) {
    if let Some(prefix) = meta.generate_name.as_deref().filter(|p| !p.is_empty()) {
        // A prefix may end with what may not end a name.
        let sample = format!("{}a", prefix.trim_end_matches(['-', '.']));
        errors.check("metadata.generateName", prefix, name_problem(&sample));
    }
    match meta.name.as_deref().unwrap_or_default() {
        "" => errors.required("metadata.name", "name or generateName is required"),
        name => errors.check("metadata.name", name, name_problem(name)),
    }
    for (key, value) in meta.labels.iter().flatten() {
        errors.check("metadata.labels", key, label::key_problem(key));
        errors.check("metadata.labels", value, label::value_problem(value));
    }
    let mut size = 0;
    for (key, value) in meta.annotations.iter().flatten() {
        errors.check("metadata.annotations", key, label::key_problem(&key.to_lowercase()));
        size += key.len() + value.len();
    }
    if size > MAX_ANNOTATIONS {
        errors.too_long("metadata.annotations", MAX_ANNOTATIONS);
    }
    for (index, finalizer) in meta.finalizers.iter().flatten().enumerate() {
        errors.check(format!("metadata.finalizers[{index}]"), finalizer, label::key_problem(finalizer));
    }
    for (index, owner) in meta.owner_references.iter().flatten().enumerate() {
        for (field, value) in
            [("apiVersion", &owner.api_version), ("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)]
        {
            if value.is_empty() {
                errors.invalid(format!("metadata.ownerReferences[{index}].{field}"), "", "must not be empty");
            }
        }
    }
}

/// Refuses owners: nobody here deletes an object because its owner is gone.
pub(crate) fn refuse_owners(meta: &ObjectMeta, errors: &mut FieldErrors) {
    if meta.owner_references.as_ref().is_some_and(|owners| !owners.is_empty()) {
        let detail = "the field is not supported by minipod, which deletes no object for its owner; remove it";
        errors.forbidden("metadata.ownerReferences", detail);
    }
}

/// Validates what an update does to the metadata.
pub(crate) fn validate_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if is_deleting(old) {
        let before = finalizers(old);
        let added: Vec<_> = finalizers(new).into_iter().filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            errors.forbidden("metadata.finalizers", detail);
        }
    }
}
