//! What `apply` changes: a three-way merge of what was applied last, what is there, and what the manifest says now.
//!
//! Pure. The result is a JSON merge patch (RFC 7386). Fields that others set (defaults, status) stay; fields that were applied
//! before and are gone from the manifest are removed. A list is one value, but what the server added to its items is
//! not a difference: a port whose `protocol` was filled in is still the port of the manifest.

use serde_json::{Map, Value};

/// The patch that makes `live` agree with `wanted`; an empty object when nothing has to change. `last` is what was applied the
/// time before, an empty object if nothing is known.
pub(crate) fn three_way(last: &Value, wanted: &Value, live: &Value) -> Value {
    let empty = Map::new();
    let object = |value: &Value| value.as_object().cloned();
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            Value::Object(objects(object(last).as_ref().unwrap_or(&empty), wanted, live))
        }
        _ => wanted.clone(),
    }
}

fn objects(last: &Map<String, Value>, wanted: &Map<String, Value>, live: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, value) in wanted {
        let before = last.get(key).unwrap_or(&Value::Null);
        match (value, live.get(key)) {
            // `null` in a manifest means "not set".
            (Value::Null, None | Some(Value::Null)) => {}
            (Value::Object(value), Some(Value::Object(live))) => {
                let empty = Map::new();
                let inner = objects(before.as_object().unwrap_or(&empty), value, live);
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (value, Some(live)) if agrees(before, value, live) => {}
            // An empty mapping or list that the server does not store is there all the same.
            (value, None) if is_empty(value) && is_empty(before) && !before.is_null() => {}
            (value, _) => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in last.keys() {
        if !wanted.contains_key(key) && live.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

/// Whether `live` is what `wanted` asks for: the same, or with fields added by others within the items of a list.
fn agrees(last: &Value, wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Array(wanted), Value::Array(live)) => {
            let before = last.as_array().map(Vec::as_slice).unwrap_or_default();
            wanted.len() == live.len()
                && wanted
                    .iter()
                    .zip(live)
                    .enumerate()
                    .all(|(index, (wanted, live))| agrees(before.get(index).unwrap_or(&Value::Null), wanted, live))
        }
        (Value::Object(wanted), Value::Object(live)) => {
            let empty = Map::new();
            objects(last.as_object().unwrap_or(&empty), wanted, live).is_empty()
        }
        _ => wanted == live,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::three_way;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "literals read better")]
    fn check(last: Value, wanted: Value, live: Value, expected: Value) {
        let patch = three_way(&last, &wanted, &live);
        assert_eq!(patch, expected);
        let patched = merged(live, &patch);
        assert_eq!(three_way(&wanted, &wanted, &patched), json!({}), "a second apply changes nothing");
    }

    /// RFC 7386
    fn merged(target: Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut target = if let Value::Object(target) = target { target } else { serde_json::Map::new() };
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                let old = target.remove(key).unwrap_or_default();
                target.insert(key.clone(), merged(old, value));
            }
        }
        Value::Object(target)
    }

    #[test]
    fn what_others_set_stays() {
        check(
            json!({"spec": {"ports": [{"port": 80}]}}),
            json!({"spec": {"ports": [{"port": 80}]}}),
            json!({"spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "protocol": "TCP"}]}, "status": {}}),
            json!({}),
        );
    }

    #[test]
    fn what_the_manifest_says_now_is_set() {
        check(
            json!({"spec": {"a": 1, "l": [1]}}),
            json!({"spec": {"a": 2, "l": [1, 2], "n": {"x": 1}}}),
            json!({"spec": {"a": 1, "l": [1], "other": true}}),
            json!({"spec": {"a": 2, "l": [1, 2], "n": {"x": 1}}}),
        );
    }

    #[test]
    fn what_someone_else_changed_is_set_back() {
        check(json!({"a": 1}), json!({"a": 1}), json!({"a": 3}), json!({"a": 1}));
    }

    #[test]
    fn what_is_gone_from_the_manifest_is_removed() {
        check(
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"a": "1", "b": "2", "c": "3"}}}),
            json!({"metadata": {"labels": {"b": null}}}),
        );
    }

    #[test]
    fn a_field_gone_from_an_item_of_a_list_replaces_the_list() {
        check(
            json!({"ports": [{"port": 80, "name": "http"}]}),
            json!({"ports": [{"port": 80}]}),
            json!({"ports": [{"port": 80, "name": "http", "protocol": "TCP"}]}),
            json!({"ports": [{"port": 80}]}),
        );
    }

    #[test]
    fn an_empty_selector_agrees_with_an_empty_selector() {
        check(
            json!({"spec": {"podSelector": {}}}),
            json!({"spec": {"podSelector": {}}}),
            json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}),
            json!({}),
        );
    }
}
