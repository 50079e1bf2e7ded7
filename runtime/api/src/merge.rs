//! JSON merge patch (RFC 7386) and Kubernetes' strategic merge patch, which merges some lists by a key of their items.

use serde_json::{Map, Value};

/// Applies a JSON merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    let target = as_object(target);
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// How a list is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListMerge {
    /// items with the same value of this field are the same item
    ByKey(&'static str),
    /// a set of plain values
    Set,
}

/// Lists that are merged, by path (`[]` for items); every other list is replaced. From the `patchStrategy` and `patchMergeKey`
/// of Kubernetes' types. The paths of all kinds are in one table, since none means different things in two of them.
const LISTS: &[(&str, ListMerge)] = &[
    ("metadata.ownerReferences", ListMerge::ByKey("uid")),
    ("metadata.finalizers", ListMerge::Set),
    ("spec.containers", ListMerge::ByKey("name")),
    ("spec.containers[].ports", ListMerge::ByKey("containerPort")),
    ("spec.containers[].env", ListMerge::ByKey("name")),
    ("spec.initContainers", ListMerge::ByKey("name")),
    ("spec.initContainers[].ports", ListMerge::ByKey("containerPort")),
    ("spec.initContainers[].env", ListMerge::ByKey("name")),
    ("spec.hostAliases", ListMerge::ByKey("ip")),
    ("spec.ports", ListMerge::ByKey("port")),
    ("spec.podCIDRs", ListMerge::Set),
    ("status.conditions", ListMerge::ByKey("type")),
    ("status.podIPs", ListMerge::ByKey("ip")),
    ("status.hostIPs", ListMerge::ByKey("ip")),
    ("status.addresses", ListMerge::ByKey("type")),
];

/// Applies a strategic merge patch.
///
/// # Errors
/// What in the patch is not supported, by name.
pub(crate) fn strategic_merge(target: &mut Value, patch: &Value) -> Result<(), String> {
    merge_value(target, patch, "")
}

fn merge_value(target: &mut Value, patch: &Value, field: &str) -> Result<(), String> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match patch.get("$patch").and_then(Value::as_str) {
        None | Some("merge") => {}
        Some("replace") => *target = Value::Object(Map::new()),
        Some("delete") => {
            *target = Value::Null;
            return Ok(());
        }
        Some(other) => return Err(format!("the directive `$patch: {other}` at `{field}` is not known")),
    }
    let target = as_object(target);
    for (key, value) in patch {
        if key == "$patch" || key.starts_with("$setElementOrder/") {
            continue;
        }
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (target.get_mut(list), value) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        if key.starts_with('$') {
            return Err(format!("the directive `{key}` at `{field}` is not supported; use a JSON merge patch"));
        }
        let field = if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
        if value.is_null() {
            target.shift_remove(key);
            continue;
        }
        let slot = target.entry(key.clone()).or_insert(Value::Null);
        match (value, LISTS.iter().find(|(list, _)| *list == field)) {
            (Value::Array(items), Some((_, ListMerge::ByKey(key)))) => merge_list(slot, items, key, &field)?,
            (Value::Array(items), Some((_, ListMerge::Set))) => {
                let list = as_array(slot);
                let new: Vec<_> = items.iter().filter(|item| !list.contains(item)).cloned().collect();
                list.extend(new);
            }
            _ => merge_value(slot, value, &field)?,
        }
    }
    Ok(())
}

fn as_array(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(items) => items,
        _ => unreachable!("made an array above"),
    }
}

fn merge_list(target: &mut Value, patch: &[Value], key: &str, field: &str) -> Result<(), String> {
    let directive = |item: &Value| item.get("$patch").and_then(Value::as_str).map(str::to_owned);
    let items = as_array(target);
    if patch.iter().any(|item| directive(item).as_deref() == Some("replace") && item.get(key).is_none()) {
        items.clear();
    }
    for item in patch {
        let Some(id) = item.get(key) else {
            match directive(item).as_deref() {
                Some("replace") => continue,
                _ => return Err(format!("an item of `{field}` lacks the field `{key}` by which the list is merged")),
            }
        };
        let position = items.iter().position(|existing| existing.get(key) == Some(id));
        match (position, directive(item).as_deref()) {
            (Some(position), Some("delete")) => drop(items.remove(position)),
            (None, Some("delete")) => {}
            (Some(position), _) => merge_value(&mut items[position], item, &format!("{field}[]"))?,
            (None, _) => {
                let mut new = Value::Null;
                merge_value(&mut new, item, &format!("{field}[]"))?;
                items.push(new);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{merge, strategic_merge};

    #[test]
    fn a_merge_patch_follows_rfc_7386() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut result = target.clone();
            merge(&mut result, &patch);
            assert_eq!(result, expected, "{target} + {patch}");
        }
    }

    #[test]
    fn a_strategic_patch_merges_lists_by_their_key() {
        let mut service =
            json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}], "selector": {"x": "y"}}});
        let patch = json!({"spec": {
            "$setElementOrder/ports": [{"port": 82}, {"port": 80}],
            "ports": [{"port": 80, "name": "c"}, {"$patch": "delete", "port": 81}, {"port": 82, "name": "d"}],
            "selector": {"z": "w"},
        }});
        strategic_merge(&mut service, &patch).expect("a patch");
        assert_eq!(
            service,
            json!({"spec": {"ports": [{"port": 80, "name": "c"}, {"port": 82, "name": "d"}], "selector": {"x": "y", "z": "w"}}})
        );
    }

    #[test]
    fn a_strategic_patch_replaces_other_lists_and_maps_on_demand() {
        let mut policy = json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {"ingress": [{"from": []}], "podSelector": {"matchLabels": {"a": "b"}}}});
        let patch = json!({
            "metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]},
            "spec": {"ingress": [{}], "podSelector": {"$patch": "replace", "matchLabels": {"c": "d"}}},
        });
        strategic_merge(&mut policy, &patch).expect("a patch");
        assert_eq!(
            policy,
            json!({"metadata": {"finalizers": ["b", "c"]}, "spec": {"ingress": [{}], "podSelector": {"matchLabels": {"c": "d"}}}})
        );
        assert!(strategic_merge(&mut policy, &json!({"spec": {"$retainKeys": ["a"]}})).is_err());
    }
}
