//! Delete: removes an object, or marks it until whoever must act on it has done so.

use axum::extract::Request;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::create::{ATTEMPTS, add_claims, bytes, time};
use super::update::{bump_generation, check_uid, is_gone};
use super::{body, read};
use crate::kinds::{Deletion, Kind, PERMANENT_NAMESPACES};
use crate::meta;
use crate::request::{Name, Params};
use crate::shared::Shared;
use crate::status::{self, ApiError};
use crate::store::{Precondition, StoreError, Transaction, Write};

/// Seconds that a pod gets when neither it nor the request says.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// What a deletion asks for: `DeleteOptions`. Propagation is not looked at; owners are cleaned up after by controllers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    grace_period_seconds: Option<i64>,
    uid: String,
    resource_version: String,
    dry_run: bool,
}

impl Options {
    pub(super) async fn read(request: Request, params: &Params) -> Result<Self, ApiError> {
        let (bytes, content_type) = body::read_bytes(request).await?;
        let body =
            if bytes.is_empty() { json!({}) } else { crate::decode::parse(&bytes, content_type.as_deref())?.value };
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let grace = match body.get("gracePeriodSeconds") {
            None | Some(Value::Null) => params.number("gracePeriodSeconds")?,
            Some(given) => Some(given.as_i64().ok_or_else(|| {
                ApiError::bad_request(format!("gracePeriodSeconds: Invalid value: {given}: not a whole number"))
            })?),
        };
        let in_body = body.get("dryRun").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
        Ok(Self {
            // As in Kubernetes: less than nothing is one second.
            grace_period_seconds: grace.map(|seconds: i64| if seconds < 0 { 1 } else { seconds }),
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run: in_body || params.dry_run()?,
        })
    }
}

/// What becomes of an object whose deletion is asked for.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// it goes now
    Remove,
    /// it is marked
    Mark(Value),
    /// it is marked already
    Nothing,
}

fn next_step(kind: &Kind, object: &Value, options: &Options, now: Timestamp) -> Step {
    let grace = match kind.deletion {
        Deletion::AtOnce | Deletion::Finalized => 0,
        Deletion::Graceful => grace_seconds(object, options),
    };
    let mut marked = object.clone();
    let fields = meta::fields(&mut marked);
    if meta::is_deleting(object) {
        let current =
            object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or_default();
        if grace >= current && !(grace == 0 && kind.deletion == Deletion::Graceful && is_gone(kind, object)) {
            return Step::Nothing;
        }
        let deadline = meta::text(object, "deletionTimestamp").parse().unwrap_or(now);
        let sooner = deadline - SignedDuration::from_secs(current - grace);
        fields.insert("deletionTimestamp".to_owned(), time(sooner).into());
    } else {
        fields.insert("deletionTimestamp".to_owned(), time(now + SignedDuration::from_secs(grace)).into());
    }
    fields.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if kind.deletion == Deletion::Finalized {
        fields.remove("deletionGracePeriodSeconds");
        marked["status"]["phase"] = "Terminating".into();
    }
    if is_gone(kind, &marked) {
        return Step::Remove;
    }
    if kind.generations {
        bump_generation(&mut marked);
    }
    Step::Mark(marked)
}

/// Seconds that a pod gets: none if nobody runs it.
fn grace_seconds(pod: &Value, options: &Options) -> i64 {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/spec/nodeName").is_empty() || matches!(text("/status/phase"), "Succeeded" | "Failed") {
        return 0;
    }
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    options.grace_period_seconds.or(own).unwrap_or(DEFAULT_GRACE_SECONDS)
}

