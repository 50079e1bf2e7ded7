//! One order for the fields of an object: by name, as kubectl prints them and as `apply` remembers them.

use serde_json::Value;

/// The same value with the fields of every mapping in order.
pub(crate) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut entries: Vec<_> = fields.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::sorted;

    #[test]
    fn fields_are_in_order_at_every_depth() {
        assert_eq!(sorted(&json!({"b": [{"d": 1, "c": 2}], "a": 0})).to_string(), r#"{"a":0,"b":[{"c":2,"d":1}]}"#);
    }
}
