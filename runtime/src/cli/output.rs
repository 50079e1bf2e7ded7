//! How objects are printed: `-o yaml|json|name|wide|jsonpath=...`.
//!
//! Pure: objects in, text out.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::jsonpath::Template;
use super::kind::Kind;
use super::sorted::sorted;

/// A format of `-o`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    /// a wider table
    Wide,
    /// YAML
    Yaml,
    /// JSON
    Json,
    /// `pod/web`
    Name,
    /// a template
    JsonPath(Template),
}

impl Format {
    /// Reads the value of `-o`.
    ///
    /// # Errors
    /// What is no format, with those that are.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("jsonpath", template)) => Template::parse(template).map(Self::JsonPath).map_err(|e| e.to_string()),
            _ => match text {
                "wide" => Ok(Self::Wide),
                "yaml" => Ok(Self::Yaml),
                "json" => Ok(Self::Json),
                "name" => Ok(Self::Name),
                _ => Err(format!(
                    "unable to match a printer suitable for the output format \"{text}\", allowed formats are: json,name,wide,yaml,jsonpath=TEMPLATE"
                )),
            },
        }
    }
}

/// An object with its kind and API version, which a server leaves out in lists.
pub(crate) fn complete(kind: &Kind, object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".to_owned(), kind.api_version().into());
        fields.insert("kind".to_owned(), kind.kind.into());
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    }
    value
}

/// What `get -o` prints for some objects; a single object that was asked for by name is printed alone, others as a list.
/// `Wide` is a table, which is not for this function: it prints nothing.
pub(crate) fn render(format: &Format, objects: &[(&Kind, DynamicObject)], single: bool) -> String {
    let value = || {
        let mut items: Vec<Value> = objects.iter().map(|(kind, object)| complete(kind, object)).collect();
        if single && items.len() == 1 {
            items.remove(0)
        } else {
            json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
        }
    };
    match format {
        Format::Yaml => yaml(&value()),
        Format::Json => json_text(&value()),
        Format::JsonPath(template) => template.render(&value()),
        Format::Name => objects
            .iter()
            .map(|(kind, object)| kind.object_name(object.metadata.name.as_deref().unwrap_or_default()) + "\n")
            .collect(),
        Format::Wide => String::new(),
    }
}

/// JSON as kubectl prints it, fields in order.
pub(crate) fn json_text(value: &Value) -> String {
    let mut buffer = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut buffer, formatter);
    if serde::Serialize::serialize(&sorted(value), &mut serializer).is_err() {
        return String::new();
    }
    String::from_utf8(buffer).unwrap_or_default() + "\n"
}

/// YAML as kubectl prints it, fields in order.
pub(crate) fn yaml(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { compact_list_indent: true };
    let mut text = serde_saphyr::to_string_with_options(&sorted(value), options).unwrap_or_default();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::json;

    use super::super::kind::POD;
    use super::{Format, render};

    fn pod(name: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {"a": "1"}},
            "spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": "true"}]}], "text": "one\ntwo\n"},
        }))
        .expect("an object")
    }

    #[test]
    fn one_object_as_yaml() {
        let text = render(&Format::Yaml, &[(&POD, pod("a"))], true);
        let expected = "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    a: \"1\"\n  name: a\nspec:\n  containers:\n  - env:\n    - name: X\n      value: \"true\"\n    name: a\n  text: |\n    one\n    two\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn several_objects_are_a_list() {
        let objects = [(&POD, pod("a")), (&POD, pod("b"))];
        let text = render(&Format::Json, &objects, false);
        assert!(text.starts_with(
            "{\n    \"apiVersion\": \"v1\",\n    \"items\": [\n        {\n            \"apiVersion\": \"v1\",\n"
        ));
        assert!(
            text.ends_with(
                "    \"kind\": \"List\",\n    \"metadata\": {\n        \"resourceVersion\": \"\"\n    }\n}\n"
            )
        );
        assert_eq!(render(&Format::Name, &objects, false), "pod/a\npod/b\n");
        let names = Format::parse("jsonpath={.items[*].metadata.name}").expect("a template");
        assert_eq!(render(&names, &objects, false), "a b");
    }

    #[test]
    fn an_unknown_format_is_refused() {
        assert!(Format::parse("xml").expect_err("refused").contains("\"xml\", allowed formats are"));
    }
}
