//! Update: puts a new state in the place of the one that it was made from.

use serde_json::{Value, json};

use super::create::{ATTEMPTS, add_claims, bytes, claims, time};
use super::read;
use crate::kinds::{Context, Deletion, Kind, Part, Subresource};
use crate::meta;
use crate::request::Name;
use crate::shared::Shared;
use crate::status::ApiError;
use crate::store::{Precondition, StoreError, Transaction, Write};

/// Replaces an object, or a part of it, by what `change` makes of it. Without a resource version in the new state the change is
/// made again when someone else was quicker. Answers the object as stored.
pub(super) async fn update(
    shared: &Shared,
    kind: &Kind,
    name: &Name,
    part: Part,
    dry_run: bool,
    change: impl Fn(&Value) -> Result<Value, ApiError>,
) -> Result<Value, ApiError> {
    for _ in 0..ATTEMPTS {
        let record = read::record(shared, kind, name).await?;
        let old = read::object(&record)?;
        let wanted = change(&old)?;
        check_identity(kind, name, &wanted, &old)?;
        let mut taken = claims(shared, kind).await?;
        for own in (kind.ops.claims)(&old) {
            taken.remove(&own);
        }
        let new = next_state(kind, part, wanted, &old);
        let context = Context { cluster: &shared.cluster, taken: &taken };
        let mut new = (kind.ops.update)(&new, &old, part, &context)
            .map_err(|errors| ApiError::invalid(kind.resource, &name.name, &errors))?;
        count_generation(kind, &mut new, &old);
        read::set_revision(&mut new, record.mod_revision);
        if new == old || dry_run {
            return Ok(new);
        }
        let key = kind.key(name.namespace.as_deref(), &name.name);
        let gone = is_gone(kind, &new);
        let write = if gone { Write::Delete(key.clone()) } else { Write::Put(key.clone(), bytes(&new)?) };
        let preconditions = vec![Precondition::Unchanged(key, record.mod_revision)];
        let mut transaction = Transaction { preconditions, writes: vec![write] };
        add_claims(kind, &mut transaction, Some(&old), Some(&new).filter(|_| !gone));
        match shared.store.commit(transaction).await {
            Ok(revision) => {
                read::set_revision(&mut new, revision);
                return Ok(new);
            }
            // The next round finds what has changed, and refuses it if the new state says what it was made from.
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(ApiError::from_store(&error)),
        }
    }
    Err(ApiError::modified(kind.resource, &name.name))
}

/// The new state must be about the same object, and made from its latest state if it says from which.
fn check_identity(kind: &Kind, name: &Name, new: &Value, old: &Value) -> Result<(), ApiError> {
    let given = meta::text(new, "name");
    if given.is_empty() {
        return Err(ApiError::bad_request("name must be provided"));
    }
    if given != name.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            name.name
        )));
    }
    let namespace = meta::text(new, "namespace");
    if !namespace.is_empty() && Some(namespace) != name.namespace.as_deref() {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    check_uid(kind, name, meta::text(new, "uid"), old)?;
    let version = meta::text(new, "resourceVersion");
    if !version.is_empty() && version != meta::text(old, "resourceVersion") {
        return Err(ApiError::modified(kind.resource, &name.name));
    }
    Ok(())
}

/// Refuses a UID that is given and not the object's.
pub(super) fn check_uid(kind: &Kind, name: &Name, uid: &str, object: &Value) -> Result<(), ApiError> {
    let found = meta::text(object, "uid");
    if uid.is_empty() || uid == found {
        return Ok(());
    }
    let problem = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
    Err(ApiError::conflict(kind.resource, &name.name, &problem))
}

