//! Create: completes a new object and commits it together with what it claims, on condition that its namespace is there.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::read;
use crate::kinds::{self, Context, Kind};
use crate::meta;
use crate::shared::Shared;
use crate::status::ApiError;
use crate::store::{Precondition, StoreError, Transaction, Write};

/// Attempts at a write that others get in the way of.
pub(super) const ATTEMPTS: usize = 16;
/// Letters of generated names, as in Kubernetes: no vowels and nothing that looks like something else.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX: usize = 5;
/// A longer prefix is cut so that the name fits a label value.
const MAX_PREFIX: usize = 63 - SUFFIX;

/// Creates an object whose fields were judged; answers it as stored.
pub(crate) async fn create(
    shared: &Shared,
    kind: &Kind,
    namespace: Option<&str>,
    object: Value,
    dry_run: bool,
) -> Result<Value, ApiError> {
    let object = addressed(kind, namespace, object)?;
    let prefix = meta::text(&object, "generateName").to_owned();
    let generated = meta::text(&object, "name").is_empty() && !prefix.is_empty();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let mut object = object.clone();
        if generated {
            meta::fields(&mut object).insert("name".to_owned(), generate_name(&prefix).into());
        }
        let name = meta::text(&object, "name").to_owned();
        let mut preconditions = Vec::new();
        if let Some(namespace) = namespace {
            preconditions.push(namespace_is_there(shared, kind, &name, namespace).await?);
        }
        let taken = claims(shared, kind).await?;
        let context = Context { cluster: &shared.cluster, taken: &taken };
        let mut object =
            (kind.ops.create)(&object, &context).map_err(|errors| ApiError::invalid(kind.resource, &name, &errors))?;
        begin(kind, &mut object);
        let key = kind.key(namespace, &name);
        preconditions.push(Precondition::Absent(key.clone()));
        let mut transaction = Transaction { preconditions, writes: vec![Write::Put(key.clone(), bytes(&object)?)] };
        add_claims(kind, &mut transaction, None, Some(&object));
        if dry_run {
            let exists = shared.store.get(&key).await.map_err(|error| ApiError::from_store(&error))?.is_some();
            return if exists { Err(ApiError::already_exists(kind.resource, &name)) } else { Ok(object) };
        }
        match shared.store.commit(transaction).await {
            Ok(revision) => {
                read::set_revision(&mut object, revision);
                return Ok(object);
            }
            Err(StoreError::Conflict { key: found }) if found == key && !generated => {
                return Err(ApiError::already_exists(kind.resource, &name));
            }
            Err(StoreError::Conflict { .. }) => last = Some(ApiError::already_exists(kind.resource, &name)),
            Err(error) => return Err(ApiError::from_store(&error)),
        }
    }
    Err(last.unwrap_or_else(|| ApiError::internal("the object could not be created")))
}

/// Puts the namespace of the path into the object.
fn addressed(kind: &Kind, namespace: Option<&str>, mut object: Value) -> Result<Value, ApiError> {
    if !meta::text(&object, "resourceVersion").is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let given = meta::text(&object, "namespace");
    if !given.is_empty() && Some(given) != namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let fields = meta::fields(&mut object);
    if let Some(namespace) = namespace {
        fields.insert("namespace".to_owned(), namespace.into());
    }
    for field in ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        fields.remove(field);
    }
    if !kind.resource.kind.eq("Node")
        && kind.has(kinds::Subresource::Status)
        && let Some(map) = object.as_object_mut()
    {
        map.remove("status");
    }
    Ok(object)
}

/// What the server alone sets.
fn begin(kind: &Kind, object: &mut Value) {
    let fields = meta::fields(object);
    fields.insert("uid".to_owned(), Uuid::new_v4().to_string().into());
    fields.insert("creationTimestamp".to_owned(), time(Timestamp::now()).into());
    if kind.generations {
        fields.insert("generation".to_owned(), 1.into());
    }
}

/// A time as `metav1.Time` is written: whole seconds.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A random name below a prefix.
fn generate_name(prefix: &str) -> String {
    let cut = prefix.char_indices().map(|(index, _)| index).find(|index| *index >= MAX_PREFIX).unwrap_or(prefix.len());
    let random = Uuid::new_v4();
    let letters = random.as_bytes().iter().take(SUFFIX).map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()]));
    prefix[..cut].chars().chain(letters).collect()
}

/// The condition that a namespace stays as it is now: there, and not on its way out.
async fn namespace_is_there(
    shared: &Shared,
    kind: &Kind,
    name: &str,
    namespace: &str,
) -> Result<Precondition, ApiError> {
    let namespaces = kinds::named("Namespace").ok_or_else(ApiError::path_not_found)?;
    let key = namespaces.key(None, namespace);
    let record = shared.store.get(&key).await.map_err(|error| ApiError::from_store(&error))?;
    let record = record.ok_or_else(|| ApiError::not_found(namespaces.resource, namespace))?;
    if meta::is_deleting(&read::object(&record)?) {
        return Err(ApiError::namespace_terminating(kind.resource, name, namespace));
    }
    Ok(Precondition::Unchanged(key, record.mod_revision))
}

/// What objects of the kind claim now.
pub(super) async fn claims(shared: &Shared, kind: &Kind) -> Result<BTreeSet<String>, ApiError> {
    let Some(prefix) = kind.claims else { return Ok(BTreeSet::new()) };
    let listing = shared.store.list(prefix, None).await.map_err(|error| ApiError::from_store(&error))?;
    Ok(listing.records.into_iter().filter_map(|(key, _)| key.strip_prefix(prefix).map(str::to_owned)).collect())
}

/// Adds to a transaction that an object takes new claims and gives up old ones.
pub(super) fn add_claims(kind: &Kind, transaction: &mut Transaction, old: Option<&Value>, new: Option<&Value>) {
    let Some(prefix) = kind.claims else { return };
    let of = |object: Option<&Value>| object.map(|object| (kind.ops.claims)(object)).unwrap_or_default();
    let (before, after) = (of(old), of(new));
    for claim in after.iter().filter(|claim| !before.contains(claim)) {
        let key = format!("{prefix}{claim}");
        let holder = new.map(|object| format!("{}/{}", meta::text(object, "namespace"), meta::text(object, "name")));
        transaction.preconditions.push(Precondition::Absent(key.clone()));
        transaction.writes.push(Write::Put(key, holder.unwrap_or_default().into()));
    }
    for claim in before.iter().filter(|claim| !after.contains(claim)) {
        transaction.writes.push(Write::Delete(format!("{prefix}{claim}")));
    }
}

/// The bytes to store: the object without its resource version, which is the store's.
pub(super) fn bytes(object: &Value) -> Result<bytes::Bytes, ApiError> {
    let bytes = if meta::text(object, "resourceVersion").is_empty() {
        serde_json::to_vec(object)
    } else {
        let mut object = object.clone();
        meta::fields(&mut object).remove("resourceVersion");
        serde_json::to_vec(&object)
    };
    bytes.map(Into::into).map_err(|error| ApiError::internal(&format!("the object cannot be written: {error}")))
}
