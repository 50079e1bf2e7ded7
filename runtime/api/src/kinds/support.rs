//! Fields that are known to Kubernetes and supported here, as a table of paths. What is not in the table is refused by name:
//! an object never means something that nobody carries out.

use serde_json::Value;

use crate::field::FieldErrors;

/// What is supported of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Support {
    /// the field with everything below it
    Any,
    /// taken with any value, since no value of it could change anything here: why
    Idle(
        #[cfg_attr(not(test), expect(dead_code, reason = "a test makes the page of it that people read"))] &'static str,
    ),
    /// only these values; they ask for nothing that is not done anyway
    Only(&'static [&'static str]),
}

/// A table of supported fields: paths below the object, `[]` for the items of a list. A field on the way to one in the table
/// needs no entry of its own.
pub(super) type Table = &'static [(&'static str, Support)];

/// Complains about every field of an object's `spec` that `table` does not support. Empty lists and objects say nothing and pass.
/// `aliases` are fields of `spec` that are judged by the entries of another one.
pub(super) fn refuse_unsupported(table: Table, aliases: &[(&str, &str)], object: &Value, errors: &mut FieldErrors) {
    for (key, value) in object.get("spec").and_then(Value::as_object).into_iter().flatten() {
        let entry = aliases.iter().find(|(alias, _)| alias == key).map_or(key.as_str(), |(_, entry)| entry);
        walk(table, &format!("spec.{entry}"), &format!("spec.{key}"), value, errors);
    }
}

fn walk(table: Table, pattern: &str, field: &str, value: &Value, errors: &mut FieldErrors) {
    match table.iter().find(|(path, _)| *path == pattern) {
        Some((_, Support::Any | Support::Idle(_))) => return,
        Some((_, Support::Only(values))) => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !values.contains(&text.as_str()) {
                let detail = format!(
                    "the value {value} is not supported by minipod; use {} or remove the field",
                    values.join(" or ")
                );
                errors.forbidden(field, detail);
            }
            return;
        }
        None => {}
    }
    match value {
        Value::Object(map) if leads_on(table, pattern, '.') => {
            for (key, value) in map {
                walk(table, &format!("{pattern}.{key}"), &format!("{field}.{key}"), value, errors);
            }
        }
        Value::Array(items) if leads_on(table, pattern, '[') => {
            for (index, value) in items.iter().enumerate() {
                walk(table, &format!("{pattern}[]"), &format!("{field}[{index}]"), value, errors);
            }
        }
        Value::Null => {}
        Value::Object(map) if map.is_empty() => {}
        Value::Array(items) if items.is_empty() => {}
        _ => errors.forbidden(field, "the field is not supported by minipod; remove it"),
    }
}

fn leads_on(table: Table, pattern: &str, next: char) -> bool {
    table.iter().any(|(path, _)| path.strip_prefix(pattern).is_some_and(|rest| rest.starts_with(next)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Support, Table, refuse_unsupported};
    use crate::field::FieldErrors;

    const TABLE: Table =
        &[("spec.a[].b", Support::Any), ("spec.c", Support::Only(&["false"])), ("spec.d", Support::Any)];

    #[test]
    fn what_the_table_does_not_have_is_refused_by_name() {
        let check = |value: &serde_json::Value| {
            let mut errors = FieldErrors::default();
            refuse_unsupported(TABLE, &[("g", "a")], &json!({"spec": value}), &mut errors);
            errors.0.iter().map(|e| e.cause()["field"].as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        assert_eq!(check(&json!({"a": [{"b": {"x": 1}}], "c": false, "d": [1], "e": [], "f": {}})), []);
        assert_eq!(
            check(&json!({"a": [{"b": 1}, {"bb": 1}], "c": true, "dd": 0, "g": [{"b": 1, "x": 1}]})),
            [
                Some("spec.a[1].bb".to_owned()),
                Some("spec.c".to_owned()),
                Some("spec.dd".to_owned()),
                Some("spec.g[0].x".to_owned())
            ]
        );
    }
}