/// The old object with the part that the update is about taken from the new one.
fn next_state(kind: &Kind, part: Part, mut new: Value, old: &Value) -> Value {
    let take = |target: &mut Value, source: &Value, field: &str| {
        if let Some(target) = target.as_object_mut() {
            match source.get(field) {
                Some(value) => drop(target.insert(field.to_owned(), value.clone())),
                None => drop(target.shift_remove(field)),
            }
        }
    };
    match part {
        Part::Main => {
            if kind.has(Subresource::Status) {
                take(&mut new, old, "status");
            }
            if kind.namespaced {
                let namespace = meta::text(old, "namespace").to_owned();
                meta::fields(&mut new).insert("namespace".to_owned(), namespace.into());
            }
            meta::keep_server_fields(&mut new, old);
            new
        }
        Part::Status => {
            let mut state = old.clone();
            take(&mut state, &new, "status");
            meta::fields(&mut state).remove("resourceVersion");
            state
        }
        Part::Finalizers => {
            let mut state = old.clone();
            let finalizers = new.pointer("/spec/finalizers").cloned().unwrap_or_else(|| json!([]));
            if !state["spec"].is_object() {
                state["spec"] = json!({});
            }
            state["spec"]["finalizers"] = finalizers;
            meta::fields(&mut state).remove("resourceVersion");
            state
        }
    }
}

/// `metadata.generation` counts changes of everything but metadata and status.
fn count_generation(kind: &Kind, new: &mut Value, old: &Value) {
    let body = |object: &Value| {
        let mut body = object.as_object().cloned().unwrap_or_default();
        for field in ["metadata", "status"] {
            body.remove(field);
        }
        body
    };
    if kind.generations && body(new) != body(old) {
        bump_generation(new);
    }
}

pub(super) fn bump_generation(object: &mut Value) {
    let fields = meta::fields(object);
    let generation = fields.get("generation").and_then(Value::as_i64).unwrap_or_default() + 1;
    fields.insert("generation".to_owned(), generation.into());
}

/// Whether nothing holds an object any more whose deletion was asked for.
pub(super) fn is_gone(kind: &Kind, object: &Value) -> bool {
    if !meta::is_deleting(object) || !meta::finalizers(object).is_empty() {
        return false;
    }
    match kind.deletion {
        Deletion::AtOnce => true,
        Deletion::Graceful => {
            object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default() == 0
        }
        Deletion::Finalized => object.pointer("/spec/finalizers").and_then(Value::as_array).is_none_or(Vec::is_empty),
    }
}

/// `pods/binding`: gives a pod its node, once.
pub(super) async fn bind(
    shared: &Shared,
    kind: &Kind,
    name: &Name,
    binding: &Value,
    dry_run: bool,
) -> Result<(), ApiError> {
    let node = binding.pointer("/target/name").and_then(Value::as_str).unwrap_or_default();
    if node.is_empty() {
        return Err(ApiError::bad_request("target.name: Required value: the name of the node"));
    }
    let uid = meta::text(binding, "uid");
    for _ in 0..ATTEMPTS {
        let record = read::record(shared, kind, name).await?;
        let old = read::object(&record)?;
        check_uid(kind, name, uid, &old)?;
        if meta::is_deleting(&old) {
            let problem = format!("pod {} is being deleted, cannot be assigned to a host", name.name);
            return Err(ApiError::conflict(kind.resource, &name.name, &problem));
        }
        let current = old.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
        if !current.is_empty() {
            let problem = format!("pod {} is already assigned to node \"{current}\"", name.name);
            return Err(ApiError::conflict(kind.resource, &name.name, &problem));
        }
        let new = bound(old, node);
        if dry_run {
            return Ok(());
        }
        let key = kind.key(name.namespace.as_deref(), &name.name);
        let transaction = Transaction {
            preconditions: vec![Precondition::Unchanged(key.clone(), record.mod_revision)],
            writes: vec![Write::Put(key, bytes(&new)?)],
        };
        match shared.store.commit(transaction).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(ApiError::from_store(&error)),
        }
    }
    Err(ApiError::modified(kind.resource, &name.name))
}

/// The pod with its node and the condition that says so.
fn bound(mut pod: Value, node: &str) -> Value {
    pod["spec"]["nodeName"] = node.into();
    if !pod["status"].is_object() {
        pod["status"] = json!({"phase": "Pending"});
    }
    let scheduled = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastTransitionTime": time(jiff::Timestamp::now()),
    });
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(scheduled);
    pod["status"]["conditions"] = conditions.into();
    pod
}