/// Answers the object if it is still there or is a pod, otherwise a `Status`.
pub(super) async fn delete(shared: &Shared, kind: &Kind, name: &Name, options: &Options) -> Result<Value, ApiError> {
    if kind.deletion == Deletion::Finalized && PERMANENT_NAMESPACES.contains(&name.name.as_str()) {
        return Err(ApiError::forbidden(kind.resource, &name.name, "this namespace may not be deleted"));
    }
    for _ in 0..ATTEMPTS {
        let record = read::record(shared, kind, name).await?;
        let object = read::object(&record)?;
        check_uid(kind, name, &options.uid, &object)?;
        let version = meta::text(&object, "resourceVersion");
        if !options.resource_version.is_empty() && options.resource_version != version {
            let problem = format!(
                "Precondition failed: ResourceVersion in precondition: {}, ResourceVersion in object meta: {version}",
                options.resource_version
            );
            return Err(ApiError::conflict(kind.resource, &name.name, &problem));
        }
        let key = kind.key(name.namespace.as_deref(), &name.name);
        let mut transaction = Transaction {
            preconditions: vec![Precondition::Unchanged(key.clone(), record.mod_revision)],
            writes: Vec::new(),
        };
        let mut result = match next_step(kind, &object, options, Timestamp::now()) {
            Step::Nothing => return Ok(object),
            Step::Mark(marked) => {
                transaction.writes.push(Write::Put(key, bytes(&marked)?));
                marked
            }
            Step::Remove => {
                transaction.writes.push(Write::Delete(key));
                add_claims(kind, &mut transaction, Some(&object), None);
                match kind.deletion {
                    Deletion::Graceful => object,
                    _ => status::success(kind.resource, &name.name, meta::text(&object, "uid")),
                }
            }
        };
        if options.dry_run {
            return Ok(result);
        }
        match shared.store.commit(transaction).await {
            Ok(revision) => {
                if result["kind"] != "Status" {
                    read::set_revision(&mut result, revision);
                }
                return Ok(result);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(ApiError::from_store(&error)),
        }
    }
    Err(ApiError::modified(kind.resource, &name.name))
}

/// Deletes what a list selects; answers the list.
pub(super) async fn delete_collection(
    shared: &Shared,
    kind: &Kind,
    namespace: Option<&str>,
    params: &Params,
    options: &Options,
) -> Result<Value, ApiError> {
    if kind.deletion == Deletion::Finalized {
        return Err(ApiError::method_not_allowed());
    }
    let list = read::list(shared, kind, namespace, params).await?;
    for object in list["items"].as_array().into_iter().flatten() {
        let namespace = Some(meta::text(object, "namespace").to_owned()).filter(|n| !n.is_empty());
        let name = Name { namespace, name: meta::text(object, "name").to_owned() };
        match delete(shared, kind, &name, options).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{Options, Step, next_step};
    use crate::kinds;

    fn step(kind: &str, object: &Value, grace: Option<i64>) -> String {
        let kind = kinds::named(kind).expect("a kind");
        let options = Options { grace_period_seconds: grace, ..Options::default() };
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().expect("a time");
        match next_step(kind, object, &options, now) {
            Step::Remove => "removed".to_owned(),
            Step::Nothing => "nothing".to_owned(),
            Step::Mark(object) => format!(
                "{} {}",
                object["metadata"]["deletionTimestamp"].as_str().unwrap_or_default(),
                object["metadata"]["deletionGracePeriodSeconds"]
            ),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "metadata is written where it is used")]
    fn pod(metadata: Value, phase: &str) -> Value {
        json!({"metadata": metadata, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}})
    }

    #[test]
    fn a_running_pod_gets_its_grace_period() {
        let running = pod(json!({}), "Running");
        assert_eq!(step("Pod", &running, None), "2030-01-01T00:00:30Z 30");
        assert_eq!(step("Pod", &running, Some(5)), "2030-01-01T00:00:05Z 5");
        assert_eq!(step("Pod", &running, Some(0)), "removed");
    }

    #[test]
    fn a_pod_that_nobody_runs_goes_at_once() {
        assert_eq!(step("Pod", &pod(json!({}), "Succeeded"), None), "removed");
        assert_eq!(step("Pod", &json!({"spec": {}, "metadata": {}}), None), "removed");
    }

    #[test]
    fn a_second_deletion_only_shortens_the_grace_period() {
        let deleting =
            pod(json!({"deletionTimestamp": "2030-01-01T00:00:20Z", "deletionGracePeriodSeconds": 30}), "Running");
        assert_eq!(step("Pod", &deleting, None), "nothing");
        assert_eq!(step("Pod", &deleting, Some(60)), "nothing");
        assert_eq!(step("Pod", &deleting, Some(10)), "2030-01-01T00:00:00Z 10");
        assert_eq!(step("Pod", &deleting, Some(0)), "removed");
    }

    #[test]
    fn finalizers_hold_an_object() {
        let held = json!({"metadata": {"finalizers": ["a/b"]}});
        assert_eq!(step("Service", &held, None), "2030-01-01T00:00:00Z 0");
        assert_eq!(step("Service", &json!({"metadata": {}}), None), "removed");
        let pod = pod(json!({"finalizers": ["a/b"]}), "Running");
        assert_eq!(step("Pod", &pod, Some(0)), "2030-01-01T00:00:00Z 0");
    }

    #[test]
    fn a_namespace_waits_for_its_content() {
        let namespace =
            json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        assert_eq!(step("Namespace", &namespace, None), "2030-01-01T00:00:00Z null");
        let empty = json!({"metadata": {"name": "a"}, "spec": {}, "status": {"phase": "Active"}});
        assert_eq!(step("Namespace", &empty, None), "removed");
    }
}
