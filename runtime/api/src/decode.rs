//! Strict decoding of request bodies: JSON or YAML, every field known, none given twice. Complaints carry the field's path as
//! Kubernetes writes it (`spec.containers[0].image`).

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_ignored::Path;
use serde_json::{Map, Number, Value};

use crate::status::ApiError;

/// The largest body that is read, as with Kubernetes' limit for a request.
pub(crate) const MAX_BODY: usize = 3 << 20;

/// A body with the fields that it gives more than once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Body {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
}

/// Reads a body by its `Content-Type`; JSON if there is none.
///
/// # Errors
/// 400 for a body that cannot be read, 415 for another format.
pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Body, ApiError> {
    let media_type = content_type.unwrap_or("application/json");
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        "" | "application/json" => parse_json(bytes),
        "application/yaml" => parse_yaml(bytes),
        "application/vnd.kubernetes.protobuf" => Err(ApiError::unsupported_media_type(
            "protobuf is not supported by this server; send application/json or application/yaml",
        )),
        other => Err(ApiError::unsupported_media_type(&format!(
            "{other} is not supported; send application/json or application/yaml"
        ))),
    }
}

/// Reads JSON.
///
/// # Errors
/// 400 with what is wrong and where.
pub(crate) fn parse_json(bytes: &[u8]) -> Result<Body, ApiError> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Tree { path: String::new(), duplicates: &mut duplicates }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| ApiError::bad_request(format!("the body is not valid JSON: {error}")))?;
    Ok(Body { value, duplicates })
}

fn parse_yaml(bytes: &[u8]) -> Result<Body, ApiError> {
    let value = serde_saphyr::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(match error.without_snippet() {
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("the body is not valid YAML: the key `{key}` is given twice: remove one")
            }
            error => format!("the body is not valid YAML: {error}"),
        })
    })?;
    // The YAML reader refuses duplicate keys itself.
    Ok(Body { value, duplicates: Vec::new() })
}

/// Why a value is not an object of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypeError {
    pub(crate) path: String,
    pub(crate) problem: String,
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

/// Decodes a value; fields that the type does not have are left out and reported by path.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value) -> Result<(T, Vec<String>), TypeError> {
    let mut unknown = Vec::new();
    let mut note = |path: Path<'_>| unknown.push(path_text(&path));
    let deserializer = serde_ignored::Deserializer::new(value, &mut note);
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(deserializer, &mut track);
    match T::deserialize(deserializer) {
        Ok(object) => Ok((object, unknown)),
        Err(error) => Err(TypeError { path: track.path().to_string(), problem: error.to_string() }),
    }
}

fn path_text(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", path_text(parent)),
        Path::Map { parent, key } => join(&path_text(parent), key),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => path_text(parent),
    }
}

fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// Builds a [`Value`] and notes keys that come twice; the last one wins, as in Kubernetes.
struct Tree<'a> {
    path: String,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a JSON number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            match seq.next_element_seed(Tree { path, duplicates: self.duplicates })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = join(&self.path, &key);
            let value = map.next_value_seed(Tree { path: path.clone(), duplicates: self.duplicates })?;
            if object.insert(key, value).is_some() {
                self.duplicates.push(path);
            }
        }
        if object.len() > 100_000 {
            return Err(A::Error::custom("too many fields"));
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::{decode, parse, parse_json};

    #[test]
    fn duplicate_fields_are_found_at_any_depth() {
        let body = parse_json(br#"{"a":1,"b":[{"c":1,"c":2}],"a":{"d":0}}"#).expect("JSON");
        assert_eq!(body.duplicates, ["b[0].c", "a"]);
        assert_eq!(body.value, json!({"a": {"d": 0}, "b": [{"c": 2}]}));
    }

    #[test]
    fn unknown_fields_are_reported_with_their_path() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "y"}, "nmae": 1},
            "spec": {"containers": [{"name": "c", "imag": "x", "securityContext": {"capabilities": {"ad": []}}}], "foo": {"bar": 1}},
        });
        let (_, unknown) = decode::<Pod>(&pod).expect("a pod");
        assert_eq!(
            unknown,
            [
                "metadata.nmae",
                "spec.containers[0].imag",
                "spec.containers[0].securityContext.capabilities.ad",
                "spec.foo"
            ]
        );
    }

    #[test]
    fn a_wrong_type_is_reported_with_its_path() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": "web"}]}]}});
        let error = decode::<Pod>(&pod).expect_err("no number");
        assert_eq!(error.path, "spec.containers[0].ports[0].containerPort");
    }

    #[test]
    fn yaml_is_read_and_its_duplicates_are_refused() {
        let yaml = b"kind: Pod\nspec:\n  restartPolicy: Never\n  hostNetwork: true\n";
        let body = parse(yaml, Some("application/yaml; charset=utf-8")).expect("YAML");
        assert_eq!(body.value, json!({"kind": "Pod", "spec": {"restartPolicy": "Never", "hostNetwork": true}}));
        assert!(parse(b"a: 1\na: 2\n", Some("application/yaml")).is_err());
    }

    #[test]
    fn other_formats_are_refused_by_name() {
        let refused = parse(b"", Some("application/vnd.kubernetes.protobuf")).expect_err("refused");
        assert_eq!(refused.code.as_u16(), 415);
        assert!(refused.to_string().contains("protobuf"));
        assert!(parse_json(b"{\"a\":1} x").is_err());
    }
}
